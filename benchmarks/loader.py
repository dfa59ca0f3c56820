"""Time of an epoch through ``wrap`` that keeps everything, beside the DataLoader it wraps.

    python benchmarks/loader.py --data parquet:DIR --limit 8000 --out results/benchmarks/loader.json

Images lie in memory as uint8; the step is a small ResNet's, in a plain loop. Epochs of the sides take turns. As the
difference is far below the noise of a shared machine, what ``wrap`` can change is also timed on its own: reading a
batch and making the loss, within the epochs, where each step empties the caches, and in a loop without a model.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import alternate, finish, ratio, report
from torch import Tensor
from torch.utils.data import DataLoader

import leantrain
from leantrain import Full, data
from leantrain.data import ImageData
from leantrain.tasks.image_classification import models

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, help="as for `leantrain compare --data`")
    parser.add_argument("--limit", type=int, help="use this many training samples only")
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--note", default="", help="kept with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)

    images = data.load(options.data, limit=options.limit)
    batches = -(-len(images.targets) // options.batch)
    made = {name: Side(images, options, name) for name in ("bare", "wrapped", "wrapped, told the logits")}
    result: dict[str, Any] = {
        "data": images.name,
        "samples": len(images.targets),
        "model": options.model,
        "batch": options.batch,
        "seed": SEED,
        "note": options.note,
        "targets": {"more_time_at_most": 0.02},
        "epoch": alternate({name: side.train for name, side in made.items()}, options.rounds),
        "epoch_without_a_model": alternate({name: side.walk for name, side in made.items()}, 3 * options.rounds),
    }
    for name, side in made.items():
        same = all(map(torch.equal, side.model.state_dict().values(), made["bare"].model.state_dict().values()))
        assert same, f"{name}: the weights are not those of plain training"
    for what in ("epoch", "epoch_without_a_model"):
        report(f"{what.replace('_', ' ')}, {len(images.targets):,} samples", result[what], "bare")
    bare, empty = result["epoch"]["bare"], result["epoch_without_a_model"]
    result["within_the_epoch"] = {}
    for name, side in list(made.items())[1:]:
        added = empty[name]["cpu_median_s"] - empty["bare"]["cpu_median_s"]
        result["epoch"][name]["more_time"] = result["epoch"][name]["median_s"] / bare["median_s"] - 1
        result["epoch"][name]["more_cpu_time"] = ratio(result["epoch"], name, "bare") - 1
        empty[name] |= {"added_us_a_batch": 1e6 * added / batches, "share_of_the_epoch": added / bare["cpu_median_s"]}
        within = batches * (statistics.median(side.changed) - statistics.median(made["bare"].changed))
        result["within_the_epoch"][name] = {
            "added_us_a_batch": 1e6 * within / batches,
            "share_of_the_epoch": within / bare["cpu_median_s"],
        }
        for where, more in (("within the epochs", within), ("without a model", added)):
            print(
                f"{name}, {where}: {1e6 * more / batches:.0f} us a batch, {more / bare['cpu_median_s']:.2%} of an epoch"
            )
    finish(options.out, result)


class Side:
    """One way to read the batches and to make the loss, with a training of its own."""

    def __init__(self, images: ImageData, options: argparse.Namespace, name: str) -> None:
        self.images, self.name = images, name
        self.changed: list[float] = []  # seconds of the CPU for reading and loss, of each batch of ``train``
        self.model = models.build(options.model, classes=len(images.classes), channels=images.channels, seed=SEED)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (images.mean, images.std))
        self.loader: Any = DataLoader(
            images.train, options.batch, shuffle=True, generator=torch.Generator().manual_seed(SEED)
        )
        if name != "bare":
            self.loader = leantrain.wrap(self.loader, Full(), targets=images.targets)

    def train(self) -> None:
        """An epoch of training."""
        before = time.process_time()
        for x, y in self.loader:
            read = time.process_time()
            logits = self.model((x / 255 - self.mean) / self.std)
            forwarded = time.process_time()
            loss = self.loss(logits, y)
            self.changed.append(read - before + time.process_time() - forwarded)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            before = time.process_time()

    def walk(self) -> None:
        """An epoch without a model: class scores that are always the same stand in for what it gives."""
        logits = torch.randn(
            self.loader.batch_size, len(self.images.classes), generator=torch.Generator().manual_seed(0)
        )
        for _, y in self.loader:
            self.loss(logits[: len(y)], y)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.name == "bare":
            return F.cross_entropy(logits, y)
        losses = F.cross_entropy(logits, y, reduction="none")
        return self.loader.reduce(losses) if self.name == "wrapped" else self.loader.reduce(losses, logits, y)


if __name__ == "__main__":
    main()
