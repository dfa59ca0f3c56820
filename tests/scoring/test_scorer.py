"""``scorer``: one loss a sample, and no trace of the pass on the model or the random streams."""

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import Adonis, Scores, scorer, wrap

B, C = 6, 3


class Net(nn.Module):
    """BatchNorm, dropout, and a part that the user keeps in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.body = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, C))
        self.train()
        self.frozen.eval()

    def forward(self, x: Tensor) -> Tensor:
        if x.isinf().any():
            raise ArithmeticError("the model fails")
        return self.body(self.frozen(x))


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(B, 4), torch.arange(B) % C


def one_by_one(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Losses in eval mode, a sample at a time."""
    flags = [module.training for module in model.modules()]
    model.eval()
    logits = torch.cat([model(image.unsqueeze(0)) for image in images]).detach()
    for module, flag in zip(model.modules(), flags, strict=True):
        module.training = flag
    return torch.stack([-logits[i].log_softmax(0)[labels[i]] for i in range(len(labels))])


def plain_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize(
    "loss",
    [
        F.cross_entropy,
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(reduction="none"),
        functools.partial(F.cross_entropy, reduction="mean"),
        plain_loss,
        lambda logits, labels: plain_loss(logits, labels),
    ],
    ids=["function", "module", "module none", "partial", "custom", "lambda"],
)
def test_losses_are_those_of_single_samples(loss: Callable[..., Tensor]) -> None:
    model, (images, labels) = Net(), batch()
    scores = scorer(model, loss)((images, labels))
    assert scores.losses.shape == (B,)
    torch.testing.assert_close(scores.losses, one_by_one(model, images, labels))


@pytest.mark.parametrize("chunk", [1, 3, B - 1, B, 2 * B])
def test_in_chunks_the_losses_are_those_of_single_samples(chunk: int) -> None:
    model, (images, labels) = Net(), batch()
    rows: list[int] = []
    model.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    scores = scorer(model, F.cross_entropy, chunk=chunk)((images, labels))
    assert (sum(rows), max(rows)) == (B, min(chunk, B))
    whole = scorer(model, F.cross_entropy)((images, labels))
    torch.testing.assert_close(scores, whole)
    torch.testing.assert_close(scores.losses, one_by_one(model, images, labels))


def test_chunks_of_one_loss_each_are_refused() -> None:
    with pytest.raises(ValueError, match=r"single number; expected one loss a sample, shape \(2,\)"):
        scorer(Net(), lambda logits, labels: F.cross_entropy(logits, labels, reduction="mean"), chunk=2)(batch())
    with pytest.raises(ValueError, match="chunk=0 must be at least 1"):
        scorer(Net(), F.cross_entropy, chunk=0)


def test_the_users_loss_module_keeps_its_reduction() -> None:
    loss = nn.CrossEntropyLoss(reduction="sum")
    scorer(Net(), loss)(batch())
    assert loss.reduction == "sum"


def test_correct_and_confidence() -> None:
    model, (images, labels) = Net(), batch()
    scores = scorer(model, F.cross_entropy)([images, labels])
    confidence = (-one_by_one(model, images, labels)).exp()
    assert scores.correct is not None
    assert scores.confidence is not None
    for right, sure, own in zip(scores.correct, scores.confidence, confidence, strict=True):
        if right:
            assert sure == pytest.approx(float(own))
        else:
            assert sure > own


def test_regression_has_no_correctness() -> None:
    scores = scorer(nn.Linear(4, 1), lambda out, y: (out - y).square().flatten(1).mean(1))(
        (torch.randn(B, 4), torch.ones(B, 1))
    )
    assert (scores.correct, scores.confidence) == (None, None)


def test_forward_reads_any_batch() -> None:
    model, (images, labels) = Net(), batch()
    score = scorer(model, F.cross_entropy, forward=lambda m, b: (m(b["x"]["pixels"]), b["y"]))
    losses = score({"x": {"pixels": images, "names": ["a"] * B}, "y": labels}).losses
    torch.testing.assert_close(losses, one_by_one(model, images, labels))


@pytest.mark.parametrize("given", [{"x": 1}, torch.ones(3), (1, 2, 3)], ids=["dict", "tensor", "three"])
def test_a_batch_that_is_no_pair_asks_for_forward(given: Any) -> None:
    with pytest.raises(TypeError, match=rf"\(inputs, targets\), not {type(given).__name__}.*forward=lambda"):
        scorer(Net(), F.cross_entropy)(given)


def everything(model: nn.Module) -> list[Any]:
    """What scoring must not change."""
    return [
        [(name, value.clone()) for name, value in model.state_dict().items()],
        [module.training for module in model.modules()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [p.requires_grad for p in model.parameters()],
        torch.get_rng_state(),
        random.getstate(),
        str(np.random.get_state()),  # noqa: NPY002 - the global stream is the point
        torch.is_grad_enabled(),
    ]


def assert_untouched(before: list[Any], after: list[Any]) -> None:
    for (name, a), (_, b) in zip(before[0], after[0], strict=True):
        assert torch.equal(a, b), name
    for a, b in zip(before[2], after[2], strict=True):
        assert a is b is None or torch.equal(a, b)
    assert torch.equal(before[4], after[4])
    assert [before[k] for k in (1, 3, 5, 6, 7)] == [after[k] for k in (1, 3, 5, 6, 7)]


def cumulative() -> Net:
    """BatchNorm whose statistics are plain means over all batches so far."""
    model = Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "cumulative": cumulative,
    "synchronised": lambda: nn.SyncBatchNorm.convert_sync_batchnorm(Net()),
    "parallel": lambda: nn.DataParallel(Net()),
    "compiled": lambda: torch.compile(Net(), backend="eager"),  # pyright: ignore[reportReturnType]
    "compiled parts": lambda: nn.Sequential(torch.compile(Net(), backend="eager")),  # pyright: ignore
}


def prepared(made: Callable[[], nn.Module], mode: str, images: Tensor) -> nn.Module:
    """A model with statistics and gradients; in training mode but for the part kept out of it, or in eval mode."""
    model = made()
    if mode == "train" and made is not MODELS["synchronised"]:  # that one trains on GPUs only
        model(images).square().mean().backward()
    return model.train(mode == "train") if mode == "eval" else model


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("fails", [False, True], ids=["", "raises"])
@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_leaves_no_trace(made: Callable[[], nn.Module], mode: str, fails: bool) -> None:
    images, labels = batch()
    model = prepared(made, mode, images)
    before = everything(model)
    assert any(before[1]) == (mode == "train")
    if fails:
        with pytest.raises(ArithmeticError, match="the model fails"):
            scorer(model, F.cross_entropy)((images / 0, labels))
    else:
        scores = scorer(model, F.cross_entropy)((images, labels))
        assert not scores.losses.requires_grad
        torch.testing.assert_close(scores.losses, one_by_one(model, images, labels))
    assert_untouched(before, everything(model))


def test_a_loss_that_draws_or_raises_leaves_no_trace() -> None:
    model, (images, labels) = Net(), batch()
    before = everything(model)
    scorer(model, lambda logits, labels: plain_loss(F.dropout(logits), labels))((images, labels))
    with pytest.raises(IndexError):
        scorer(model, F.cross_entropy)((images, labels + 90))
    assert_untouched(before, everything(model))


def test_dropout_is_off() -> None:
    score, given = scorer(Net(), F.cross_entropy), batch()
    assert torch.equal(score(given).losses, score(given).losses)


def test_lower_precision_is_only_for_scoring() -> None:
    model, given = Net(), batch()
    exact = scorer(model, F.cross_entropy)(given).losses
    rough = scorer(model, F.cross_entropy, dtype=torch.bfloat16)(given).losses
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough.float(), rtol=0.1, atol=0.1)
    assert next(model.parameters()).dtype == torch.float32


def test_channels_last_is_a_layout_of_the_images_only() -> None:
    given = {"x": torch.randn(B, 3, 5, 7), "more": torch.randn(B, 3, 5), "y": torch.arange(B) % C}
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(60, C))
    seen: list[dict[str, Tensor]] = []

    def forward(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        seen.append(batch)
        return model(batch["x"]), batch["y"]

    plain, last = (scorer(model, F.cross_entropy, forward=forward, channels_last=on)(given) for on in (False, True))
    torch.testing.assert_close(plain.losses, last.losses)
    assert [batch["x"].is_contiguous(memory_format=torch.channels_last) for batch in seen] == [False, True]
    assert all(batch["x"].equal(given["x"]) and batch["more"] is given["more"] for batch in seen)
    assert given["x"].is_contiguous()
    assert model[0].weight.is_contiguous()


def test_scores_are_a_tuple_with_defaults() -> None:
    assert Scores(torch.ones(2))[1:] == (None, None)


def test_what_a_scoring_pass_tells_comes_to_the_cpu_in_one_transfer(monkeypatch):
    """On a GPU every transfer waits for the device."""
    transfers = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: transfers.append(self.shape) or original(self))
    model = nn.Linear(4, 3)
    data = [(torch.randn(4), i % 3) for i in range(16)]
    loader = wrap(DataLoader(data, batch_size=8), Adonis(theta=0.0, alpha=1.0), score=scorer(model, F.cross_entropy))
    next(iter(loader))
    assert len(transfers) == loader.stats.scored // 8


def test_scores_on_the_cpu_are_the_same():
    scores = Scores(torch.rand(5, dtype=torch.float64), torch.rand(5) > 0.5, torch.rand(5))
    moved = scores.cpu()
    assert [fact.dtype for fact in moved] == [torch.float32, torch.bool, torch.float32]
    for fact, own in zip(moved, scores, strict=True):
        assert torch.equal(fact, own.to(fact.dtype))
    assert Scores(scores.losses).cpu()[1:] == (None, None)
    assert torch.equal(Scores(scores.losses, scores.correct).cpu().correct, scores.correct)
