"""A results folder as ``leantrain compare`` writes it, made up but plausible: saturating curves, seed noise."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# method -> (share kept, share of time spent selecting, p.p. lost or won against its control, pre-processing s)
METHODS: dict[str, tuple[float, float, float, float]] = {
    "rs2": (0.5, 0.00, 0.1, 0.0),
    "infobatch": (0.68, 0.01, 1.1, 0.0),
    "ids+adonis": (0.45, 0.12, -2.2, 14.0),
    "adonis": (0.62, 0.15, -3.4, 0.0),
    "stale-sb": (0.52, 0.14, -4.1, 0.0),
    "sb": (0.5, 0.26, -5.0, 0.0),
    "kakurenbo": (0.82, 0.03, 0.35, 0.0),
    "ids": (0.8, 0.0, -0.3, 14.0),
    "ssp": (0.8, 0.0, -0.6, 22.0),
    "rpc": (0.8, 0.0, -0.2, 0.0),
    "rpd": (0.81, 0.0, -0.5, 0.0),
    "forget": (0.7, 0.01, 0.5, 0.0),
    "iswr": (1.0, 0.02, -0.9, 0.0),
    "grad-match-pb": (0.33, 0.16, -52.0, 0.0),
}
FULL_SECONDS, TOP = 96.0, 0.725


def write_results(
    out: Path,
    *,
    methods: list[str] | None = None,
    seeds: int = 3,
    samples: int = 400,
    epochs: int = 30,
    classes: list[str] | None = None,
    labels: np.ndarray | None = None,
    noise: float = 0.003,
) -> dict[str, Any]:
    """Write results.json, metrics.parquet and counts.parquet into `out`; gives the content of results.json."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = list(METHODS)[:4] if methods is None else methods
    classes = CIFAR10 if classes is None else classes
    labels = rng.integers(0, len(classes), samples) if labels is None else labels
    hardness = rng.random(samples) * 0.7 + 0.3 * (labels == 3) + 0.15 * (labels == 5)
    runs: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    counts: list[pa.Table] = []
    for seed in range(seeds):
        for method in ("full", *names):
            kept, selecting, edge, preprocess = METHODS.get(method, (0.6, 0.1, -1.0, 0.0))
            if method == "full":
                kept, selecting, edge, preprocess = 1.0, 0.0, 0.0, 0.0
            seconds = FULL_SECONDS * kept / (1 - selecting) * (1 + 0.01 * rng.standard_normal())
            budget = min((seconds + preprocess) / FULL_SECONDS, 1.2)
            end = _reached(budget) + edge / 100 + noise * rng.standard_normal()
            run = _run(method, seed, None, epochs, end, seconds, selecting, preprocess, kept, samples)
            runs.append(run)
            metrics += _metrics(run, f"{method}-{seed}", kept, samples, rng)
            counts.append(_counts(run, f"{method}-{seed}", kept, hardness, labels, epochs, rng))
            if method != "full":
                end = _reached(budget) + noise * rng.standard_normal()
                run = _run(
                    "full", seed, method, round(epochs * budget, 2), end, FULL_SECONDS * budget, 0, 0, 1, samples
                )
                runs.append(run)
                metrics += _metrics(run, f"full-for-{method}-{seed}", 1.0, samples, rng)
    data = {
        "schema": 1,
        "environment": {
            "leantrain": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7", "numpy": "2.4.6",
            "cpu": "AMD EPYC 7R13", "device": "cpu", "threads": 2, "commit": "3f2a9c1", "classes": classes,
        },
        "config": {
            "data": "cifar10", "model": "resnet8", "methods": names, "epochs": epochs, "batch_size": 128,
            "seeds": list(range(seeds)), "set": {"adonis": {"stale_epochs": 3}, "infobatch": {"prune_ratio": 0.5}},
        },
        "runs": runs,
        "summary": [_summary(method, runs, seeds) for method in ("full", *names)],
    }  # fmt: skip
    (out / "results.json").write_text(json.dumps(data, indent=1))
    pq.write_table(pa.Table.from_pylist(metrics, schema=METRICS), out / "metrics.parquet")
    pq.write_table(pa.concat_tables(counts), out / "counts.parquet")
    return data


METRICS = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "method", "control_for")),
        *((name, pa.int64()) for name in ("seed", "epoch")),
        *((name, pa.float64()) for name in ("train_seconds", "accuracy", "train_loss", "lr")),
        *((name, pa.int64()) for name in ("planned", "trained", "scored", "loaded")),
        ("selection_seconds", pa.float64()),
    ]
)


def _reached(budget: float) -> float:
    """Accuracy of full training with `budget` of the time."""
    return TOP * (1 - 0.32 * math.exp(-3.4 * budget)) / (1 - 0.32 * math.exp(-3.4))


def _run(
    method: str, seed: int, control_for: str | None, epochs: float, end: float, seconds: float, selecting: float,
    preprocess: float, kept: float, samples: int,
) -> dict[str, Any]:  # fmt: skip
    trajectory = []
    for epoch in range(1, math.ceil(epochs) + 1):
        done = min(epoch / epochs, 1.0)
        reached = end * (1 - math.exp(-4.5 * done)) / (1 - math.exp(-4.5))
        wobble = 0.012 * math.sin(9 * epoch + seed + len(method)) * (1 - done)
        trajectory.append({"epoch": epoch, "train_seconds": seconds * done, "accuracy": max(reached + wobble, 0.05)})
    return {
        "method": method, "settings": {"keep_ratio": kept} if method != "full" else {}, "seed": seed,
        "control_for": control_for, "epochs": epochs, "accuracy": trajectory[-1]["accuracy"],
        "train_seconds": seconds, "preprocess_seconds": preprocess, "selection_seconds": seconds * selecting,
        "total_seconds": seconds + preprocess, "forward_samples": int(samples * epochs),
        "backward_samples": int(samples * epochs * kept), "loaded_samples": int(samples * epochs),
        "steps": int(samples * epochs * kept / 128), "trajectory": trajectory,
    }  # fmt: skip


def _metrics(run: dict[str, Any], name: str, kept: float, samples: int, rng: np.random.Generator) -> list[dict]:
    rows = []
    for point in run["trajectory"]:
        share = min(1.0, kept + (0 if kept in (0.8, 0.5, 1.0) else 0.03 * rng.standard_normal()))
        full = run["method"] == "infobatch" and point["epoch"] > 0.875 * run["epochs"]
        trained = samples if full else int(samples * share)
        if run["control_for"]:  # its last epoch may be a part of one
            trained = int(samples * min(1.0, run["epochs"] - point["epoch"] + 1))
        rows.append(
            {
                "run": name, "method": run["method"], "control_for": run["control_for"], "seed": run["seed"],
                "epoch": point["epoch"], "train_seconds": point["train_seconds"], "accuracy": point["accuracy"],
                "train_loss": 2.3 - 2 * point["accuracy"], "lr": 0.1, "planned": samples, "trained": trained,
                "scored": 0, "loaded": samples, "selection_seconds": 0.1,
            }
        )  # fmt: skip
    return rows


def _counts(
    run: dict[str, Any], name: str, kept: float, hardness: np.ndarray, labels: np.ndarray, epochs: int,
    rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    samples, method = len(hardness), run["method"]
    if method == "full":
        trained = np.full(samples, epochs)
    elif method in ("rpc", "rpd", "ids", "ssp"):
        order = np.argsort(rng.random(samples) if method.startswith("r") else -hardness)
        trained = np.zeros(samples, dtype=np.int64)
        trained[order[: int(kept * samples)]] = epochs
    elif method == "rs2":
        trained = np.full(samples, round(kept * epochs))
    else:
        chance = np.clip(kept + 0.9 * (hardness - hardness.mean()), 0.02, 1)
        trained = rng.binomial(epochs, chance)
    columns = {
        "run": [name] * samples, "method": [method] * samples, "seed": [run["seed"]] * samples,
        "index": np.arange(samples), "label": labels, "trained": trained,
    }  # fmt: skip
    return pa.table(columns)


def _summary(method: str, runs: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    def of(name: str, control: str | None, key: str) -> np.ndarray:
        return np.array([r[key] for r in runs if r["method"] == name and r["control_for"] == control])

    full, own = of("full", None, "accuracy"), of(method, None, "accuracy")
    seconds, full_seconds = of(method, None, "train_seconds").mean(), of("full", None, "train_seconds").mean()
    goal = full.mean() - 0.05
    times = [
        next((p["train_seconds"] for p in r["trajectory"] if p["accuracy"] >= goal), None)
        for r in runs
        if r["method"] == method and r["control_for"] is None
    ]
    row = {
        "method": method,
        "accuracy_drop_pp": 100 * float(full.mean() - own.mean()),
        "accuracy_drop_std": 100 * float((full - own).std(ddof=1)) if seeds > 1 else None,
        "boost": float(full_seconds / seconds),
        "boost_with_preprocessing": float(full_seconds / (seconds + of(method, None, "preprocess_seconds").mean())),
        "boost_to_5pp": None if None in times else float(full_seconds / np.mean([t for t in times if t])),
        "work_ratio": float(of(method, None, "backward_samples").mean() / of("full", None, "backward_samples").mean()),
        "boost_by_clock": 1.02 * float(full_seconds / seconds), "control_accuracy_pp_ahead": None,
        "control_accuracy_std": None, "noise_pp": None, "verdict": None,
    }  # fmt: skip
    if method != "full":
        ahead = 100 * (own - of("full", method, "accuracy"))
        spread = float(ahead.std(ddof=1)) if seeds > 1 else 0.0
        row["control_accuracy_pp_ahead"] = float(ahead.mean())
        row["control_accuracy_std"] = spread if seeds > 1 else None
        bound = row["noise_pp"] = 0.45 if seeds > 1 else None
        lead = float(ahead.mean())
        known = bound is not None and abs(lead) > bound
        row["verdict"] = "within noise" if not known else "beats control" if lead > 0 else "loses to control"
    return row
