"""Time and inertia of SSP's clustering of 50,000 x 512 features into 100, beside scikit-learn's ten restarts.

    python benchmarks/ssp_clustering.py --data parquet:DIR --out results/benchmarks/ssp-clustering.json

Features of real images: their pixels through one random layer with ReLU, scaled to length 1 as SSP does. Inertia is
the sum of squared distances to the nearest centroid, the number that K-Means makes small. Other ways to cluster are
timed beside; faiss is left out where it is not installed.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from timing import alternate, finish, ratio, report
from torch import Tensor
from torch.utils.data import DataLoader

from leantrain import data
from leantrain.embed import embed
from leantrain.rng import generator
from leantrain.solvers.prototypes import kmeans, space

SEED, ITERATIONS = 0, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="digits", help="as for `leantrain compare --data`")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="kept with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = data.load(options.data)
    rows = space(random_layer(images, options.features), "cosine")
    sides: dict[str, Callable[[], Tensor]] = {
        "SSP": lambda: kmeans(rows, options.clusters, generator(SEED, 0, "benchmark")),
        "scikit-learn, n_init 10": lambda: fitted(KMeans(options.clusters, n_init=10, random_state=SEED), rows),
        "scikit-learn, n_init 1, random start": lambda: fitted(
            KMeans(options.clusters, init="random", n_init=1, random_state=SEED), rows
        ),
        "scikit-learn, batches of 4096": lambda: fitted(
            MiniBatchKMeans(options.clusters, n_init=1, batch_size=4096, random_state=SEED), rows
        ),
        "Lloyd by torch products": lambda: lloyd(rows, options.clusters, SEED),
    }
    try:
        import faiss  # noqa: F401  # pyright: ignore[reportMissingImports]

        sides["faiss"] = lambda: by_faiss(rows, options.clusters)
    except ModuleNotFoundError:
        print("faiss is not installed: left out.")
    found: dict[str, Tensor] = {}

    def kept(name: str, work: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: found.__setitem__(name, work())

    times = alternate(
        {name: kept(name, work) for name, work in sides.items()},
        options.rounds,
        few=dict.fromkeys((name for name in sides if name != "SSP"), 1),
        warm=False,
    )
    slow = "scikit-learn, n_init 10"
    for name, centroids in found.items():
        times[name] |= {"inertia": inertia(rows, centroids), "times_as_fast_as_ten_restarts": ratio(times, slow, name)}
        times[name]["inertia_more"] = times[name]["inertia"] / inertia(rows, found[slow]) - 1
        print(f"{name}: inertia {times[name]['inertia']:.2f}, {times[name]['inertia_more']:+.2%}")
    report(f"{len(rows):,} x {rows.shape[1]}, {options.clusters} clusters", times, "SSP")
    finish(
        options.out,
        {
            "data": images.name,
            "samples": len(rows),
            "features": rows.shape[1],
            "clusters": options.clusters,
            "seed": SEED,
            "note": options.note,
            "targets": {"times_as_fast": 5, "inertia_more_at_most": 0.01},
            "sides": times,
        },
    )


def random_layer(images: data.ImageData, features: int) -> Tensor:
    """(N, D) ReLU of random projections of the pixels."""
    size = images.channels * images.image_size**2
    layer = torch.randn(size, features, generator=torch.Generator().manual_seed(SEED)) / size**0.5
    loader = DataLoader(images.train, batch_size=500)
    return embed(loader, lambda batch: (batch[0].float().flatten(1) / 127.5 - 1).mm(layer).relu()).values


def fitted(estimator: KMeans | MiniBatchKMeans, rows: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(estimator.fit(rows.numpy()).cluster_centers_).float()


def lloyd(rows: Tensor, clusters: int, seed: int) -> Tensor:
    """Lloyd's steps until nothing changes; distances by one matrix product a step, a random start."""
    rng = torch.Generator().manual_seed(seed)
    centroids, before = rows[torch.randperm(len(rows), generator=rng)[:clusters]].clone(), None
    for _ in range(ITERATIONS):
        own = torch.cat([(centroids.square().sum(1) - 2 * part @ centroids.T).argmin(1) for part in rows.split(4096)])
        if before is not None and torch.equal(own, before):
            break
        sums = torch.zeros_like(centroids).index_add_(0, own, rows)
        counts = own.bincount(minlength=clusters).unsqueeze(1)
        centroids, before = torch.where(counts > 0, sums / counts.clamp_min(1), centroids), own
    return centroids


def by_faiss(rows: Tensor, clusters: int) -> Tensor:
    import faiss  # pyright: ignore[reportMissingImports]

    faiss.omp_set_num_threads(1)
    found = faiss.Kmeans(
        rows.shape[1], clusters, niter=100, seed=SEED, max_points_per_centroid=len(rows) // clusters + 1
    )
    found.train(rows.numpy())
    return torch.from_numpy(found.centroids)


def inertia(rows: Tensor, centroids: Tensor) -> float:
    away = [torch.cdist(part.double(), centroids.double()).amin(1) for part in rows.split(4096)]
    return float(torch.cat(away).square().sum())


if __name__ == "__main__":
    main()
