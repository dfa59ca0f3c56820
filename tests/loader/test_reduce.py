"""``Loader.reduce``: one loss a sample, weighs, averages, records; NaN and infinity by policy."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from leantrain import SB, Adonis, Full, InfoBatch, Loader, Plan, Scores, Selector
from toys import SIZE, losses_at, run_epoch, wrapped


class Heavy(Selector):
    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return Plan(pool, pool + 1.0)


def at_first_batch(loader: Loader) -> Loader:
    next(iter(loader))
    return loader


@pytest.mark.parametrize(
    ("losses", "error", "text"),
    [
        (torch.tensor(1.0), ValueError, r"a single number; expected one loss a sample, shape \(4,\)\. Pass reduction="),
        (torch.ones(3), ValueError, r"shape \(3,\); expected one loss a sample, \(4,\)\. Is it the loss of the batch"),
        (torch.ones(4, 7), ValueError, r"shape \(4, 7\); .*losses\.flatten\(1\)\.mean\(1\)"),
        (torch.ones(0), ValueError, r"shape \(0,\); expected one loss a sample"),
        (1.0, TypeError, "tensor of 4 losses, not float"),
        (None, TypeError, "tensor of 4 losses, not NoneType"),
    ],
    ids=["scalar", "short", "two dimensions", "empty", "float", "none"],
)  # fmt: skip
def test_not_one_loss_a_sample(losses: Any, error: type[Exception], text: str) -> None:
    loader = at_first_batch(wrapped(Full()))
    with pytest.raises(error, match=rf"reduce\(losses\).*{text}"):
        loader.reduce(losses)
    assert loader.stats.steps == loader.ledger.trained.sum() == 0


@pytest.mark.parametrize("losses", [torch.tensor(1.0), torch.ones(3), torch.ones(4, 7), 1.0])
def test_score_functions_are_checked_alike(losses: Any) -> None:
    loader = wrapped(SB(start_epoch=0), score=lambda batch: losses)
    with pytest.raises((ValueError, TypeError), match=r"score\(batch\)"):
        next(iter(loader))


def test_without_weights_it_is_the_mean() -> None:
    loader = at_first_batch(wrapped(Full()))
    losses = torch.rand(4)
    assert torch.equal(loader.reduce(losses), losses.mean())


def test_weights_scale_values_and_gradients() -> None:
    loader = at_first_batch(wrapped(Heavy()))
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    reduced = loader.reduce(losses)
    assert float(reduced.detach()) == (1 * 1 + 2 * 2 + 3 * 3 + 4 * 4) / 4
    reduced.backward()
    assert losses.grad.tolist() == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weighs_in_single_precision_or_better(dtype: torch.dtype) -> None:
    loader = at_first_batch(wrapped(Heavy()))
    reduced = loader.reduce(torch.tensor([1, 2, 3, 4], dtype=dtype))
    assert (reduced.dtype, float(reduced)) == (torch.promote_types(dtype, torch.float32), 7.5)
    assert loader.ledger.loss[:4].tolist() == [1, 2, 3, 4]


def test_records_each_samples_loss() -> None:
    loader = wrapped(Full(), shuffle=True)
    run_epoch(loader)
    run_epoch(loader)
    assert torch.equal(loader.ledger.loss, losses_at(1, torch.arange(SIZE)))
    assert (loader.ledger.loss_epoch == 1).all()
    assert (loader.ledger.trained == 2).all()
    assert loader.ledger.score.isnan().all()


def test_records_correctness_and_confidence() -> None:
    loader = at_first_batch(wrapped(Full()))
    logits = torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    loader.reduce(torch.ones(4), logits=logits, targets=torch.tensor([1, 1, 0, 0]))
    assert loader.ledger.correct[:5].tolist() == [1, 0, 1, 1, -1]
    sure = [1 / (1 + math.exp(-gap)) for gap in (2, 3, 0, 5)]
    assert loader.ledger.confidence[:4].tolist() == pytest.approx(sure)


class Curious(Selector):
    needs = frozenset({"correct", "confidence"})


def test_what_a_selector_needs_is_asked_for() -> None:
    loader = at_first_batch(wrapped(Curious()))
    with pytest.raises(ValueError, match=r"Curious needs .*confidence, correct\. Call reduce\(losses, logits=logits"):
        loader.reduce(torch.ones(4))
    loader.reduce(torch.ones(4), logits=torch.zeros(4, 2), targets=torch.zeros(4, dtype=torch.int64))


def test_no_batch_yet() -> None:
    with pytest.raises(RuntimeError, match="No batch was handed out yet"):
        wrapped(Full()).reduce(torch.ones(4))


BROKEN = pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])


def broken_at_5(epoch: int, indices: Tensor, broken: float) -> Tensor:
    return torch.where((indices == 5) | (indices == 6), broken, losses_at(epoch, indices))


@BROKEN
def test_a_broken_training_loss_stops_and_names_the_samples(broken: float) -> None:
    loader = wrapped(Full())
    batches = iter(loader)
    next(batches)
    loader.reduce(broken_at_5(0, loader.indices, broken))
    next(batches)
    with pytest.raises(FloatingPointError, match=r"training loss of sample \[5, 6\] .*nonfinite=\"skip\" or \"keep\""):
        loader.reduce(broken_at_5(0, loader.indices, broken))
    assert loader.stats.steps == 1
    assert loader.ledger.loss[4:8].isnan().all()


@BROKEN
@pytest.mark.parametrize("policy", ["skip", "keep"])
def test_training_goes_on_by_option(broken: float, policy: str) -> None:
    loader = wrapped(Full(), nonfinite=policy)
    parameter = torch.ones((), requires_grad=True)
    gradients = []
    for _ in loader:
        losses = parameter * broken_at_5(loader.epoch, loader.indices, broken)
        if policy == "skip" and 5 in loader.indices:
            with pytest.warns(UserWarning, match=r"sample \[5, 6\] .* The step is skipped\."):
                loss = loader.reduce(losses)
            assert float(loss.detach()) == 0
        else:
            loss = loader.reduce(losses)
        parameter.grad = None
        loss.backward()
        gradients.append(parameter.grad)
    assert len(gradients) == 10
    if policy == "skip":
        assert gradients[1] is None
        assert loader.stats.skipped_steps == 1
    else:
        assert not gradients[1].isfinite()
    assert all(g.isfinite() for k, g in enumerate(gradients) if k != 1)
    assert loader.ledger.loss.isfinite().tolist() == [i not in (5, 6) for i in range(SIZE)]


@BROKEN
def test_a_broken_score_stops_and_names_the_samples(broken: float) -> None:
    loader = wrapped(Adonis(), score=lambda batch: broken_at_5(0, batch[0], broken))
    with pytest.raises(FloatingPointError, match=r"scoring loss of sample \[5, 6\]"):
        run_epoch(loader)


@BROKEN
@pytest.mark.parametrize("policy", ["skip", "keep"])
@pytest.mark.parametrize("selector", [lambda: Adonis(theta="auto"), lambda: SB(start_epoch=0)], ids=["adonis", "sb"])
def test_a_broken_score_is_not_selected_and_enters_nothing(selector: Any, broken: float, policy: str) -> None:
    loader = wrapped(selector(), nonfinite=policy, score=lambda batch: broken_at_5(loader.epoch, batch[0], broken))
    given = [index for _ in range(3) for batch in run_epoch(loader) for index in batch]
    assert given
    assert not {5, 6} & set(given)
    assert loader.ledger.score.isfinite().tolist() == [i not in (5, 6) for i in range(SIZE)]
    assert loader.selector.state_dict()["recent"].isfinite().all()


def test_one_broken_sample_does_not_end_the_use_of_stored_losses() -> None:
    """eta = 3: a sample that scores NaN must not make every later epoch score everything again."""
    loader = wrapped(
        Adonis(theta="auto", stale_epochs=3),
        nonfinite="keep",
        score=lambda batch: broken_at_5(loader.epoch, batch[0], math.nan),
    )
    for _ in range(3):
        run_epoch(loader)
    assert loader.stats.scored <= SIZE + 2 * 2  # at most the broken ones anew


def test_many_broken_samples_are_cut_short() -> None:
    loader = wrapped(Full(), batch_size=20)
    next(iter(loader))
    with pytest.raises(FloatingPointError, match=r"\[0, 1, 2, 3, 4, 5, 6, 7, 8, 9\] and 10 more"):
        loader.reduce(torch.full((20,), math.nan))


def test_policy_is_checked() -> None:
    with pytest.raises(ValueError, match=r"nonfinite 'rise'\. Did you mean 'raise'"):
        wrapped(Full(), nonfinite="rise")


def test_scores_may_tell_more_than_losses() -> None:
    def score(batch: Any) -> Scores:
        return Scores(losses_at(0, batch[0]), batch[0] % 2 == 0, batch[0] / 100)

    loader = wrapped(Adonis(), score=score)
    run_epoch(loader)
    assert loader.ledger.correct.tolist() == [1, 0] * (SIZE // 2)
    assert loader.ledger.confidence.tolist() == pytest.approx([i / 100 for i in range(SIZE)])


def test_infobatch_weights_reach_the_loss() -> None:
    loader = wrapped(InfoBatch(), batch_size=30)
    loader.ledger.loss = torch.arange(float(SIZE))
    next(iter(loader))
    assert float(loader.reduce(torch.ones(30))) == pytest.approx(40 / 30)
