"""Accuracy of training on two ranks beside one, with the same batch of all ranks together and the same seeds.

    python benchmarks/ranks_accuracy.py --data parquet:DIR --out results/reliability/ranks-accuracy.json

Each training is one call of ``leantrain train``, on several ranks started by ``torchrun``. BatchNorm sees only a rank's
part of the batch, as in any DDP training, so weights differ; accuracy must not, beyond what another seed changes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from leantrain.compare.environment import describe
from leantrain.utils.atomic_write import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="digits", help="as for `leantrain train --data`")
    parser.add_argument("--limit", type=int, default=4000, help="training samples")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--methods", default="full,infobatch,kakurenbo,sb")
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]

    console, rows = Console(), []
    for method in options.methods.split(","):
        runs = {ranks: [run(options, method, seed, ranks) for seed in seeds] for ranks in (1, options.ranks)}
        rows.append({"method": method, **compared(runs[1], runs[options.ranks])})
        console.print(json.dumps(rows[-1]))
    settings = {name: getattr(options, name) for name in ("data", "limit", "epochs", "model", "ranks")}
    settings["data"] = options.data.partition(":")[0]  # the folder means nothing elsewhere
    write_json(options.out, {**settings, "seeds": seeds, "rows": rows, "environment": describe("cpu")})
    console.print(table(rows, options.ranks))


def run(options: argparse.Namespace, method: str, seed: int, ranks: int) -> dict[str, Any]:
    """Accuracy in per cent and samples trained on, of one training."""
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    with tempfile.TemporaryDirectory() as folder:
        command = [*start, "-m", "leantrain", "train", "--out", folder, "--method", method, "--seed", str(seed)]
        command += ["--data", options.data, "--limit", str(options.limit), "--model", options.model]
        command += ["--epochs", str(options.epochs), "--device", "cpu", "--threads", "1"]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        told = json.loads((Path(folder) / "run.json").read_text())
    return {"accuracy": 100 * told["accuracy"], "trained": sum(row["trained"] for row in told["epochs_done"])}


def compared(one: list[dict[str, Any]], several: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and spreads, and whether the paired difference lies within two standard errors."""
    first, second = ([found["accuracy"] for found in runs] for runs in (one, several))
    differences = [b - a for a, b in zip(first, second, strict=True)]
    mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    return {
        "accuracy_on_one": first,
        "accuracy_on_several": second,
        "seed_noise": statistics.stdev(first),
        "mean_difference": mean,
        "standard_error": error,
        "within_noise": abs(mean) <= 2 * max(error, statistics.stdev(first) / len(first) ** 0.5),
        "trained_on_one": [found["trained"] for found in one],
        "trained_on_several": [found["trained"] for found in several],
    }


def table(rows: list[dict[str, Any]], ranks: int) -> Table:
    drawn = Table(title=f"Accuracy in %, one rank and {ranks}")
    for title in ("method", "1 rank", f"{ranks} ranks", "difference", "within noise"):
        drawn.add_column(title, justify="left" if title == "method" else "right")
    for row in rows:
        drawn.add_row(
            row["method"],
            f"{statistics.mean(row['accuracy_on_one']):.2f}",
            f"{statistics.mean(row['accuracy_on_several']):.2f}",
            f"{row['mean_difference']:+.2f} ± {2 * row['standard_error']:.2f}",
            "yes" if row["within_noise"] else "no",
        )
    return drawn


if __name__ == "__main__":
    main()
