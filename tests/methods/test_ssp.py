"""SSP against plain loops over distances to centroids (references/ssp.py); its K-Means against Lloyd's conditions."""

import math
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.ssp as reference
from leantrain import RPD
from leantrain.embed.features import Features
from leantrain.methods.ssp import SSP, centroid_distance, highest_of_classes
from leantrain.rng import generator
from leantrain.solvers.prototypes import kmeans, nearest, space
from toys import SIZE, Numbers, embedding, run_epoch, setup, wrapped

LABELS = torch.tensor(Numbers().targets)


def ssp(**settings: Any) -> SSP:
    return SSP(**({"features": embedding(), "clusters": 3} | settings))


def kept(selector: SSP, epoch: int = 0, pool: torch.Tensor | None = None, **facts: Any) -> list[int]:
    selector = setup(selector, **({"targets": LABELS} | facts))
    return selector.plan(epoch, torch.arange(selector.run.size) if pool is None else pool).indices.tolist()


@pytest.mark.parametrize("clusters", [1, 2, 7, 60])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("seed", [0, 1])
def test_kmeans_is_a_fixed_point_of_lloyds_steps(clusters: int, distance: str, seed: int) -> None:
    rows = space(torch.randn(60, 4, generator=torch.Generator().manual_seed(seed)) + 0.5, distance)
    centroids = kmeans(rows, clusters, generator(seed, 0, "test"))
    assert centroids.shape == (clusters, 4)
    assert reference.is_fixed_point(rows.tolist(), centroids.tolist(), tolerance=1e-5)
    assert not reference.is_fixed_point(rows.tolist(), (centroids + 0.01).tolist(), tolerance=1e-5)


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 30),
    clusters=st.integers(1, 5),
    distance=st.sampled_from(["cosine", "euclidean"]),
    keep_ratio=st.sampled_from(["0.1", "0.5", "0.55", "0.8", "1"]),
    hard=st.booleans(),
)
def test_subsets(seed: int, size: int, clusters: int, distance: Any, keep_ratio: str, hard: bool) -> None:
    features = torch.randn(size, 4, generator=torch.Generator().manual_seed(seed))
    clusters = min(clusters, size)
    rng = generator(7, 0, "ssp k-means")
    centroids = kmeans(space(features, distance), clusters, rng).tolist()
    rows = [reference.scaled(row) for row in features.tolist()] if distance == "cosine" else features.tolist()
    difficulty = reference.difficulty(rows, centroids, distance)
    away = centroid_distance(features, clusters, distance, generator(7, 0, "ssp k-means"))
    assert away.tolist() == pytest.approx(difficulty, rel=1e-4, abs=2e-6)
    selector = SSP(features=features, clusters=clusters, distance=distance, keep_ratio=float(keep_ratio), hard=hard)
    ours = kept(selector, size=size, targets=None, seed=7)
    expected = reference.subset(difficulty, [0] * size, keep_ratio, hard=hard)
    assert len(ours) == len(set(ours)) == len(expected)
    # Difficulties that are equal up to rounding (a cluster of two) may stand in either order.
    assert sorted(difficulty[i] for i in ours) == pytest.approx(sorted(difficulty[i] for i in expected), abs=2e-6)


@given(
    ranking=st.permutations(range(24)),
    labels=st.lists(st.integers(0, 3), min_size=24, max_size=24),
    keep_ratio=st.sampled_from(["0.1", "0.3", "0.5", "0.8", "1"]),
    class_balance=st.sampled_from(["0", "0.25", "0.5", "1"]),
)
def test_class_balance(ranking: list[int], labels: list[int], keep_ratio: str, class_balance: str) -> None:
    ours = highest_of_classes(
        torch.tensor(ranking), torch.tensor(labels), float(keep_ratio), float(class_balance)
    ).tolist()
    difficulty = [float(rank) for rank in ranking]
    assert ours == reference.subset(difficulty, labels, keep_ratio, class_balance=class_balance)


def test_class_balance_saves_a_class_that_lies_near_its_centroid() -> None:
    """Class 1 is 10 near-equal points; all of it would go."""
    features = torch.cat([torch.randn(30, 2) * 5, 40 + torch.randn(10, 2) * 0.001])
    labels = torch.tensor([0] * 30 + [1] * 10)
    settings = {"features": features, "clusters": 2, "distance": "euclidean", "keep_ratio": 0.6}
    assert not set(kept(ssp(**settings), targets=labels)) & set(range(30, 40))
    balanced = kept(ssp(**settings, class_balance=0.5), targets=labels)
    assert len(balanced) == 24
    assert len(set(balanced) & set(range(30, 40))) == 3  # half of 0.6 * 10


def test_clusters_by_default_are_the_classes() -> None:
    assert kept(ssp(clusters=None)) == kept(ssp(clusters=4))
    assert kept(ssp(clusters=None)) != kept(ssp(clusters=2))


def test_hard_and_easy_share_no_half() -> None:
    assert not set(kept(ssp(keep_ratio=0.5))) & set(kept(ssp(keep_ratio=0.5, hard=False)))


def test_cosine_knows_no_length_and_euclidean_does() -> None:
    longer = embedding() * torch.linspace(1, 9, SIZE).unsqueeze(1)
    assert kept(ssp(features=longer)) == kept(ssp())
    assert kept(ssp(features=longer, distance="euclidean")) != kept(ssp(distance="euclidean"))


def test_a_zero_vector_is_as_far_as_a_right_angle() -> None:
    features = torch.cat([torch.zeros(1, 3), torch.ones(9, 3) + 0.1 * torch.randn(9, 3)])
    away = centroid_distance(features, 2, "cosine", generator(0, 0, "test"))
    assert away[0] == 1
    assert (away[1:] < 0.1).all()
    assert centroid_distance(torch.zeros(5, 3), 2, "cosine", generator(0, 0, "test")).tolist() == [1] * 5


def test_many_rows_at_once_are_what_they_are_one_by_one() -> None:
    rows, centroids = torch.randn(4096 + 5, 2), torch.randn(3, 2)
    expected = reference.difficulty(rows[-10:].tolist(), centroids.tolist(), "euclidean")
    assert nearest(rows, centroids, "euclidean")[-10:].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_data_set_of_one() -> None:
    for distance in ("cosine", "euclidean"):
        assert kept(ssp(features=torch.ones(1, 3), clusters=1, distance=distance), size=1, targets=None) == [0]


def test_within_a_pool() -> None:
    pool = torch.arange(3, SIZE, 3)
    ours = kept(ssp(keep_ratio=0.55), pool=pool)
    away = centroid_distance(embedding(), 3, "cosine", generator(0, 0, "ssp k-means"))
    order = sorted(pool.tolist(), key=lambda i: -float(away[i]))
    assert ours == sorted(order[: math.ceil(0.55 * len(pool))])
    loader = wrapped(RPD(keep_ratio=0.5) | ssp(keep_ratio=0.5))
    assert sum(map(len, run_epoch(loader))) == 10


def test_same_seed_same_plan_in_every_epoch() -> None:
    features = torch.randn(200, 3)
    plans = [
        kept(ssp(features=features, clusters=20), epoch, size=200, targets=None, seed=seed)
        for seed, epoch in [(0, 0), (0, 9), (1, 0)]
    ]
    assert plans[0] == plans[1] != plans[2]


def test_equal_samples_are_drawn() -> None:
    features = torch.ones(SIZE, 2)
    plans = {tuple(kept(ssp(features=features, clusters=1, keep_ratio=0.5), seed=seed)) for seed in range(5)}
    assert len(plans) == 5


def test_start_epoch_trains_on_everything_then_asks_once() -> None:
    asked = []

    def features() -> Features:
        asked.append(loader.epoch)
        return Features(embedding())

    loader = wrapped(ssp(features=features, start_epoch=2))
    assert [sum(map(len, run_epoch(loader))) for _ in range(4)] == [SIZE, SIZE, 32, 32]
    assert asked == [2]


def test_the_state_holds_the_ranking() -> None:
    first = setup(ssp(features=embedding), targets=LABELS)
    plan = first.plan(0, torch.arange(SIZE))
    second = setup(ssp(features=lambda: pytest.fail("asked again")), targets=LABELS)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.plan(1, torch.arange(SIZE)).indices, plan.indices)
    fresh = setup(ssp(features=embedding), targets=LABELS)
    fresh.load_state_dict(setup(ssp(features=embedding), targets=LABELS).state_dict())  # nothing learnt yet
    assert torch.equal(fresh.plan(1, torch.arange(SIZE)).indices, plan.indices)


def test_the_global_random_state_is_left_alone() -> None:
    import numpy as np

    before, numpys = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    kept(ssp())
    assert torch.equal(before, torch.get_rng_state())
    assert numpys == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r'scikit-learn.*pip install "leantrain\[train\]"'):
        kept(ssp())
    with pytest.raises(ImportError, match=r"scikit-learn"):  # at the start, not when first needed
        setup(ssp(start_epoch=3, features=embedding))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"keep_ratio": 0}, r"keep_ratio=0 is outside \(0, 1\]"),
        ({"keep_ratio": 80}, r"keep_ratio=80 .* pass 0\.8"),
        ({"clusters": 0}, "clusters=0 must be at least 1"),
        ({"clusters": 2.5}, "clusters=2.5 must be a whole number"),
        ({"distance": "manhattan"}, "distance 'manhattan'.*cosine, euclidean"),
        ({"class_balance": 1.5}, r"class_balance=1.5 is outside \[0, 1\]"),
        ({"class_balance": math.nan}, "class_balance=nan is outside"),
        ({"start_epoch": -1}, "start_epoch=-1 must be at least 0"),
        ({"features": [1.0]}, r"features must be a \(N, D\) tensor, Features or a callable"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        ssp(**settings)


@pytest.mark.parametrize(
    ("settings", "facts", "text"),
    [
        ({"clusters": 41}, {}, "clusters=41 is more than the 40 samples. Use fewer"),
        ({"clusters": None}, {"targets": None}, r"clusters=None.*no labels.*SSP\(clusters=100\).*targets=labels"),
        ({"class_balance": 0.5}, {"targets": None}, "SSP with class_balance works class by class.*targets=labels"),
        ({"features": embedding(39)}, {}, r"shape \(39, 3\); expected \(40, D\)"),
        ({"features": torch.ones(SIZE)}, {}, r"shape \(40,\)"),
        ({"features": embedding().index_fill(0, torch.tensor([7]), torch.nan)}, {}, r"not finite, first \[7\]"),
        ({"features": Features(embedding(), "other")}, {"fingerprint": "this"}, "another data set"),
    ],
)
def test_what_only_the_run_can_tell(settings: dict[str, Any], facts: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        setup(ssp(**settings), **({"targets": LABELS} | facts))


def test_settings_leave_the_features_out() -> None:
    assert ssp().settings() == {
        "keep_ratio": 0.8,
        "clusters": 3,
        "distance": "cosine",
        "hard": True,
        "class_balance": 0.0,
        "start_epoch": 0,
    }


def test_what_it_ranks_by_is_told_and_saved() -> None:
    for hard in (True, False):
        selector = setup(ssp(features=embedding, hard=hard, keep_ratio=0.3), targets=LABELS)
        assert selector.distances() is None
        kept = set(selector.plan(0, torch.arange(SIZE)).indices.tolist())
        away = selector.distances().tolist()
        assert kept == set(sorted(range(SIZE), key=lambda i: away[i], reverse=hard)[: len(kept)])
        other = setup(ssp(features=embedding, hard=hard, keep_ratio=0.3), targets=LABELS)
        other.load_state_dict(selector.state_dict())
        assert other.distances().tolist() == away
