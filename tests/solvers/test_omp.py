"""Orthogonal matching pursuit from factors against the same on dense vectors (references/omp.py), and against scipy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import references.omp as reference
from leantrain.solvers.gradient_factors import BatchGradients, SampleGradients
from leantrain.solvers.gradient_views import GramView, VectorView, view
from leantrain.solvers.omp import omp, without

TOLERANCE = 1e-4  # of weights: the factors are float32


def factors(n: int, classes: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    delta = torch.randn(n, classes, generator=rng).softmax(dim=1) if classes > 1 else torch.rand(n, 1, generator=rng)
    delta[torch.arange(n), torch.randint(classes, (n,), generator=rng)] -= 1
    return delta, torch.randn(n, width, generator=rng)


def dense(delta: Tensor, features: Tensor) -> list[list[float]]:
    return [reference.gradient(d, h) for d, h in zip(delta.tolist(), features.tolist(), strict=True)]


def means(vectors: list[list[float]], batches: list[list[int]]) -> list[list[float]]:
    return [[x / len(batch) for x in reference.total([vectors[i] for i in batch])] for batch in batches]


@given(
    n=st.integers(1, 14),
    classes=st.integers(1, 3),
    width=st.integers(1, 6),
    count=st.integers(0, 16),
    lam=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 10_000),
)
def test_it_chooses_and_weighs_as_the_textbook(n, classes, width, count, lam, seed):
    delta, features = factors(n, classes, width, seed)
    vectors = dense(delta, features)
    expected, residual = reference.omp(vectors, reference.total(vectors), count, lam)
    ours = omp(SampleGradients(delta, features), count, regularisation=lam)
    assert ours.indices.tolist() == list(expected)
    assert ours.weights.tolist() == pytest.approx(list(expected.values()), rel=TOLERANCE)
    assert ours.residual == pytest.approx(residual, rel=1e-3, abs=1e-6)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    classes=st.integers(2, 3),
    count=st.integers(1, 9),
    lam=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 10_000),
)
def test_batches_are_the_means_of_their_samples(sizes, classes, count, lam, seed):
    delta, features = factors(sum(sizes) + 2, classes, 5, seed)  # two samples belong to no batch
    order = torch.randperm(len(delta), generator=torch.Generator().manual_seed(seed))
    batches = order[: sum(sizes)].split(sizes)
    vectors = means(dense(delta, features), [batch.tolist() for batch in batches])
    expected, residual = reference.omp(vectors, reference.total(vectors), count, lam)
    ours = omp(BatchGradients(SampleGradients(delta, features), batches), count, regularisation=lam)
    assert ours.indices.tolist() == list(expected)
    assert ours.weights.tolist() == pytest.approx(list(expected.values()), rel=TOLERANCE)
    assert ours.residual == pytest.approx(residual, rel=1e-3, abs=1e-6)


@given(n=st.integers(1, 7), lam=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 10_000))
def test_without_a_limit_no_other_weights_are_better(n, lam, seed):
    delta, features = factors(n, 2, 8, seed)
    target = torch.randn(2, 9, generator=torch.Generator().manual_seed(seed))
    best, value = reference.best_weights(dense(delta, features), target.flatten().tolist(), lam)
    ours = omp(SampleGradients(delta, features), n, target=target, regularisation=lam, tolerance=0)
    assert torch.zeros(n, dtype=torch.float64).index_copy_(0, ours.indices, ours.weights).tolist() == pytest.approx(
        best, abs=TOLERANCE
    )
    objective = (ours.residual * float(target.norm())) ** 2 + lam * float(ours.weights.square().sum())
    assert objective == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("width", "kind"), [(40, VectorView), (100, GramView)])
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_without_a_limit_it_agrees_with_scipy(lam, width, kind):
    """Large enough that many atoms leave again, for which the basis is updated."""
    nnls = pytest.importorskip("scipy.optimize").nnls
    delta, features = (factor.double() for factor in factors(120, 3, width, seed=1))
    target = torch.randn(3, width + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 5
    matrix = torch.tensor(dense(delta, features), dtype=torch.float64).T
    matrix = torch.cat([matrix, lam**0.5 * torch.eye(120, dtype=torch.float64)])
    expected, _ = nnls(matrix.numpy(), torch.cat([target.flatten(), torch.zeros(120, dtype=torch.float64)]).numpy())
    assert isinstance(view(SampleGradients(delta, features), target, 120), kind)
    ours = omp(SampleGradients(delta, features), 120, target=target, regularisation=lam, tolerance=0)
    found = torch.zeros(120, dtype=torch.float64).index_copy_(0, ours.indices, ours.weights)
    assert 20 < len(ours.indices) < 100
    assert torch.allclose(found, torch.from_numpy(expected), atol=1e-8)


def test_more_rows_than_a_block(monkeypatch):
    delta, features = factors(50, 3, 4, seed=3)
    batches = torch.randperm(50, generator=torch.Generator().manual_seed(3)).split(4)
    whole = [
        omp(atoms, 9)
        for atoms in (SampleGradients(delta, features), BatchGradients(SampleGradients(delta, features), batches))
    ]
    for module, name, value in (
        ("gradient_factors", "BLOCK", 7),
        ("gradient_factors", "NUMBERS", 1),
        ("omp", "BLOCK", 2),
        ("omp", "WIDTH", 3),
    ):
        monkeypatch.setattr(f"leantrain.solvers.{module}.{name}", value)
    parts = [
        omp(atoms, 9)
        for atoms in (SampleGradients(delta, features), BatchGradients(SampleGradients(delta, features), batches))
    ]
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.allclose(one.weights, other.weights)


def test_more_batches_than_a_square_of_products_is_held_for(monkeypatch):
    delta, features = factors(50, 3, 4, seed=3)
    batches = torch.randperm(50, generator=torch.Generator().manual_seed(3)).split(4)
    held = omp(BatchGradients(SampleGradients(delta, features), batches), 9)
    monkeypatch.setattr("leantrain.solvers.gradient_factors.SQUARE", 12)
    monkeypatch.setattr(BatchGradients, "_gram", None)
    made = omp(BatchGradients(SampleGradients(delta, features), batches), 9)
    assert torch.equal(held.indices, made.indices)
    assert torch.allclose(held.weights, made.weights)


def test_it_stops_when_the_residual_is_small_enough():
    delta, features = factors(30, 1, 40, seed=4)
    residuals = [omp(SampleGradients(delta, features), count).residual for count in (5, 10)]
    stopped = omp(SampleGradients(delta, features), 30, tolerance=(residuals[0] + residuals[1]) / 2)
    assert 5 < len(stopped.indices) <= 10
    assert residuals[1] <= stopped.residual <= sum(residuals) / 2


def test_it_never_takes_what_would_need_a_negative_weight():
    """All point away from the target: the largest in absolute value must not be taken."""
    delta, features = torch.tensor([[-1.0], [-3.0]]), torch.tensor([[1.0], [2.0]])
    solution = omp(SampleGradients(delta, features), 2, target=torch.tensor([[1.0, 1.0]]))
    assert (len(solution.indices), len(solution.weights), solution.residual) == (0, 0, 1.0)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_no_gradient_at_all(count):
    solution = omp(SampleGradients(torch.zeros(4, 3), torch.randn(4, 2)), count)
    assert (len(solution.indices), solution.residual) == (0, 0.0)
    target = omp(SampleGradients(torch.zeros(4, 3), torch.randn(4, 2)), count, target=torch.ones(3, 3))
    assert (len(target.indices), target.residual) == (0, 1.0)


def test_one_sample_weighs_one():
    delta, features = factors(1, 3, 4, seed=5)
    solution = omp(SampleGradients(delta, features), 3)
    assert solution.indices.tolist() == [0]
    assert solution.weights.tolist() == pytest.approx([1.0])
    assert solution.residual < 1e-6


@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_copies_of_a_sample(lam):
    """The Gram matrix of everything is singular; one of each suffices, and they carry the weight of all copies."""
    delta, features = factors(5, 3, 4, seed=6)
    solution = omp(SampleGradients(delta.repeat(4, 1), features.repeat(4, 1)), 20, regularisation=lam, tolerance=1e-6)
    kinds = torch.zeros(5, dtype=torch.float64).index_add_(0, solution.indices % 5, solution.weights)
    vectors = dense(delta, features)
    target = [4 * x for x in reference.total(vectors)]
    if lam == 0:
        assert sorted((solution.indices % 5).tolist()) == list(range(5))
        assert kinds.tolist() == pytest.approx([4.0] * 5, rel=TOLERANCE)
    else:  # sharing the weight among four copies divides the penalty by four
        expected, _ = reference.best_weights(vectors, target, lam / 4)
        assert kinds.tolist() == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("seed", range(20))
def test_copies_do_not_pass_for_progress_where_the_target_is_out_of_reach(seed):
    """A copy of what is chosen agrees with the rest by rounding only."""
    delta, features = factors(5, 3, 4, seed)
    target = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
    one = omp(SampleGradients(delta, features), 5, target=target, tolerance=0)
    copies = omp(SampleGradients(delta.repeat(9, 1), features.repeat(9, 1)), 45, target=target, tolerance=0)
    assert sorted((copies.indices % 5).tolist()) == sorted(one.indices.tolist())
    assert copies.residual == pytest.approx(one.residual)


def test_more_gradients_than_dimensions():
    """Exactly fitted by two of many: nothing useless is piled on top."""
    delta, features = factors(60, 1, 1, seed=7)
    solution = omp(SampleGradients(delta, features), 60, tolerance=0)
    assert 1 <= len(solution.indices) <= 2
    assert solution.residual < 1e-9


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("which", ["delta", "features"])
def test_what_is_not_finite_is_named(which, value):
    delta, features = factors(8, 2, 3, seed=8)
    {"delta": delta, "features": features}[which][torch.tensor([2, 6]), 1] = value
    with pytest.raises(ValueError, match=rf"{which} of 2 samples are not finite, first \[2, 6\]"):
        SampleGradients(delta, features)


def test_a_target_that_is_not_finite():
    with pytest.raises(ValueError, match="gradient to be matched is not finite"):
        omp(SampleGradients(*factors(4, 2, 3, seed=9)), 2, target=torch.full((2, 4), torch.nan))


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shapes \(4, 2\) and \(5, 3\); expected \(n, c\) and \(n, d\)"):
        SampleGradients(torch.zeros(4, 2), torch.zeros(5, 3))


@given(size=st.integers(1, 12), position=st.integers(0, 11), seed=st.integers(0, 1000))
def test_the_factor_without_a_row_is_that_of_the_smaller_matrix(size, position, seed):
    rng = torch.Generator().manual_seed(seed)
    position %= size
    vectors = torch.randn(size, 14, dtype=torch.float64, generator=rng)
    kept = torch.arange(size) != position
    whole, part = (torch.linalg.cholesky(rows @ rows.T) for rows in (vectors, vectors[kept]))
    inverse = whole.inverse()
    p = -inverse[position + 1 :, position] / inverse[position, position]
    changed = torch.cat([inverse[:position], without(inverse[position:], p)])
    assert torch.allclose(changed[:, kept], part.inverse(), atol=1e-10)


@pytest.mark.parametrize("seed", range(12))
def test_gradients_that_cancel(seed):
    """The square of their sum, made from products, comes out below zero in some of these."""
    delta, features = factors(6, 3, 60, seed)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    atoms = SampleGradients(torch.cat([delta, -delta])[order], features.repeat(2, 1)[order])
    assert isinstance(view(atoms, None, 1), GramView)
    assert omp(atoms, 1).residual <= 1
