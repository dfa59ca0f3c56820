"""Time of an embedding pass, beside a bare loop that puts the same batches through the same layers.

python benchmarks/embedding.py --data parquet:DIR --out results/benchmarks/embedding.json
"""

import argparse
import tempfile
from pathlib import Path

import torch
from timing import alternate, finish, ratio, report
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import data
from leantrain.embed import embed, penultimate
from leantrain.tasks.image_classification import models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="digits", help="as for `leantrain compare --data`")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--limit", type=int, default=4000, help="use this many training samples")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="kept with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = data.load(options.data, limit=options.limit)
    model = models.build(
        options.model, classes=len(images.classes), channels=images.channels, image_size=images.image_size, seed=0
    ).eval()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (images.mean, images.std))
    loader = DataLoader(images.train, batch_size=options.batch_size)

    def forward(model: nn.Module, batch: list[Tensor]) -> Tensor:
        return model((batch[0] / 255 - mean) / std)

    head, bare = model.fc, nn.Identity()

    def loop() -> Tensor:
        model.fc = bare
        with torch.no_grad():
            features = torch.cat([forward(model, batch) for batch in loader])
        model.fc = head
        return features

    def ours() -> Tensor:
        return embed(loader, penultimate(model, forward=forward)).values

    with tempfile.TemporaryDirectory() as folder:

        def again() -> Tensor:
            return embed(loader, penultimate(model, forward=forward), cache=folder).values

        for values in (ours(), again(), again()):
            torch.testing.assert_close(values, loop())
        times = alternate({"embed": ours, "bare loop": loop, "embed, cached": again}, options.rounds)
    report(f"{len(images.targets):,} images, {options.model}", times, "bare loop")
    finish(
        options.out,
        {
            "data": images.name,
            "samples": len(images.targets),
            "model": options.model,
            "batch_size": options.batch_size,
            "note": options.note,
            "targets": {"slower_than_the_loop_at_most": 0.1},
            "slower_than_the_loop": ratio(times, "embed", "bare loop") - 1,
            "sides": times,
        },
    )


if __name__ == "__main__":
    main()
