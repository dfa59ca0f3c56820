"""The kill harness: train in a process of its own, kill it at a random moment, resume, until the training ends.

python tests/faults/kills.py --endings 2 --kills 2 --out results/reliability/kills.json
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
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from leantrain import ProgressLR, data, wrap
from leantrain.checkpoint.manager import Checkpoints
from leantrain.data import ImageData
from leantrain.methods import METHODS
from leantrain.train.config import TrainConfig
from leantrain.train.method_inputs import build
from leantrain.train.session import Session
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


CONFIG = TrainConfig(limit=150, width=4, epochs=4, batch_size=32, device="cpu", goal="balanced", settings=SETTINGS)
LOOPS = "plain", "ahead", "accumulating"
AHEAD, ACCUMULATED = 2, 3  # batches


def finish(config: TrainConfig, method: str, loop: str, folder: Path) -> None:
    """Train to the end, from the newest checkpoint where there is one, and leave weights and counts behind."""
    torch.set_num_threads(1)
    digits = data.load("digits", limit=config.limit)
    checkpoints = Checkpoints(folder / "checkpoints", 0.0)
    if loop == "plain":
        result = train(config, digits, method, seed=1, checkpoints=checkpoints)
        model, trained = result.model, result.trained
    else:
        model, trained = train_in(loop, config, digits, method, checkpoints)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors | {"leantrain.trained": trained}, folder / "end.part")
    os.replace(folder / "end.part", folder / "end.safetensors")


def train_in(
    loop: str, config: TrainConfig, digits: ImageData, method: str, checkpoints: Checkpoints
) -> tuple[torch.nn.Module, torch.Tensor]:
    """A loop as people write them, checkpointed after each of its steps: the model, and how often it saw a sample."""
    session = Session(config, digits, 1)
    model, optimizer = session.module, session.optimizer
    loader = wrap(
        session.batches,
        build(config, method, session),
        score=session.score,
        epochs=config.epochs,
        targets=session.targets,
        seed=1,
        goal=config.goal,
    )
    schedule = ProgressLR(optimizer, loader, config.learning_rate())
    parts = {"model": model, "optimizer": optimizer, "loader": loader}
    if found := checkpoints.open({"method": method, "loop": loop}, session.ranks):
        for name, part in parts.items():
            part.load_state_dict(found["session"][name])
    while loader.epoch < config.epochs:
        model.train()
        for group in grouped(loop, loader):
            for batch, indices in group:
                scores, labels = session.forward(session.model, batch)
                losses = F.cross_entropy(scores, labels, reduction="none")
                (loader.reduce(losses, scores, labels, indices=indices) / len(group)).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            checkpoints.after_step(lambda: {"session": {name: part.state_dict() for name, part in parts.items()}})
    return model, loader.ledger.trained


def grouped(loop: str, loader: Any) -> Iterator[list[tuple[Any, torch.Tensor]]]:
    """The batches of each step with their indices: one, fetched ``AHEAD`` of its turn, or ``ACCUMULATED`` at once."""
    held: deque[tuple[Any, torch.Tensor]] = deque()
    for batch in loader:
        held.append((loader.view(batch), loader.indices))
        if loop == "ahead" and len(held) > AHEAD:
            yield [held.popleft()]
        elif loop == "accumulating" and len(held) == ACCUMULATED:
            yield [held.popleft() for _ in range(ACCUMULATED)]
    while held:
        yield [held.popleft() for _ in range(len(held) if loop == "accumulating" else 1)]


def kill_and_resume(
    method: str, loop: str, endings: int, kills: int, workers: int, rng: random.Random, folder: Path
) -> dict[str, Any]:
    """``endings`` trainings, each killed ``kills`` times; what came of them, beside the straight run."""
    config = CONFIG.model_copy(update={"workers": workers})
    processes = multiprocessing.get_context("fork")
    straight, killed = folder / "straight", folder / "killed"
    straight.mkdir()
    start = time.monotonic()
    process = processes.Process(target=finish, args=(config, method, loop, straight))
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
            process = processes.Process(target=finish, args=(config, method, loop, killed))
            process.start()
            if done < kills:
                process.join(rng.uniform(0.1, 1.1) * length)
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
    return {"method": method, "loop": loop, "workers": workers, "endings": endings, **told}


def table(endings: int, kills: int, seed: int, methods: list[str], loops: list[str]) -> dict[str, Any]:
    """``endings`` endings of each of ``methods`` in each of ``loops``, after ``kills`` kills each.

    With 0 and 2 workers in turn.
    """
    from leantrain.compare.environment import describe

    Session(CONFIG, data.load("digits", limit=CONFIG.limit), 0)  # what it imports, each process has from the start
    rng, rows = random.Random(seed), []
    for number, (method, loop) in enumerate((method, loop) for method in methods for loop in loops):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(kill_and_resume(method, loop, endings, kills, 2 * (number % 2), rng, Path(folder)))
        print(json.dumps(rows[-1]), flush=True)
    names = ("endings", "kills", "starts", "differences")
    totals = {name: sum(row[name] for row in rows) for name in names}
    return {"seed": seed, **totals, "rows": rows, "environment": describe("cpu")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="kill trainings at random moments and resume them")
    parser.add_argument("--endings", type=int, default=2, help="of each method in each loop")
    parser.add_argument("--kills", type=int, default=2, help="before each ending")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=[], help="all by default")
    parser.add_argument("--loops", nargs="*", choices=LOOPS, default=[], help="all by default")
    options = parser.parse_args()
    found = table(options.endings, options.kills, options.seed, options.methods or ALL, options.loops or list(LOOPS))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(found["differences"] > 0)
