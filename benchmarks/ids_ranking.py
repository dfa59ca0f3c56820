"""Time and memory of IDS's ranking of 1.28 million embedded samples, beside scikit-learn's K-Means with one cluster.

    python benchmarks/ids_ranking.py --out results/benchmarks/ids-ranking.json

The size is ImageNet's, the features are random: neither side's time depends on them. The paper finds each class's
prototype by scikit-learn's K-Means; here that runs on some of the classes, and what counts is the time of a class.
"""

import argparse
import gc
from pathlib import Path
from typing import Any

import torch
from grad_match_memory import MB, reset_peak, resident
from sklearn.cluster import KMeans
from timing import alternate, finish, ratio, report
from torch import Tensor

from leantrain import IDS, Ledger, Run
from leantrain.methods.ids import prototype_distance
from leantrain.solvers.ranking import by_class

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--samples", type=int, default=1_280_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--peer-classes", type=int, default=20, help="that scikit-learn runs on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="kept with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(SEED)
    labels = torch.randint(options.classes, (options.samples,), generator=rng)
    features = torch.empty(options.samples, options.features).normal_(generator=rng)
    some = by_class(labels)[: options.peer_classes]
    check_same_distances(features, labels, some[0])

    def ours() -> None:
        """All that IDS does with an embedding: check it, rank every class, choose."""
        selector = IDS(features=features)
        ledger = Ledger(options.samples)
        selector.setup(Run(options.samples, 128, 10, SEED, ledger, labels))
        selector.plan(0, torch.arange(options.samples))

    def theirs(n_init: int) -> None:
        for members in some:
            one_cluster(features[members], n_init)

    gc.collect()
    reset_peak()
    before = resident()
    ours()
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / MB
    sides = {"IDS, all classes": ours} | {
        f"scikit-learn, n_init {n_init}, {len(some)} classes": lambda n_init=n_init: theirs(n_init)
        for n_init in (10, 1)
    }
    times = alternate(sides, options.rounds)
    report(f"{options.samples:,} x {options.features}, {options.classes} classes", times, "IDS, all classes")
    per_class = options.classes / len(some)
    result: dict[str, Any] = {
        "samples": options.samples,
        "features": options.features,
        "classes": options.classes,
        "seed": SEED,
        "note": options.note,
        "targets": {"seconds_at_most": 5, "times_faster_than_scikit_learn": 50},
        "bytes_of_the_features": features.nbytes,
        "peak_growth_mb": peak - before,
        "times_faster_a_class": {
            name: ratio(times, name, "IDS, all classes") * per_class for name in times if "scikit-learn" in name
        },
        "sides": times,
    }
    print(f"{peak - before:.0f} MB on top of the features. Times faster a class: {result['times_faster_a_class']}")
    finish(options.out, result)


def one_cluster(rows: Tensor, n_init: int) -> Tensor:
    """(L,) distances to the centre that scikit-learn finds."""
    return torch.from_numpy(KMeans(1, n_init=n_init, random_state=SEED).fit_transform(rows.numpy())).flatten()


def check_same_distances(features: Tensor, labels: Tensor, members: Tensor) -> None:
    ours = prototype_distance(features[members], labels[members])
    torch.testing.assert_close(ours, one_cluster(features[members], 1), rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    main()
