"""The kill harness: train in a process of its own, kill it at a random moment, resume, until the training ends.

python tests/faults/kills.py --endings 4 --kills 2 --out results/reliability/kills.json
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from leantrain import data
from leantrain.checkpoint.manager import Checkpoints
from leantrain.methods import METHODS
from leantrain.train.config import TrainConfig
from leantrain.train.trainer import train

SETTINGS = {
    "adonis": {"theta": "auto", "stale_epochs": 2},
    "forget": {"probe_epochs": 1},
    "el2n": {"probe_epochs": 1},
    "grad-match": {"select_every": 2},
    "grad-match-pb": {"select_every": 2},
    "rho-loss": {"holdout_epochs": 1, "keep_ratio": 0.5, "scoring_batches": 2},
}
ALL = [*(name for name in METHODS if name != "replay"), "ids+adonis", "infobatch+rs2"]


def finish(config: TrainConfig, method: str, folder: Path) -> None:
    """Train to the end, from the newest checkpoint where there is one, and leave weights and counts behind."""
    torch.set_num_threads(1)
    digits = data.load("digits", limit=config.limit)
    result = train(config, digits, method, seed=1, checkpoints=Checkpoints(folder / "checkpoints", 0.0))
    tensors = {name: value.contiguous() for name, value in result.model.state_dict().items()}
    save_file(tensors | {"leantrain.trained": result.trained}, folder / "end.part")
    os.replace(folder / "end.part", folder / "end.safetensors")


def kill_and_resume(
    method: str, endings: int, kills: int, workers: int, rng: random.Random, folder: Path
) -> dict[str, Any]:
    """``endings`` trainings of ``method``, each killed ``kills`` times; what came of them, beside the straight run."""
    shared = {"limit": 150, "width": 4, "epochs": 4, "batch_size": 32, "device": "cpu", "goal": "balanced"}
    config = TrainConfig(**shared, workers=workers, settings=SETTINGS)
    processes = multiprocessing.get_context("fork")
    straight, killed = folder / "straight", folder / "killed"
    straight.mkdir()
    start = time.monotonic()
    process = processes.Process(target=finish, args=(config, method, straight))
    process.start()
    process.join()
    length = time.monotonic() - start
    told = {"kills": 0, "before_the_first_checkpoint": 0, "starts": 0, "differences": 0}
    for _ in range(endings):
        killed.mkdir()
        done = starts = 0
        while not (killed / "end.safetensors").exists():
            starts += 1
            assert starts < 20 * (kills + 1), f"{method} does not come to its end"
            process = processes.Process(target=finish, args=(config, method, killed))
            process.start()
            if done < kills:
                process.join(rng.uniform(0.3, 1.2) * length)  # before that it only reads data
                if process.is_alive() and process.pid:
                    os.kill(process.pid, signal.SIGKILL)
                    done += 1
                    told["before_the_first_checkpoint"] += not (killed / "checkpoints").exists()
            process.join()
            if done < kills and (killed / "end.safetensors").exists():  # it came through: once more
                shutil.rmtree(killed)
                killed.mkdir()
        ours, theirs = (load_file(place / "end.safetensors") for place in (killed, straight))
        told["differences"] += any(not torch.equal(ours[name], theirs[name]) for name in theirs)
        told["kills"] += done
        told["starts"] += starts
        shutil.rmtree(killed)
    return {"method": method, "workers": workers, "endings": endings, **told}


def table(endings: int, kills: int, seed: int, methods: list[str]) -> dict[str, Any]:
    """``endings`` endings of each of ``methods`` after ``kills`` kills each, with 0 and 2 workers in turn."""
    import lightning_fabric  # noqa: F401 - once, and not in each process that is to be killed while it trains

    from leantrain.compare.environment import describe

    rng, rows = random.Random(seed), []
    for number, method in enumerate(methods):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(kill_and_resume(method, endings, kills, 2 * (number % 2), rng, Path(folder)))
        print(json.dumps(rows[-1]), flush=True)
    names = ("endings", "kills", "starts", "differences")
    totals = {name: sum(row[name] for row in rows) for name in names}
    return {"seed": seed, **totals, "rows": rows, "environment": describe("cpu")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="kill trainings at random moments and resume them")
    parser.add_argument("--endings", type=int, default=4, help="of each method")
    parser.add_argument("--kills", type=int, default=2, help="before each ending")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=[], help="all by default")
    options = parser.parse_args()
    found = table(options.endings, options.kills, options.seed, options.methods or ALL)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(found["differences"] > 0)
