"""Grad-Match and Grad-Match-PB against the formula with every gradient built (references/grad_match.py)."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import references.grad_match as reference
from leantrain.core.plan import Plan
from leantrain.embed import Gradients
from leantrain.methods.grad_match import GradMatch, GradMatchPB
from toys import CLASSES, SIZE, Numbers, flat, run_epoch, setup, wrapped

LABELS = torch.tensor(Numbers().targets)


def made(labels: Tensor = LABELS, width: int = 6, seed: int = 0) -> Gradients:
    rng = torch.Generator().manual_seed(seed)
    delta = torch.randn(len(labels), CLASSES, generator=rng).softmax(dim=1)
    delta[torch.arange(len(labels)), labels] -= 1
    return Gradients(delta, torch.randn(len(labels), width, generator=rng))


def planned(selector: Any, epoch: int = 0, pool: Tensor | None = None, **facts: Any) -> Plan:
    size = facts.get("size", SIZE)
    selector = setup(selector, **({"targets": LABELS} | facts))
    return selector.plan(epoch, torch.arange(size) if pool is None else pool)


def normalised(weights: dict[Any, float]) -> dict[Any, float]:
    mean = sum(weights.values()) / len(weights)
    return {index: weight / mean for index, weight in weights.items()}


def as_dict(plan: Plan) -> dict[int, float]:
    assert plan.weights is not None
    assert plan.weights.dtype == torch.float32
    assert len(plan.indices.unique()) == len(plan.indices)
    return dict(zip(plan.indices.tolist(), plan.weights.tolist(), strict=True))


@given(
    labels=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=40),
    ratio=st.sampled_from(["0.1", "0.3", "0.5", "1"]),
    per=st.sampled_from(["class-gradient", "class"]),
    lam=st.sampled_from([0.0, 0.5]),
    validated=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_each_class_is_matched(labels, ratio, per, lam, validated, seed):
    targets = torch.tensor(labels)
    ours, other = made(targets, seed=seed), made(torch.arange(13) % CLASSES, seed=seed + 1)
    selector = GradMatch(
        gradients=ours,
        keep_ratio=float(ratio),
        regularisation=lam,
        per=per,
        validation=(lambda: other) if validated else None,
    )
    plan = as_dict(planned(selector, size=len(labels), targets=targets))
    weights, wanted, residual = reference.per_class(
        ours.delta.tolist(),
        ours.features.tolist(),
        labels,
        ratio,
        lam,
        1e-4,
        one_score=per == "class-gradient",
        validation=(other.delta.tolist(), other.features.tolist(), (torch.arange(13) % CLASSES).tolist())
        if validated
        else None,
    )
    assert len(plan) == wanted
    filled = set(plan) - set(weights)
    assert plan == pytest.approx(normalised(weights | dict.fromkeys(filled, 1.0)), rel=1e-3)
    assert selector.report()["random_fills"] == len(filled) == wanted - len(weights)
    assert selector.report()["mean_relative_residual"] == pytest.approx(residual, rel=1e-3, abs=1e-5)


@given(
    size=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    ratio=st.sampled_from(["0.1", "0.3", "0.7", "1"]),
    lam=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 10_000),
)
def test_batches_are_matched(size, batch_size, ratio, lam, seed):
    ours = made(torch.arange(size) % CLASSES, width=12, seed=seed)
    everything = {"size": size, "targets": None, "batch_size": batch_size, "seed": seed}
    whole = planned(GradMatchPB(gradients=ours, keep_ratio=1, tolerance=0.5), **everything)
    batches = [sorted(batch.tolist()) for batch in whole.indices.split(whole.batch_sizes)]
    assert sorted(flat(batches)) == list(range(size))
    assert sorted(map(len, batches))[1:] == [batch_size] * (len(batches) - 1)

    selector = GradMatchPB(gradients=ours, keep_ratio=float(ratio), regularisation=lam)
    plan = planned(selector, **everything)
    ours_by_batch = {}
    for indices, weights in zip(
        plan.indices.split(plan.batch_sizes), plan.weights.split(plan.batch_sizes), strict=True
    ):
        assert len(weights.unique()) == 1
        ours_by_batch[batches.index(sorted(indices.tolist()))] = float(weights[0])
    expected, wanted, residual = reference.per_batch(
        ours.delta.tolist(), ours.features.tolist(), batches, ratio, lam, 1e-4
    )
    assert len(ours_by_batch) == wanted
    filled = set(ours_by_batch) - set(expected)
    assert selector.report()["random_fills"] == len(filled) == wanted - len(expected)
    assert selector.report()["mean_relative_residual"] == pytest.approx(residual, rel=1e-3, abs=1e-5)
    expected |= dict.fromkeys(filled, 1.0)
    mean = sum(weight * len(batches[b]) for b, weight in expected.items()) / len(plan.indices)
    assert ours_by_batch == pytest.approx({b: weight / mean for b, weight in expected.items()}, rel=1e-3)


@pytest.mark.parametrize("kind", [GradMatch, GradMatchPB])
def test_warm_start_and_when_it_selects(kind):
    """kappa 0.5 of 20 epochs at 0.4: four epochs on everything; then a subset, anew every third epoch."""
    asked = []

    def gradients() -> Gradients:
        asked.append(loader.epoch)
        return made(seed=loader.epoch)

    selector = kind(gradients=gradients, keep_ratio=0.4, select_every=3, warm=0.5, tolerance=0)
    loader = wrapped(selector, epochs=20, shuffle=True)
    epochs = [run_epoch(loader) for _ in range(11)]
    assert asked == [4, 7, 10]
    samples = [sorted(flat(batches)) for batches in epochs]
    assert all(each == list(range(SIZE)) for each in samples[:4])
    assert samples[4] == samples[5] == samples[6] != samples[7] == samples[8] == samples[9] != samples[10]
    sizes = LABELS.bincount().tolist() if kind is GradMatch else [SIZE]
    assert all(len(each) == sum(reference.count("0.4", size) for size in sizes) for each in samples[4:])


def test_batches_are_trained_as_they_are_in_a_new_order():
    loader = wrapped(GradMatchPB(gradients=made(), keep_ratio=0.5), epochs=9, shuffle=True)
    first, second = run_epoch(loader), run_epoch(loader)
    assert first != second
    assert sorted(first) == sorted(second)
    assert [len(batch) for batch in first] == [4] * 5
    whole = planned(GradMatchPB(gradients=made(), keep_ratio=1))
    assert all(batch in [b.tolist() for b in whole.indices.split(4)] for batch in first)


def test_no_class_vanishes_and_small_ones_do_not_stall():
    labels = torch.zeros(SIZE, dtype=torch.int64)
    labels[17] = 3
    plan = as_dict(planned(GradMatch(gradients=made(labels), keep_ratio=0.1), targets=labels))
    assert 17 in plan
    assert len(plan) == 5


@pytest.mark.parametrize("kind", [GradMatch, GradMatchPB])
def test_where_nothing_is_to_be_matched_the_choice_is_random(kind):
    zero = Gradients(torch.zeros(SIZE, CLASSES), torch.randn(SIZE, 5))
    plans = [planned(kind(gradients=zero, keep_ratio=0.5), seed=seed) for seed in (0, 0, 1)]
    assert all(plan.weights.tolist() == [1.0] * len(plan.indices) for plan in plans)
    assert torch.equal(plans[0].indices, plans[1].indices)
    assert not torch.equal(plans[0].indices, plans[2].indices)


def test_within_a_pool_that_changes():
    """A composed selector's pool: never outside it, and anew where it lost some of the subset."""
    asked = []

    def gradients() -> Gradients:
        asked.append(1)
        return made()

    for kind in (GradMatch, GradMatchPB):
        asked.clear()
        selector = setup(kind(gradients=gradients), targets=LABELS)
        first = selector.plan(0, torch.arange(0, SIZE, 2)).indices
        assert bool((first % 2 == 0).all())
        assert selector.plan(1, torch.arange(SIZE)).indices.sort().values.equal(first.sort().values)
        other = selector.plan(2, torch.arange(1, SIZE, 2)).indices
        assert bool((other % 2 == 1).all())
        assert len(asked) == 2


@pytest.mark.parametrize("kind", [GradMatch, GradMatchPB])
def test_a_copy_goes_on_as_the_original(kind):
    def selector() -> Any:
        return setup(kind(gradients=made(), keep_ratio=0.7, select_every=4, tolerance=0.3), targets=LABELS)

    straight, pool = selector(), torch.arange(SIZE)
    straight.plan(0, pool)
    state = copy.deepcopy(straight.state_dict())
    resumed = selector()
    resumed.load_state_dict(state)
    resumed.gradients = None  # not asked again before epoch 4
    for epoch in (1, 2, 3, 4):
        if epoch == 4:
            resumed.gradients = straight.gradients
        one, other = straight.plan(epoch, pool), resumed.plan(epoch, pool)
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.weights, other.weights)
        assert one.batch_sizes == other.batch_sizes
    assert straight.report() == resumed.report()


@pytest.mark.parametrize("kind", [GradMatch, GradMatchPB])
@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (Gradients(torch.zeros(39, CLASSES), torch.zeros(39, 2)), ValueError, "39 and 39 rows; .* expected 40"),
        (Gradients(torch.zeros(SIZE, CLASSES), torch.zeros(39, 2)), ValueError, "40 and 39 rows"),
        (
            Gradients(made().delta, made().features, "that"),
            ValueError,
            "another data set .*fingerprint that.* has this",
        ),
        (
            Gradients(made().delta, made().features.index_fill(0, torch.tensor([4]), torch.nan)),
            ValueError,
            "not finite",
        ),
        (torch.zeros(SIZE, 3), TypeError, "made Tensor; expected Gradients"),
    ],
    ids=["length", "lengths", "fingerprint", "nan", "type"],
)
def test_wrong_gradients(kind, source, error, text):
    with pytest.raises(error, match=text):
        planned(kind(gradients=lambda: source), fingerprint="this")
    if isinstance(source, Gradients):
        with pytest.raises(error, match=text):
            planned(kind(gradients=source), fingerprint="this")


def test_gradients_of_other_classes_or_layers():
    with pytest.raises(ValueError, match="Labels go from 0 to 4; the gradients are of 4 classes"):
        planned(GradMatch(gradients=made()), targets=LABELS.clone().index_fill_(0, torch.tensor([3]), 4))
    with pytest.raises(ValueError, match=r"validation gradients are of 4 classes and 5 features.* of 4 and 6"):
        planned(GradMatchPB(gradients=made(), validation=made(width=5)))


@pytest.mark.parametrize("kind", [GradMatch, GradMatchPB])
@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"gradients": [1]}, TypeError, "gradients must be Gradients or a callable"),
        ({"validation": 3}, TypeError, "validation must be Gradients or a callable"),
        ({"keep_ratio": 30}, ValueError, r"keep_ratio=30 is outside \(0, 1\]. .* pass 0.3"),
        ({"select_every": 0}, ValueError, "select_every=0 must be at least 1"),
        ({"regularisation": -1}, ValueError, "regularisation=-1 must be a finite number above 0"),
        ({"tolerance": 1}, ValueError, r"tolerance=1 is outside \[0, 1\)"),
        ({"warm": 2}, ValueError, r"warm=2 is outside \[0, 1\]"),
    ],
)
def test_settings_out_of_range(kind, settings, error, text):
    with pytest.raises(error, match=text):
        kind(**({"gradients": made()} | settings))


def test_what_the_run_must_tell():
    with pytest.raises(ValueError, match="Did you mean 'class-gradient'"):
        GradMatch(gradients=made(), per="class_gradient")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="GradMatch works class by class"):
        setup(GradMatch(gradients=made()), targets=None)
    with pytest.raises(ValueError, match="GradMatchPB with warm depends on the length of the training"):
        setup(GradMatchPB(gradients=made(), warm=0.5), epochs=None)


def test_settings_leave_out_what_is_given():
    assert GradMatch(gradients=made(), validation=made).settings() == {
        "keep_ratio": 0.3,
        "select_every": 20,
        "regularisation": 0.5,
        "tolerance": 1e-4,
        "warm": 0.0,
        "per": "class-gradient",
    }
    assert GradMatchPB(gradients=made()).settings()["regularisation"] == 0
