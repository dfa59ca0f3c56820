"""IDS against Algorithm 2 with brute-force distances (references/ids.py)."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.ids as reference
from leantrain import IDS
from leantrain.embed.features import Features
from leantrain.methods.ids import prototype_distance
from toys import SIZE, Numbers, embedding, run_epoch, setup, wrapped

LABELS = torch.tensor(Numbers().targets)


def ids(**settings: Any) -> IDS:
    return IDS(**({"features": embedding(), "switch_epoch": 4} | settings))


def kept(selector: IDS, epoch: int, **facts: Any) -> list[int]:
    selector = setup(selector, **({"targets": LABELS} | facts))
    return selector.plan(epoch, torch.arange(selector.run.size)).indices.tolist()


@given(
    seed=st.integers(0, 10_000),
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    keep_ratio=st.sampled_from(["0.1", "0.5", "0.55", "0.8", "1"]),
    hard=st.booleans(),
)
def test_subsets(seed: int, labels: list[int], keep_ratio: str, hard: bool) -> None:
    features = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed))
    selector = IDS(features=features, keep_ratio=float(keep_ratio), switch_epoch=4)
    ours = kept(selector, 4 if hard else 3, size=len(labels), targets=torch.tensor(labels))
    assert ours == reference.subset(features.tolist(), labels, keep_ratio, hard=hard)


def test_distances() -> None:
    features = torch.randn(30, 6) * 10
    labels = torch.arange(30) % 7
    expected = reference.distances(features.tolist(), labels.tolist())
    assert prototype_distance(features, labels).tolist() == pytest.approx(expected, rel=1e-5)


def test_ties_go_by_position() -> None:
    """Whole numbers have exact distances, so equal ones are really equal."""
    features = torch.tensor([[1.0], [-1.0], [2.0], [-2.0], [1.0], [-1.0], [0.0], [0.0]])
    for hard in (False, True):
        selector = IDS(features=features, keep_ratio=0.4, switch_epoch=4)
        ours = kept(selector, 4 * hard, size=8, targets=torch.zeros(8, dtype=torch.int64))
        assert ours == reference.subset(features.tolist(), [0] * 8, "0.4", hard=hard)


def test_one_prototype_for_the_whole() -> None:
    expected = reference.subset(embedding().tolist(), [0] * SIZE, "0.8", hard=False)
    assert kept(ids(per_class=False), 0, targets=None) == expected


def test_alpha_one_is_everything() -> None:
    for epoch in (0, 9):
        assert kept(ids(keep_ratio=1), epoch) == list(range(SIZE))


def test_a_class_with_one_sample_keeps_it() -> None:
    labels = torch.zeros(SIZE, dtype=torch.int64)
    labels[17] = 3
    assert 17 in kept(ids(keep_ratio=0.1), 0, targets=labels)


@pytest.mark.parametrize(
    ("switch_epoch", "epochs", "first_hard"),
    [(4, 10, 4), (0, 10, 0), (0.9, 10, 9), (0.6, 200, 120), (0.25, 10, 3), (0.0, 10, 0), (1.0, 10, None)],
)
def test_switch(switch_epoch: Any, epochs: int, first_hard: int | None) -> None:
    selector = setup(ids(switch_epoch=switch_epoch), epochs=epochs, targets=LABELS)
    easy, hard = (reference.subset(embedding().tolist(), LABELS.tolist(), "0.8", hard=hard) for hard in (False, True))
    assert easy != hard
    for epoch in range(epochs):
        expected = hard if first_hard is not None and epoch >= first_hard else easy
        assert selector.plan(epoch, torch.arange(SIZE)).indices.tolist() == expected


def test_start_epoch_trains_on_everything_then_calls_the_features_once() -> None:
    asked = []

    def features() -> Features:
        asked.append(loader.epoch)
        return Features(embedding())

    loader = wrapped(ids(features=features, start_epoch=2, switch_epoch=4))
    sizes = [sum(map(len, run_epoch(loader))) for _ in range(6)]
    expected = [
        len(reference.subset(embedding().tolist(), LABELS.tolist(), "0.8", hard=hard)) for hard in (False, True)
    ]
    assert sizes == [SIZE, SIZE, expected[0], expected[0], expected[1], expected[1]]
    assert asked == [2]


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (torch.randn(SIZE - 1, 3), r"shape \(39, 3\); expected \(40, D\).*Make them again"),
        (torch.randn(SIZE), r"shape \(40,\); expected \(40, D\)"),
        (
            embedding().index_fill(0, torch.tensor([7, 9]), torch.nan),
            r"2 samples are not finite, first \[7, 9\]",
        ),
        (Features(embedding(), fingerprint="other"), "another data set.*embed it again"),
    ],
    ids=["length", "one dimension", "nan", "fingerprint"],
)
@pytest.mark.parametrize("late", [False, True], ids=["given", "made later"])
def test_wrong_features(features: Any, text: str, late: bool) -> None:
    with pytest.raises(ValueError, match=text):
        kept(ids(features=(lambda: features) if late else features), 0, fingerprint="this")


def test_finite_features_whose_sum_overflows_pass() -> None:
    huge = embedding().index_fill(0, torch.tensor([7]), 3e38)
    assert len(kept(ids(features=huge, keep_ratio=1), 0)) == SIZE


@pytest.mark.parametrize("fingerprint", ["", "this"])
def test_a_fitting_fingerprint_passes(fingerprint: str) -> None:
    assert kept(ids(features=Features(embedding(), fingerprint)), 0, fingerprint="this")


def test_the_fingerprint_is_the_data_sets() -> None:
    data = Numbers()
    data.fingerprint = "of the pictures as they are now"
    with pytest.raises(ValueError, match="another data set"):
        wrapped(ids(features=Features(embedding(), "of the pictures as they were")), data)


def test_needs_labels() -> None:
    with pytest.raises(ValueError, match=r"IDS works class by class.*targets=labels"):
        setup(ids(), targets=None)


def test_a_share_needs_the_length_of_the_training() -> None:
    with pytest.raises(ValueError, match=r"share of the training.*epochs=90"):
        setup(ids(switch_epoch=0.9), epochs=None, targets=LABELS)


def test_settings_leave_the_features_out() -> None:
    assert ids().settings() == {
        "keep_ratio": 0.8,
        "switch_epoch": 4,
        "start_epoch": 0,
        "per_class": True,
        "prototypes": 1,
        "prototype": "mean",
        "distance": "euclidean",
    }


@given(
    seed=st.integers(0, 10_000),
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=25),
    prototype=st.sampled_from(["mean", "median", "medoid"]),
    distance=st.sampled_from(["euclidean", "cosine", "manhattan"]),
)
def test_other_prototypes_and_distances(seed: int, labels: list[int], prototype: str, distance: str) -> None:
    features = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    ours = prototype_distance(features, torch.tensor(labels), prototype=prototype, distance=distance)
    expected = reference.distances_to(features.tolist(), labels, prototype, distance)
    assert ours.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "manhattan"])
def test_several_prototypes_are_the_clusters_of_each_class(distance: str) -> None:
    """Each class is three heaps far apart, so K-Means has one answer: the heaps' means."""
    heap = torch.arange(3).repeat(20)
    labels = torch.arange(60) % 2
    corners = torch.tensor([[20.0, 0, 0], [0, 20, 0], [0, 0, 20]])
    features = corners[heap] * (1 - 2 * labels.unsqueeze(1)) + torch.randn(60, 3)
    ours = prototype_distance(features, labels, prototypes=3, distance=distance)
    heaps = (heap + 3 * labels).tolist()
    expected = reference.distances_to(features.tolist(), heaps, "mean", distance)
    assert ours.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "manhattan"])
def test_a_small_class_has_as_many_prototypes_as_samples(distance: str) -> None:
    labels = torch.tensor([0] * 20 + [1] * 3 + [2])
    features = torch.randn(24, 5)
    away = prototype_distance(features, labels, prototypes=4, distance=distance)
    assert away[20:].tolist() == pytest.approx([0.0] * 4, abs=1e-5)
    assert (away[:20] > 1e-3).sum() >= 16  # 4 prototypes cannot stand on more than 4 of 20 samples


def test_equal_features_make_no_trouble() -> None:
    for settings in ({"prototypes": 3}, {"prototype": "median"}, {"prototype": "medoid"}, {"distance": "cosine"}):
        for features in (torch.zeros(6, 2), torch.ones(6, 2)):
            away = prototype_distance(features, torch.zeros(6, dtype=torch.int64), **settings)
            assert away.isfinite().all()
            assert (away == away[0]).all()


def test_clusters_follow_the_seed() -> None:
    features, labels = torch.randn(200, 2), torch.zeros(200, dtype=torch.int64)
    of = [prototype_distance(features, labels, prototypes=9, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(of[0], of[1])
    assert not torch.equal(of[0], of[2])


@pytest.mark.parametrize("switches", [(2, 5), (0, 3, 7), [1], (0.2, 0.5, 0.9), (0.0, 0.75)])
def test_several_switches(switches: Any) -> None:
    epochs = 10
    selector = setup(ids(switch_epoch=switches), epochs=epochs, targets=LABELS)
    easy, hard = (reference.subset(embedding().tolist(), LABELS.tolist(), "0.8", hard=hard) for hard in (False, True))
    at = [epochs * switch if isinstance(switch, float) else switch for switch in switches]
    for epoch in range(epochs):
        expected = hard if reference.is_hard(epoch, at) else easy
        assert selector.plan(epoch, torch.arange(SIZE)).indices.tolist() == expected


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"switch_epoch": (5, 2)}, r"switch_epoch=\(5, 2\) must be .* that ascend"),
        ({"switch_epoch": (5, 5)}, "that ascend"),
        ({"switch_epoch": (0.5, 7)}, "all of them epochs.*or all of them shares"),
        ({"switch_epoch": ()}, "must be one switch"),
        ({"switch_epoch": (0.5, 1.5)}, r"switch_epoch=1\.5 is outside \[0, 1\]"),
        ({"switch_epoch": "late"}, "switch_epoch='l' must be a whole number"),
        ({"prototypes": 0}, "prototypes=0 must be at least 1"),
        ({"prototypes": 2.0}, "prototypes=2.0 must be a whole number"),
        ({"prototype": "medain"}, "prototype 'medain'. Did you mean 'median'"),
        ({"distance": "l2"}, "distance 'l2'.*euclidean, cosine, manhattan"),
        ({"prototypes": 2, "prototype": "median"}, "prototypes=2 are the means.*Drop prototype='median'"),
    ],
)
def test_wrong_outlook_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        ids(**settings)


def test_several_shares_need_the_length_of_the_training() -> None:
    with pytest.raises(ValueError, match=r"share of the training.*epochs=90"):
        setup(ids(switch_epoch=(0.3, 0.6)), epochs=None, targets=LABELS)


def test_what_it_ranks_by_is_told_once_known() -> None:
    selector = setup(ids(features=embedding, start_epoch=1), targets=LABELS)
    selector.plan(0, torch.arange(SIZE))
    assert selector.distances() is None
    selector.plan(1, torch.arange(SIZE))
    expected = reference.distances(embedding().tolist(), LABELS.tolist())
    assert selector.distances().tolist() == pytest.approx(expected, rel=1e-5)
