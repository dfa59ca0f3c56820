"""Prototypes in feature space and the distances to them. M = samples, D = features of one, K = prototypes."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from leantrain.utils.optional_import import require_extra

CHUNK = 4096  # rows at a time, so that no (M, M) or (M, K) matrix stands in memory as a whole


def space(features: Tensor, distance: str) -> Tensor:
    """The rows among which prototypes are sought: for ``"cosine"`` scaled to length 1, where zero rows stay zero."""
    return F.normalize(features, dim=1) if distance == "cosine" else features


def distances(rows: Tensor, prototypes: Tensor, distance: str) -> Tensor:
    """(M, K) distances between ``rows`` (M, D) and ``prototypes`` (K, D); the cosine distance to a zero row is 1."""
    if distance == "cosine":
        return 1 - F.normalize(rows, dim=1) @ F.normalize(prototypes, dim=1).T
    # Not by matrix product, which loses the digits of small distances.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(rows, prototypes, p=2.0 if distance == "euclidean" else 1.0, compute_mode=mode)


def nearest(rows: Tensor, prototypes: Tensor, distance: str) -> Tensor:
    """(M,) distance of each row to the nearest prototype."""
    return torch.cat([distances(part, prototypes, distance).amin(dim=1) for part in rows.split(CHUNK)])


def mean(rows: Tensor) -> Tensor:
    """(1, D) mean of ``rows``."""
    return rows.mean(dim=0, keepdim=True)


def median(rows: Tensor) -> Tensor:
    """(1, D) median of each feature; of an even number the mean of the two in the middle."""
    ordered = rows.sort(dim=0).values
    return ((ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2).unsqueeze(0)


def medoid(rows: Tensor, distance: str) -> Tensor:
    """(1, D) row with the smallest sum of distances to all rows, the first of equal ones. Takes M * M distances."""
    sums = torch.cat([distances(part, rows, distance).sum(dim=1) for part in rows.split(CHUNK)])
    return rows[sums.argmin()].unsqueeze(0)


def need_kmeans() -> Any:
    """scikit-learn's K-Means; an ImportError that says how to install it. The first call takes a second to load it."""
    return require_extra("sklearn.cluster", "train", "K-Means of scikit-learn").KMeans


def kmeans(rows: Tensor, clusters: int, rng: torch.Generator) -> Tensor:
    """(K, D) centroids by K-Means: k-means++ once, then Lloyd's steps until no row changes its cluster, 300 at most.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    make = need_kmeans()
    from sklearn.exceptions import ConvergenceWarning

    seed = int(torch.randint(2**31 - 1, (1,), generator=rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: some coincide
        fitted = make(clusters, tol=0, random_state=seed).fit(rows.numpy())
    return torch.from_numpy(fitted.cluster_centers_).to(rows.dtype)
