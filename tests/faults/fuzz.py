"""The fuzz harness: damaged files of every kind, each kind read in a process of its own, under watch.

python tests/faults/fuzz.py --executions 500000 --out results/reliability/fuzz.json

With atheris installed (pip install atheris) the damage is guided by the code it reaches; else by the errors it gets.
"""

import argparse
import collections
import contextlib
import importlib.metadata
import json
import math
import mmap
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS, PEAK = 10, 2**30  # of the processor, that an execution may take; bytes that a process may hold
STUCK = 300  # seconds of the clock: it waits for something that never comes
POOL = 300  # inputs that are kept because they led to something new
LONGEST = 2**17  # bytes of an input
COVERED = ("leantrain", "yaml", "PIL", "safetensors")  # packages whose branches guide atheris


class Session:
    """The executions of one target in this process.

    Executions are counted in a file as they begin, so that the last one is known when the process dies of it.
    """

    def __init__(self, name: str, place: Path, executions: int) -> None:
        import target
        import targets
        from guard import Guard

        folder = place / "box" / "in"
        folder.mkdir(parents=True)
        (place / "empty").mkdir()
        os.chdir(place / "empty")
        self.place, self.attempt, self.target = place, target.attempt, targets.make(folder)[name]
        self.guard, self.executions, self.number = Guard(folder), executions, 0
        self.errors: collections.Counter[str] = collections.Counter()
        self.refused = 0
        for seed in self.target.seeds:  # what readers import, they import now
            assert self.attempt(self.target, seed) == "", f"{name}: a seed is refused"
        self.before, self.start = self.guard.outside(), time.monotonic()
        with open(place / "last", "w+b") as file:
            file.write(bytes(LONGEST + 16))
            file.flush()
            self.last = mmap.mmap(file.fileno(), 0)

    def execute(self, content: bytes) -> str:
        """One execution: the kind of error it ended with, "" for none. Raises what no reader documents."""
        self.number += 1
        self.last[:16] = self.number.to_bytes(8, "little") + len(content).to_bytes(8, "little")
        self.last[16 : 16 + len(content)] = content
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # SIGPROF and SIGALRM end the process, in C code too
        signal.setitimer(signal.ITIMER_REAL, STUCK)
        try:
            with self.guard.watching():
                text = self.attempt(self.target, content)
            if self.number % 1000 == 0:
                assert self.guard.outside() == self.before, "a reader wrote outside of its folder"
        except BaseException:
            (self.place / "error").write_text(traceback.format_exc(), errors="replace")
            raise
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.refused += bool(text)
        kind = re.sub(r"'.*?'|\".*?\"|\([^)]*\)|[\d,.]+|/\S+|[^\x20-\x7e]+", "…", text)[:200]
        if text:
            self.errors[kind] += 1
        return kind

    def tell(self) -> dict[str, Any]:
        assert self.guard.outside() == self.before, "a reader wrote outside of its folder"
        return {
            "executions": self.number,
            "refused": self.refused,
            "kinds_of_errors": len(self.errors),
            "documented": [error.__name__ for error in self.target.errors],
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "seconds": round(time.monotonic() - self.start, 1),
        }


def by_errors(session: Session, seed: int, tell: Callable[[], None]) -> None:
    """Goes on from contents that led to a kind of error not seen before, or to none."""
    import mutate

    seeds = list(session.target.seeds)
    pool, rng = list(seeds), random.Random(seed)
    while session.number < session.executions:
        start = rng.choice(seeds if rng.random() < 0.4 else pool)
        content = mutate.mutate(start, session.target.edits, rng, seeds)[:LONGEST]
        kind = session.execute(content)
        if (not kind and rng.random() < 0.2) or session.errors[kind] == 1:
            pool.append(content)
            if len(pool) > POOL:
                del pool[rng.randrange(len(seeds), POOL)]
    tell()


def by_coverage(session: Session, seed: int, tell: Callable[[], None], place: Path) -> None:
    """As libFuzzer has it, with our changes beside its own."""
    import atheris
    import mutate

    corpus = place / "corpus"
    corpus.mkdir()
    for number, content in enumerate(session.target.seeds):
        (corpus / str(number)).write_bytes(content)

    def one(content: bytes) -> None:
        session.execute(content)
        if session.number == session.executions:
            tell()
            os._exit(0)

    def custom(content: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.2:
            return atheris.Mutate(content, most)
        seeds = session.target.seeds
        return mutate.mutate(rng.choice(seeds) if rng.random() < 0.3 else content, session.target.edits, rng, seeds)[
            :most
        ]

    options = [f"-runs={10 * session.executions}", f"-seed={seed + 1}", f"-max_len={LONGEST}", "-rss_limit_mb=0"]
    options += ["-timeout=0", "-len_control=0", "-verbosity=0", f"-artifact_prefix={place}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=custom)
    atheris.Fuzz()


def child(name: str, executions: int, seed: int, engine: str, place: Path) -> None:
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=list(COVERED)):
            import targets  # noqa: F401 - what it imports is instrumented
    import torch

    torch.set_num_threads(1)
    session = Session(name, place, executions)

    def tell() -> None:
        (place / "told.json").write_text(json.dumps(session.tell()))

    by_coverage(session, seed, tell, place) if engine == "atheris" else by_errors(session, seed, tell)


def run(name: str, executions: int, seed: int, engine: str) -> dict[str, Any]:
    """One target in a process of its own. A failure is told with what went wrong and the input that did it."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as made:
        place = Path(made)
        path = os.pathsep.join(
            [str(Path(__file__).parents[1]), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        )
        command = [sys.executable, __file__, "--child", name, "--executions", str(executions), "--seed", str(seed)]
        done = subprocess.run(
            [*command, "--engine", engine, "--place", made],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what libtiff and libFuzzer say of damaged files
            check=False,
        )
        row: dict[str, Any] = {"target": name, "engine": engine, "seed": seed}
        if done.returncode == 0 and (place / "told.json").exists():
            row |= json.loads((place / "told.json").read_text())
            return row | {"crashes": int(row["peak_bytes"] >= PEAK)}
        row |= {"crashes": 1, "code": done.returncode}
        if (place / "error").exists():
            row["error"] = (place / "error").read_text()[-3000:]
        with contextlib.suppress(OSError):
            last = (place / "last").read_bytes()
            number, length = int.from_bytes(last[:8], "little"), int.from_bytes(last[8:16], "little")
            row |= {"executions": number, "input": last[16 : 16 + length].hex()}
        return row


def names_and_weights() -> dict[str, float]:
    import targets

    with tempfile.TemporaryDirectory() as place:
        return {name: target.weight for name, target in targets.make(Path(place)).items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="read damaged files of every kind, under watch")
    parser.add_argument("--executions", type=int, default=20_000, help="of all targets together, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("atheris", "errors"), help="by default atheris, where it is installed")
    parser.add_argument("--targets", nargs="*", default=[], help="all by default")
    parser.add_argument("--out", type=Path, help="rows of other targets and engines that it holds already stay")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.executions, options.seed, options.engine, options.place)
        return 0
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the targets take from tests/
    tools = {}
    for tool in ("atheris", "pillow", "pyarrow", "pyyaml", "safetensors", "pydantic", "numpy", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            tools[tool] = importlib.metadata.version(tool)
    engine = options.engine or ("atheris" if "atheris" in tools else "errors")
    weights, rows = names_and_weights(), []
    share = options.executions / sum(weights[name] for name in options.targets or weights)
    for name in options.targets or weights:
        rows.append(run(name, math.ceil(share * weights[name]), options.seed, engine))
        print(json.dumps(rows[-1]), flush=True)
    crashes = sum(row["crashes"] for row in rows)
    if options.out:
        again = {(row["target"], row["engine"]) for row in rows}
        with contextlib.suppress(FileNotFoundError):
            earlier = json.loads(options.out.read_text())["rows"]
            rows = [row for row in earlier if (row["target"], row["engine"]) not in again] + rows
    sums = {key: sum(row.get(key, 0) for row in rows) for key in ("executions", "refused", "crashes")}
    found: dict[str, Any] = {**sums, "peak_bytes": max(row.get("peak_bytes", 0) for row in rows)}
    if options.out:
        from leantrain.compare.environment import describe

        options.out.parent.mkdir(parents=True, exist_ok=True)
        found |= {"tools": tools, "rows": rows, "environment": describe("cpu")}
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    else:
        print(json.dumps(found))
    return int(crashes > 0)


if __name__ == "__main__":
    sys.exit(main())
