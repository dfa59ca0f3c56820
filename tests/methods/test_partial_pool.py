"""A sampler that gives a part of the data set, a fold: every method does there what it does on that part alone.

Of samples outside nothing is known in these tests, all numbers of theirs are NaN, so whoever uses one shows it.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, WeightedRandomSampler

from leantrain import Batch, GradMatch, GradMatchPB, Loader, Plan, Selector
from leantrain.core.selector import all_parts
from leantrain.embed import Gradients, el2n_scores, embed, gradients, grand_scores, holdout_losses
from leantrain.embed.features import Features
from toys import EACH_METHOD, METHODS, SIZE, Numbers, flat, losses_at, made_gradients, run_epoch, setup, wrapped

FOLD = torch.arange(1, SIZE, 2)[torch.arange(SIZE // 2) % 7 != 3]  # 17 samples, not evenly spaced
OUTSIDE = torch.ones(SIZE, dtype=torch.bool).index_fill_(0, FOLD, False)
TARGETS = torch.tensor(Numbers().targets)


def with_inputs(selector: Selector, change: Any) -> Selector:
    """A copy whose inputs went through ``change``."""
    selector = copy.deepcopy(selector)
    for part in all_parts(selector):
        for name in (*part.inputs, "groups"):
            if isinstance(value := getattr(part, name, None), Tensor | Gradients):
                setattr(part, name, change(value))
    return selector


def narrowed(value: Any) -> Any:
    return Gradients(value.delta[FOLD], value.features[FOLD]) if isinstance(value, Gradients) else value[FOLD]


def unknown_outside(value: Any) -> Any:
    if isinstance(value, Gradients):
        return Gradients(unknown_outside(value.delta), unknown_outside(value.features), read=FOLD)
    unknown = torch.nan if value.is_floating_point() else -1
    return value.where(~OUTSIDE.reshape(-1, *[1] * (value.ndim - 1)), unknown)


def on_the_fold_alone(name: str, **facts: Any) -> Selector:
    return setup(with_inputs(METHODS[name](), narrowed), size=len(FOLD), targets=TARGETS[FOLD], **facts)


def on_a_fold_of_all(name: str, **facts: Any) -> Selector:
    return setup(with_inputs(METHODS[name](), unknown_outside), targets=TARGETS, pool=FOLD, **facts)


def epoch_of(selector: Selector, epoch: int, pool: Tensor, number: Tensor) -> tuple[Plan, list[list[int]]]:
    """One epoch without a loader: the plan and what is kept. Sample i has the losses of sample ``number[i]``."""
    plan, ledger = selector.plan(epoch, pool), selector.run.ledger
    used = [plan.indices]
    if selector.loss_age(epoch) is not None:
        used = []
        for place, indices in enumerate(plan.indices.split(4)):
            if selector.judges(epoch, place):
                losses = losses_at(epoch, number[indices])
                ledger.record_scores(epoch, indices, losses)
                used.append(indices[selector.select(Batch(epoch, place, indices, losses))])
            else:
                selector.pass_over(epoch, place, indices)
                used.append(indices)
    sure = torch.full((SIZE,), 0.9)
    for indices in used:
        ledger.record_training(epoch, indices, losses_at(epoch, number[indices]), indices >= 0, sure[: len(indices)])
    if plan.refresh is not None:
        ledger.record_scores(epoch, plan.refresh, losses_at(epoch, number[plan.refresh]))
    selector.end_epoch(epoch)
    return plan, [indices.tolist() for indices in used]


@pytest.mark.parametrize("name", METHODS)
def test_a_fold_is_dealt_with_as_a_data_set_of_its_own(name: str) -> None:
    alone, within = on_the_fold_alone(name), on_a_fold_of_all(name)
    for epoch in range(6):
        theirs, kept_alone = epoch_of(alone, epoch, torch.arange(len(FOLD)), FOLD)
        ours, kept = epoch_of(within, epoch, FOLD, torch.arange(SIZE))
        assert kept == [FOLD[indices].tolist() for indices in kept_alone]
        assert torch.equal(ours.indices, FOLD[theirs.indices])
        assert (ours.batch_sizes, ours.lr_factor) == (theirs.batch_sizes, theirs.lr_factor)
        for mine, other in (
            (ours.weights, theirs.weights),
            (ours.refresh, None if theirs.refresh is None else FOLD[theirs.refresh]),
        ):
            assert (mine is None) == (other is None)
            assert mine is None or torch.allclose(mine.double(), other.double(), rtol=1e-5)
    assert alone.report() == pytest.approx(within.report())
    ledger = within.run.ledger
    assert not bool(ledger.trained[OUTSIDE].any())
    assert bool(ledger.loss[OUTSIDE].isnan().all())


@pytest.mark.parametrize("name", EACH_METHOD)
def test_nothing_outside_a_fold_is_read_and_counts_are_those_of_a_subset(name: str) -> None:
    data = Numbers()
    order = SubsetRandomSampler(FOLD.tolist(), generator=torch.Generator().manual_seed(0))
    loader = wrapped(with_inputs(METHODS[name](), unknown_outside), data, sampler=order, targets=TARGETS)
    subset = Subset(Numbers(), FOLD.tolist())
    alike = SubsetRandomSampler(range(len(FOLD)), generator=torch.Generator().manual_seed(0))
    alone = wrapped(with_inputs(METHODS[name](), narrowed), subset, targets=TARGETS[FOLD], sampler=alike)
    for epoch in range(6):
        assert len(loader) == len(alone)
        given = run_epoch(loader)
        theirs = []
        for _ in alone:
            theirs.append(FOLD[alone.indices].tolist())
            alone.reduce(losses_at(epoch, FOLD[alone.indices]))
        assert given == theirs
    assert set(data.reads) <= set(FOLD.tolist())
    assert loader.stats.loaded == alone.stats.loaded == len(data.reads)
    assert loader.stats.scored == alone.stats.scored
    for facts, unknown in ((loader.ledger.trained, 0), (loader.ledger.score_epoch, -1), (loader.ledger.loss_epoch, -1)):
        assert bool((facts[OUTSIDE] == unknown).all())


def test_input_that_lacks_samples_of_the_fold_is_refused() -> None:
    other = SubsetRandomSampler(OUTSIDE.nonzero().flatten().tolist())
    for name in ("ids", "ssp", "forget", "el2n", "rho-loss"):
        with pytest.raises(
            ValueError, match=r"of 23 samples are .*, first \[0, 2, 4, 6, 7\]. Were they made with another"
        ):
            wrapped(with_inputs(METHODS[name](), unknown_outside), sampler=other, targets=TARGETS)


def test_without_a_part_everything_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"features of 23 samples are not finite, first \[0, 2, 4, 6, 7\]\.$"):
        wrapped(with_inputs(METHODS["ids"](), unknown_outside), shuffle=True)


def test_a_sampler_that_comes_to_give_others_has_them_ranked() -> None:
    """A curriculum: the list of a SubsetRandomSampler grows."""
    order = SubsetRandomSampler(FOLD.tolist(), generator=torch.Generator().manual_seed(0))
    loader = wrapped(METHODS["el2n"](), sampler=order)
    run_epoch(loader)
    order.indices = list(range(SIZE))
    everything = setup(METHODS["el2n"]()).plan(0, torch.arange(SIZE)).indices.tolist()
    assert sorted(flat(run_epoch(loader))) == everything


def test_a_state_goes_on_within_the_fold() -> None:
    def fresh() -> Loader:
        order = SubsetRandomSampler(FOLD.tolist(), generator=torch.Generator().manual_seed(0))
        return wrapped(with_inputs(METHODS["ids"](), unknown_outside), sampler=order, targets=TARGETS)

    straight, cut = fresh(), fresh()
    for loader in (straight, cut):
        run_epoch(loader)
    resumed = fresh()
    resumed.load_state_dict(cut.state_dict())
    assert run_epoch(resumed) == run_epoch(straight)
    assert torch.equal(resumed.selector.distances().isnan(), OUTSIDE)


class Digits(torch.nn.Module):
    """Two linear layers over what a sample's index tells."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body, self.head = torch.nn.Linear(1, 5), torch.nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.float().unsqueeze(1) / SIZE).relu())


PASSES = {
    "features": lambda loader: embed(loader, lambda batch: Digits()(batch[0])).values,
    "gradients": lambda loader: gradients(Digits(), loader)().delta,
    "el2n": lambda loader: el2n_scores(Digits(), loader),
    "grand": lambda loader: grand_scores(Digits(), loader),
    "holdout": lambda loader: holdout_losses(Digits(), loader, torch.nn.functional.cross_entropy),
}
SAMPLERS = {
    "a list": lambda: SubsetRandomSampler(FOLD.tolist()[::-1]),
    "weights": lambda: WeightedRandomSampler((~OUTSIDE).double(), 60),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PASSES)
def test_a_pass_reads_what_the_sampler_can_give(name: str, sampler: str) -> None:
    data = Numbers()
    whole = PASSES[name](DataLoader(Numbers(), 4))
    part = PASSES[name](DataLoader(data, 4, sampler=SAMPLERS[sampler]()))
    assert sorted(data.reads) == FOLD.tolist()
    assert part.shape == whole.shape
    assert torch.allclose(part[FOLD], whole[FOLD])
    assert bool(part[OUTSIDE].isnan().all())


def test_features_of_each_part_are_cached_apart(tmp_path: Any) -> None:
    def made(of: list[int]) -> tuple[Features, int]:
        data = Numbers()
        loader = DataLoader(data, 4, sampler=SubsetRandomSampler(of))
        return embed(loader, lambda batch: batch[0].float().unsqueeze(1), name="x", cache=tmp_path), len(data.reads)

    fold, other = FOLD.tolist(), OUTSIDE.nonzero().flatten().tolist()
    first, _ = made(fold)
    assert first.values[FOLD, 0].tolist() == FOLD.tolist()
    assert made(other)[0].values[OUTSIDE, 0].tolist() == other
    again, reads = made(fold)
    assert torch.equal(again.values.nan_to_num(-1), first.values.nan_to_num(-1))
    assert reads == 4  # the first batch, to compare


@pytest.mark.parametrize("method", [GradMatch, GradMatchPB])
def test_validation_gradients_of_a_fold_are_those_of_its_samples(method: Any) -> None:
    """A k-fold over one data set: trained on one part, matched to the gradient of the other."""
    rest = OUTSIDE.nonzero().flatten()
    whole = made_gradients()
    other = Gradients(whole.delta[rest], whole.features[rest])
    folded = Gradients(
        whole.delta.where(OUTSIDE.unsqueeze(1), torch.nan),
        whole.features.where(OUTSIDE.unsqueeze(1), torch.nan),
        read=rest,
    )
    plans = [
        setup(method(gradients=made_gradients(), validation=given, keep_ratio=0.4), targets=TARGETS, pool=FOLD).plan(
            0, FOLD
        )
        for given in (other, folded)
    ]
    assert torch.equal(plans[0].indices, plans[1].indices)
    assert torch.equal(plans[0].weights, plans[1].weights)
