"""Half precision, loss scaling and gradient accumulation leave losses and weights right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from leantrain import ISWR, Full, InfoBatch, Loader, Plan, ProgressLR, Selector, scorer, wrap
from leantrain.schedule import linear_peak
from leantrain.scoring.scorer import per_sample_loss
from toys import losses_at, run_epoch, wrapped

SIZE, CLASSES = 40, 4
HALVES = [torch.float16, torch.bfloat16]


class Weighted(Selector):
    """Everything, sample i with weight ``weights[i]``."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return Plan(pool, self.weights[pool])


# Weights in half precision.

SELECTORS: dict[str, Callable[[], Selector]] = {
    "1 / (1 - r)": lambda: InfoBatch(prune_ratio=0.3),
    "1 / (N p)": lambda: ISWR(unbiased=True),
    "tiny": lambda: Weighted(1e-12 * torch.arange(1, SIZE + 1)),
    "huge": lambda: Weighted(1e6 * torch.arange(1, SIZE + 1)),
}


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
def test_weights_are_not_rounded_to_the_losses_type(
    selector: Callable[[], Selector], dtype: torch.dtype, autocast: bool
) -> None:
    loader = wrapped(selector(), batch_size=7)
    run_epoch(loader)
    of, unlike_one = dict(zip(loader.plan.indices.tolist(), loader.plan.weights.tolist(), strict=True)), 0
    for _ in loader:
        losses = losses_at(1, loader.indices).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            reduced = loader.reduce(losses)
        weights = torch.tensor([of[i] for i in loader.indices.tolist()], dtype=torch.float64)
        unlike_one += int((weights != 1).sum())
        expected = sum(w * x for w, x in zip(weights, losses.detach().double(), strict=True)) / len(losses)
        assert reduced.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert float(reduced.detach()) == pytest.approx(float(expected), rel=1e-6, abs=0)
        (reduced * 2.0**16).backward()  # as a GradScaler does: gradients of tiny weights are no numbers of float16
        gradient = (weights / len(losses) * 2.0**16).to(dtype)
        torch.testing.assert_close(losses.grad, gradient, rtol=1e-6, atol=0)
    assert unlike_one > 0


def test_the_mean_may_be_larger_than_half_precision_holds() -> None:
    loader = wrapped(Weighted(torch.full((SIZE,), 3.0)))
    next(iter(loader))
    assert float(loader.reduce(torch.full((4,), 60000.0, dtype=torch.float16))) == pytest.approx(3 * 60000, rel=1e-3)


def test_a_loss_that_overflowed_in_half_precision_is_named() -> None:
    loader = wrapped(Full())
    next(iter(loader))
    losses = (torch.tensor([1.0, 300.0, 2.0, 250.0], dtype=torch.float16) ** 2).requires_grad_()  # 90000 is too large
    with pytest.raises(FloatingPointError, match=r"training loss of sample \[1\]"):
        loader.reduce(losses)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.float16])
@pytest.mark.parametrize("composed", [lambda s: s, lambda s: s | Full(), lambda s: Full() | s])
def test_weights_of_any_type(dtype: torch.dtype, composed: Callable[[Selector], Selector]) -> None:
    loader = wrapped(composed(Weighted(torch.arange(SIZE).to(dtype))))
    next(iter(loader))
    assert float(loader.reduce(torch.ones(4))) == (0 + 1 + 2 + 3) / 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_label_smoothing_stays(smoothing: float, dtype: torch.dtype) -> None:
    loss, (x, y) = nn.CrossEntropyLoss(label_smoothing=smoothing), task()[:4]
    model = network().to(dtype).eval()
    loader = wrap(DataLoader(task(), batch_size=4), Full())
    next(iter(loader))
    logits = model(x.to(dtype))
    assert torch.equal(loader.reduce(per_sample_loss(loss)(logits, y)), loss(logits, y))
    torch.testing.assert_close(scorer(model, loss)((x.to(dtype), y)).losses.mean(), loss(logits, y).detach())


# Loss scaling.


def task(size: int = SIZE) -> TensorDataset:
    rng = torch.Generator().manual_seed(3)
    return TensorDataset(torch.randn(size, 6, generator=rng), torch.arange(size) % CLASSES)


def network(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    middle = nn.BatchNorm1d(8) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(6, 8), middle, nn.ReLU(), nn.Linear(8, CLASSES))


def trained(
    scale: float | None,
    selector: Selector,
    *,
    epochs: float = 2,
    nonfinite: Any = "raise",
    dataset: TensorDataset | None = None,
    norm: bool = True,
) -> tuple[nn.Module, Loader, Any]:
    """A training through a GradScaler that starts at ``scale``, or without one."""
    model = network(norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = wrap(DataLoader(dataset or task(), batch_size=8), selector, epochs=epochs, nonfinite=nonfinite)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    while loader.epoch < epochs:
        for x, y in loader:
            loss = loader.reduce(F.cross_entropy(model(x), y, reduction="none"))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    return model, loader, scaler


@pytest.mark.parametrize("selector", [Full, lambda: InfoBatch(prune_ratio=0.3), lambda: ISWR(unbiased=True)])
def test_a_grad_scaler_changes_nothing(selector: Callable[[], Selector]) -> None:
    plain, own, _ = trained(None, selector())
    scaled, other, scaler = trained(2.0**16, selector())
    for (name, a), b in zip(plain.state_dict().items(), scaled.state_dict().values(), strict=True):
        assert torch.equal(a, b), name  # powers of two scale exactly
    torch.testing.assert_close(own.ledger.loss, other.ledger.loss, rtol=0, atol=0, equal_nan=True)  # not scaled
    assert scaler.get_scale() == 2.0**16


def test_a_scaled_overflow_is_no_broken_loss() -> None:
    """The scaler takes back the first step; what is recorded of it is the loss, which was fine."""
    model, loader, scaler = trained(2.0**127, Weighted(torch.full((SIZE,), 16.0)), epochs=0.2)  # one batch
    assert scaler.get_scale() == 2.0**126
    assert loader.stats.skipped_steps == 0
    x, y = task()[:8]
    fresh = network()
    torch.testing.assert_close(loader.ledger.loss[:8], F.cross_entropy(fresh(x), y, reduction="none").detach())
    for (name, a), b in zip(model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_scaler_deals_with_broken_losses_itself() -> None:
    """With ``keep``. Under ``skip`` there is no gradient, and a GradScaler refuses to step without any."""
    broken = task()
    broken.tensors[0][3] = torch.inf
    model, loader, scaler = trained(2.0**10, Full(), nonfinite="keep", epochs=1, dataset=broken, norm=False)
    assert scaler.get_scale() == 2.0**9
    assert loader.ledger.loss.isfinite().tolist() == [i != 3 for i in range(SIZE)]
    assert all(value.isfinite().all() for value in model.parameters())


# Gradient accumulation.


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("selector", [Full, lambda: InfoBatch(prune_ratio=0.3), lambda: ISWR(unbiased=True)])
@pytest.mark.parametrize("batch_size", [8, 5, 7])
def test_accumulated_gradients(selector: Callable[[], Selector], batch_size: int) -> None:
    """Over an epoch: the gradient of the mean over batches of each one's mean of weight times loss.

    Where all have the same size that is the mean over all their samples; a smaller one counts as much as the others,
    as in plain PyTorch.
    """
    loader = wrap(DataLoader(task(), batch_size=batch_size, shuffle=True), selector(), epochs=9)
    run_epoch_with(network().eval(), loader)
    model, exact, given = network().eval(), network().eval().double(), []
    weights = torch.ones(SIZE) if loader.plan.weights is None else loader.plan.weights
    of = dict(zip(loader.plan.indices.tolist(), weights.tolist(), strict=True))
    steps = len(loader)
    for x, y in loader:
        (loader.reduce(F.cross_entropy(model(x), y, reduction="none")) / steps).backward()
        given.append(loader.indices.tolist())
    assert len(given) == steps
    x, y = task().tensors
    losses = F.cross_entropy(exact(x.double()), y, reduction="none")
    means = [sum(of[i] * losses[i] for i in batch) / len(batch) for batch in given]
    (sum(means) / steps).backward()
    torch.testing.assert_close(gradients(model).double(), gradients(exact), rtol=1e-5, atol=1e-7)
    if len({len(batch) for batch in given}) == 1:
        exact.zero_grad()
        rows = [i for batch in given for i in batch]
        losses = F.cross_entropy(exact(x.double()[rows]), y[rows], reduction="none")
        (sum(of[i] * loss for i, loss in zip(rows, losses, strict=True)) / len(rows)).backward()
        torch.testing.assert_close(gradients(model).double(), gradients(exact), rtol=1e-5, atol=1e-7)


def run_epoch_with(model: nn.Module, loader: Loader) -> None:
    for x, y in loader:
        loader.reduce(F.cross_entropy(model(x), y, reduction="none").detach())


@pytest.mark.parametrize("every", [2, 3])
def test_a_schedule_follows_the_samples_not_the_optimizer_steps(every: int) -> None:
    model, given = network(), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    loader = wrap(DataLoader(task(), batch_size=4, shuffle=True), Full(), epochs=3)
    schedule = ProgressLR(optimizer, loader, linear_peak(0.3))
    for _ in range(3):
        for number, (x, y) in enumerate(loader, start=1):
            (loader.reduce(F.cross_entropy(model(x), y, reduction="none")) / every).backward()
            given += len(x)
            if number % every == 0 or number == len(loader):
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                done = given / (3 * SIZE)
                peak = done / 0.3 if done < 0.3 else (1 - done) / 0.7
                assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * peak, abs=1e-12)
