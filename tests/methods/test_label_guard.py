"""LabelGuard against its description (references/label_guard.py): on made-up class scores, through the real loader."""

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import references.label_guard as reference
from distributed.processes import on_ranks
from leantrain import IDS, RPD, Adonis, ClassFloor, InfoBatch, LabelGuard, Loader, Record, Replay, Selector, wrap
from leantrain.checkpoint.tree_json import pack, unpack
from leantrain.methods.label_guard import doubts, draw_probes, fits, share_of_wrong
from leantrain.rng import generator
from toys import setup

SIZE, CLASSES, EPOCHS, BATCH = 1000, 5, 10, 50
SCORE = st.one_of(st.floats(-20, 0), st.integers(-4, 0).map(float))  # with ties


def right_labels(size: int = SIZE) -> Tensor:
    return torch.randint(CLASSES, (size,), generator=torch.Generator().manual_seed(1))


def labels_with(wrong: float, size: int = SIZE) -> Tensor:
    """The labels of a data set, of which the share ``wrong`` is not right."""
    rng = torch.Generator().manual_seed(2)
    moved = torch.rand(size, generator=rng) < wrong
    return (right_labels(size) + moved * torch.randint(1, CLASSES, (size,), generator=rng)) % CLASSES


def table(epoch: int, size: int = SIZE, classes: int = CLASSES) -> Tensor:
    """(N, C) class scores of a network that learns the right labels, with some doubt and some samples that are hard."""
    rng = torch.Generator().manual_seed(50 + epoch)
    easy = torch.rand(size, 1, generator=torch.Generator().manual_seed(3))
    known = F.one_hot(right_labels(size), classes) * (1 + 0.4 * epoch) * 3 * easy
    return known + torch.randn(size, classes, generator=rng)


def looped(
    selector: Selector | None = None,
    wrong: float = 0.4,
    *,
    labels: Tensor | None = None,
    size: int = SIZE,
    **given: Any,
) -> Loader:
    """A wrapped DataLoader over the numbers of samples; with ``LabelGuard``, one that judges by few presentations."""
    labels = labels_with(wrong, size) if labels is None else labels
    made = {"batch_size": BATCH, "shuffle": True, "generator": torch.Generator().manual_seed(4)}
    options = {name: given.pop(name) for name in ("score", "targets", "seed", "nonfinite") if name in given}
    if "sampler" in given:
        made = {"batch_size": BATCH}
    plain = DataLoader(TensorDataset(torch.arange(size), labels), **(made | given))
    return wrap(
        plain, selector or LabelGuard(least_visits=0), **({"epochs": EPOCHS, "targets": labels, "seed": 7} | options)
    )


def steps(loader: Loader, scores: Any = table) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Train: epoch, samples, class scores with gradient, and the reduced loss of each step."""
    size = len(loader.ledger.loss)
    while loader.epoch < EPOCHS:
        for samples, labels in loader:
            logits = scores(loader.epoch, size)[samples].requires_grad_()
            loss = loader.reduce(F.cross_entropy(logits, labels, reduction="none"), logits, labels)
            yield loader.epoch, samples, logits, loss


def told(loader: Loader, states: list[io.BytesIO] | None = None) -> list[Any]:
    """Epoch, samples, loss of each step and what the guard knows; in ``states`` the state after each."""
    given = []
    for epoch, samples, _, loss in steps(loader):
        given.append((epoch, samples.tolist(), loss.item()))
        if states is not None:
            torch.save(loader.state_dict(), file := io.BytesIO())
            states.append(file)
    return [*given, loader.selector.report()]


def trained(loader: Loader, scores: Any = table) -> dict[int, list[int]]:
    """Samples of each epoch, in order."""
    used: dict[int, list[int]] = {}
    for epoch, samples, *_ in steps(loader, scores):
        used.setdefault(epoch, []).extend(samples.tolist())
    return used


def probes_of(guard: LabelGuard) -> dict[int, int]:
    return {i: label for i, label in enumerate(guard._wrong.tolist()) if label >= 0}


@given(probes=st.lists(SCORE, max_size=40), rest=st.lists(SCORE, max_size=60))
@example(probes=[float(i) for i in range(20)], rest=[1.5, *[2.5] * 99])  # least at F_probe = 3 / 20
@example(probes=[float(i) for i in range(20)], rest=[*[-1.0] * 5, *[17.5] * 95])  # and at 18 / 20
def test_the_share_of_wrong_labels(probes: list[float], rest: list[float]) -> None:
    found = share_of_wrong(torch.tensor(probes, dtype=torch.float64), torch.tensor(rest, dtype=torch.float64))
    expected = reference.share_of_wrong(probes, rest)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_a_mixture_of_hard_and_wrong_gives_the_share_of_wrong_ones() -> None:
    rng = torch.Generator().manual_seed(0)
    wrong, right = torch.randn(4000, generator=rng) - 3, torch.randn(6000, generator=rng)
    found = share_of_wrong(torch.randn(600, generator=rng) - 3, torch.cat([wrong, right]))
    assert found == pytest.approx(0.4, abs=0.05)
    assert share_of_wrong(torch.randn(600, generator=rng) - 3, right) == pytest.approx(0.0, abs=0.02)


@given(
    probes=st.lists(SCORE, min_size=1, max_size=30),
    rest=st.lists(SCORE, min_size=1, max_size=60),
    share=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
)
def test_how_probably_each_label_is_wrong(probes: list[float], rest: list[float], share: float) -> None:
    given = [torch.tensor(values, dtype=torch.float64) for values in (probes + rest, probes, rest)]
    found, expected = doubts(*given, share), reference.doubts(probes + rest, probes, rest, share)
    edges = torch.quantile(given[1], torch.arange(1, 12, dtype=torch.float64) / 12)
    clear = ((given[0].unsqueeze(1) - edges).abs() > 1e-9) | (given[0].unsqueeze(1) == edges)
    if bool(clear.all()):  # elsewhere rounding of a quantile decides
        assert found.tolist() == pytest.approx(expected, rel=1e-9)
    ordered = found[given[0].argsort()]
    assert bool((ordered.diff() <= 0).all())
    assert float(found.max()) <= 0.98


@pytest.mark.parametrize("columns", [CLASSES, CLASSES + 3, CLASSES - 1])
def test_how_well_a_label_fits(columns: int) -> None:
    """A class that no planned sample has does not compete; nor does a logit without a class."""
    logits = torch.randn(40, columns, generator=torch.Generator().manual_seed(5)) * 3
    planned = [0, 0, 0, 1, 3, 3, 4]
    labels = torch.tensor([0, 1, 3, 2] * 10)
    classes, counts = torch.tensor(planned).unique(return_counts=True)
    found = fits(logits, labels, classes, counts / len(planned))
    shares = reference.shares(planned)
    expected = [reference.fit(row, int(y), shares) for row, y in zip(logits.tolist(), labels, strict=True)]
    assert found.where(found.isfinite(), torch.nan).tolist() == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert math.isnan(expected[3])


@pytest.mark.parametrize("size", [24, 25, 600, 2499, 2600, 30_000])
def test_probes_are_few_and_labelled_wrongly(size: int) -> None:
    labels = torch.arange(size) % 3 * 2
    probes, wrong = draw_probes(labels, generator(0, 0, "test"))
    assert len(probes) == len(probes.unique()) == reference.probes(size)
    assert bool((wrong != labels[probes]).all())
    assert set(wrong.tolist()) <= {0, 2, 4}


def test_wrong_labels_are_spread_as_labels_are() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [3] * 20).repeat(3)
    counts = torch.zeros(4, 4)
    for seed in range(1500):
        probes, wrong = draw_probes(labels, generator(seed, 0, "test"))
        counts.index_put_((labels[probes], wrong), torch.ones(len(probes)), accumulate=True)
    assert float(counts.diag().sum()) == 0
    shares = counts / counts.sum(dim=1, keepdim=True)
    assert shares[0].tolist() == pytest.approx([0, 0.6, 0, 0.4], abs=0.02)
    assert shares[1].tolist() == pytest.approx([5 / 7, 0, 0, 2 / 7], abs=0.02)
    assert shares[3].tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=0.02)
    assert (counts.sum(dim=1) / counts.sum())[[0, 1, 3]].tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.02)


def test_a_class_keeps_a_right_label() -> None:
    labels = torch.tensor([0] * 600 + [1, 2, 2])
    for seed in range(300):
        probes, _ = draw_probes(labels, generator(seed, 0, "test"))
        assert 600 not in probes.tolist()
        assert not {601, 602} <= {*probes.tolist()}


def test_a_training_by_its_description() -> None:
    """Each epoch's plan, from class scores on, re-computed without the library's sums, thresholds or bins."""
    guard = LabelGuard(least_visits=0)
    loader = looped(guard)
    labels = labels_with(0.4).tolist()
    used = trained(loader)
    first = looped(LabelGuard(least_visits=0))
    next(steps(first))
    probes = probes_of(first.selector)
    assert len(probes) == reference.probes(SIZE) == 40
    facts: list[list[float]] = [[] for _ in range(SIZE)]
    doubt, found = [0.0] * SIZE, []
    for epoch in range(EPOCHS):
        if 4 <= epoch < 7:
            scores = [math.fsum(told) / len(told) for told in facts]
            rest = [score for i, score in enumerate(scores) if i not in probes]
            among = [scores[i] for i in probes]
            found.append(reference.share_of_wrong(among, rest))
            doubt = reference.doubts(scores, among, rest, found[-1])
        if epoch == 7:
            doubt = [0.0 if i in probes else p for i, p in enumerate(doubt)]
        draws = torch.rand(SIZE, generator=generator(7, epoch, "label guard")).tolist()
        plan = [i for i in range(SIZE) if draws[i] < (1 - doubt[i]) ** 2]
        assert sorted(used[epoch]) == plan, epoch
        shares = reference.shares([labels[i] for i in plan])
        logits = table(epoch)
        for i in plan:
            if 1.2 <= epoch < 7:
                facts[i].append(reference.fit(logits[i].tolist(), probes.get(i, labels[i]), shares))
    assert guard.report()["wrong_labels_found"] == pytest.approx(found[-1])
    assert 0.25 < found[0] < 0.5
    left_out = sum(SIZE - len(used[epoch]) for epoch in range(4, EPOCHS)) / 6
    assert guard.report()["left_out_by_label_guard"] == pytest.approx(left_out)
    assert left_out > 100
    wrong = (labels_with(0.4) != right_labels()).nonzero().flatten().tolist()
    kept = [sum(i in used[9] for i in part) / len(part) for part in (wrong, {*range(SIZE)} - {*wrong})]
    assert kept[0] < 0.4 < 0.75 < kept[1]


def test_probes_are_trained_on_their_wrong_labels_and_others_as_they_are() -> None:
    loader, labels = looped(), labels_with(0.4)
    probes: dict[int, int] = {}
    seen = 0
    for epoch, samples, logits, loss in steps(loader):
        probes = probes or probes_of(loader.selector)
        now = {} if epoch >= 7 else probes
        used = [now.get(i, int(labels[i])) for i in samples.tolist()]
        seen += sum(i in now for i in samples.tolist())
        again = logits.detach().clone().requires_grad_()
        expected = F.cross_entropy(again, torch.tensor(used), reduction="none").mean()
        expected.backward()
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert torch.allclose(logits.grad, again.grad, atol=1e-7)
        if not now.keys() & {*samples.tolist()}:  # bit for bit what they would be
            assert torch.equal(loss, expected)
            assert torch.equal(logits.grad, again.grad)
        own = F.cross_entropy(logits.detach(), labels[samples], reduction="none")
        assert torch.equal(loader.ledger.loss[samples], own)  # what other methods go by
    assert seen > 40 * 4
    assert torch.equal(labels, labels_with(0.4))  # the user's


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_losses_keep_their_type(kind: torch.dtype) -> None:
    loader = looped()
    for samples, labels in loader:
        logits = table(0)[samples].to(kind).requires_grad_()
        losses = F.cross_entropy(logits, labels, reduction="none")
        loss = loader.reduce(losses, logits, labels)
        assert loss.dtype == kind
        used = loader.selector._wrong[samples]
        expected = F.cross_entropy(logits.double(), used.where(used >= 0, labels))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12 if kind == torch.float64 else 0.02)


@pytest.mark.parametrize(
    ("wrong", "least_visits", "why"),
    [
        (0.0, 0, "less than 10%: all samples stay in."),
        (0.4, 15_000, "after 4,000 presentations, too few to believe it (least_visits=15,000)"),
    ],
)
def test_it_stays_off_for_good_where_there_is_nothing_or_too_little_to_go_by(
    wrong: float, least_visits: int, why: str
) -> None:
    guard = LabelGuard(least_visits=least_visits)
    loader = looped(guard, wrong)
    for epoch, samples, _, loss in steps(loader):
        assert len(probes_of(guard)) == (40 if epoch < 4 else 0)
        if epoch >= 4:  # the very number: nothing of it is left
            labels = labels_with(wrong)[samples]
            assert torch.equal(loss, F.cross_entropy(table(epoch)[samples], labels, reduction="none").mean())
    assert loader.stats.trained == SIZE * EPOCHS
    assert guard.report()["left_out_by_label_guard"] == guard.report()["label_guard_acts"] == 0
    assert why in guard.notes()[0]
    assert (guard.report()["wrong_labels_found"] < 0.1) == (wrong == 0)


def test_it_says_once_what_it_found() -> None:
    guard = LabelGuard(least_visits=0)
    said: list[str] = []
    for epoch, *_ in steps(looped(guard | InfoBatch())):
        said += guard.notes()
        assert len(guard.notes()) == (epoch >= 4)
    assert len({*said}) == 1
    assert re.fullmatch(r"LabelGuard: about \d\d% of the labels look wrong\. From epoch 5 on .* left out\.", said[0])
    for selector in (guard | InfoBatch(), RPD() | guard, ClassFloor(guard, 0.1)):
        assert selector.notes() == guard.notes()


def test_what_is_told_again_counts_once() -> None:
    loader = looped()
    for _ in range(3):
        for samples, labels in loader:
            for _ in range(2):
                logits = table(loader.epoch)[samples].requires_grad_()
                loader.reduce(F.cross_entropy(logits, labels, reduction="none"), logits, labels)
    assert loader.ledger.fact_count.tolist() == [1] * SIZE  # of the third epoch: the first that is scored


def test_parts_of_a_batch_are_told_one_by_one() -> None:
    whole, parts = looped(), looped()
    used = trained(whole)
    given: dict[int, list[int]] = {}
    while parts.epoch < EPOCHS:
        for samples, labels in parts:
            logits = table(parts.epoch)[samples].requires_grad_()
            losses, ids = F.cross_entropy(logits, labels, reduction="none"), parts.indices
            given.setdefault(parts.epoch, []).extend(samples.tolist())
            for rows in torch.arange(len(samples)).split(20):
                parts.reduce(losses[rows], logits[rows], labels[rows], indices=ids[rows])
    assert given == used


def test_a_run_goes_on_from_any_step() -> None:
    states: list[io.BytesIO] = []
    whole = told(looped(), states)
    assert whole[-1]["label_guard_acts"]
    for step in range(0, len(states), 5):
        states[step].seek(0)
        resumed = looped()
        resumed.load_state_dict(torch.load(states[step], weights_only=True))
        assert told(resumed) == whole[step + 1 :], step


def test_a_checkpoint_holds_it() -> None:
    loader = looped()
    told(loader)
    tensors: dict[str, Tensor] = {}
    packed = json.dumps(pack(loader.state_dict(), "state", tensors))
    resumed = looped()
    resumed.load_state_dict(unpack(json.loads(packed), tensors))
    assert resumed.selector.report() == loader.selector.report()
    assert resumed.selector.notes() == loader.selector.notes() != []
    assert torch.equal(resumed.ledger.fact_sum, loader.ledger.fact_sum)


def test_a_run_is_its_seeds_and_nothing_else() -> None:
    torch.manual_seed(1)
    first = told(looped())
    torch.manual_seed(2)
    assert told(looped()) == first
    assert told(looped(seed=8)) != first


def test_a_second_run_starts_afresh() -> None:
    guard = LabelGuard(least_visits=0)
    assert told(looped(guard)) == told(looped(guard))


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_type_does_not_matter(default: torch.dtype) -> None:
    tables = [table(epoch) for epoch in range(EPOCHS)]
    expected = trained(looped(), lambda epoch, _: tables[epoch].clone())
    labels = labels_with(0.4)
    torch.set_default_dtype(default)
    try:
        assert trained(looped(labels=labels), lambda epoch, _: tables[epoch].clone()) == expected
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_find_together_what_one_process_finds(count: int) -> None:
    def rank() -> Any:
        loader = looped(batch_size=BATCH // 2 if count == 2 else 16)
        given, halfway = [], None
        for epoch, samples, *_ in steps(loader):
            given.append((epoch, samples.tolist()))
            if epoch == 5 and halfway is None:
                halfway = loader.state_dict()["ledger"]["fact_count"].sum()
        guard = loader.selector
        ledger = [loader.ledger.fact_sum.tolist(), loader.ledger.fact_count.tolist()]
        return given, guard.report(), guard._doubt.tolist(), ledger, halfway

    ranks = on_ranks(count, rank)
    loader = looped(batch_size=BATCH if count == 2 else 48)
    used = trained(loader)
    for _, report, doubt, (sums, counts), _ in ranks:
        assert report == loader.selector.report()
        assert doubt == loader.selector._doubt.tolist()
        assert counts == loader.ledger.fact_count.tolist()
        assert sums == loader.ledger.fact_sum.tolist()
    together = [sorted(i for given, *_ in ranks for e, part in given if e == epoch for i in part) for epoch in used]
    assert together == [sorted(used[epoch]) for epoch in used]
    assert report["label_guard_acts"]
    assert len({int(halfway) for *_, halfway in ranks}) == 1


def test_a_replay_uses_the_same_samples_and_no_probes(tmp_path: Any) -> None:
    pytest.importorskip("pyarrow")
    guard = LabelGuard(least_visits=0)
    used = trained(looped(Record(guard, tmp_path / "picks")))
    assert guard.report()["label_guard_acts"]
    loader = looped(Replay(path=tmp_path / "picks"))
    again: dict[int, list[int]] = {}
    for epoch, samples, logits, loss in steps(loader):
        again.setdefault(epoch, []).extend(samples.tolist())
        assert torch.equal(loss, F.cross_entropy(logits, labels_with(0.4)[samples], reduction="none").mean())
    assert {epoch: sorted(part) for epoch, part in again.items()} == {e: sorted(part) for e, part in used.items()}


def test_it_composes() -> None:
    def score(batch: Any) -> Tensor:
        return F.cross_entropy(table(9)[batch[0]], batch[1], reduction="none")

    features = torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(6))
    alone = trained(looped())
    for selector in (
        LabelGuard(least_visits=0) | InfoBatch(),
        LabelGuard(least_visits=0) | Adonis(theta="auto"),
        IDS(features=features, keep_ratio=0.7, switch_epoch=5) | LabelGuard(least_visits=0),
        ClassFloor(LabelGuard(least_visits=0), 0.95),
    ):
        used = trained(looped(selector, score=score))
        report = selector.report()
        assert report["label_guard_acts"], selector
        assert report["left_out_by_label_guard"] > 20
        if isinstance(selector, ClassFloor):
            assert report["samples_added_by_class_floor"] > 0
        else:
            assert sum(map(len, used.values())) < 0.95 * sum(map(len, alone.values()))


def test_what_is_pruned_after_it_goes_by_the_user_s_losses() -> None:
    """Of a probe, whose wrong label has a large loss, InfoBatch knows the own one."""
    selector = LabelGuard(least_visits=0) | InfoBatch()
    loader = looped(selector, 0.0)
    for epoch, samples, logits, _ in steps(loader):
        own = F.cross_entropy(logits.detach(), labels_with(0.0)[samples], reduction="none")
        assert torch.equal(loader.ledger.loss[samples], own)
        if epoch == 3:
            break


def test_only_one_method_may_change_the_losses() -> None:
    with pytest.raises(ValueError, match=r"LabelGuard and LabelGuard both change the losses of a step\. Take one"):
        LabelGuard() | LabelGuard()
    with pytest.raises(ValueError, match=r"RPD \| LabelGuard and LabelGuard both"):
        RPD() | LabelGuard() | LabelGuard()


FOLD = torch.arange(1, SIZE, 2)[torch.arange(SIZE // 2) % 7 != 3]


def test_a_fold_is_judged_as_a_data_set_of_its_own() -> None:
    def narrow(epoch: int, _: int) -> Tensor:
        return table(epoch)[FOLD]

    labels = labels_with(0.4)
    order = SubsetRandomSampler(FOLD.tolist(), generator=torch.Generator().manual_seed(0))
    alike = SubsetRandomSampler(range(len(FOLD)), generator=torch.Generator().manual_seed(0))
    within = looped(sampler=order)
    alone = looped(labels=labels[FOLD], size=len(FOLD), sampler=alike)
    used, theirs = trained(within), trained(alone, narrow)
    assert used == {epoch: FOLD[part].tolist() for epoch, part in theirs.items()}
    assert within.selector.report() == alone.selector.report()
    assert within.selector.report()["label_guard_acts"]
    outside = torch.ones(SIZE, dtype=torch.bool).index_fill_(0, FOLD, False)
    assert not bool(within.ledger.fact_count[outside].any())


def test_probes_lie_in_the_pool_of_a_method_before_it() -> None:
    chain = RPD(keep_ratio=0.3) | LabelGuard()
    setup(chain, size=SIZE, targets=labels_with(0.4))
    plan = chain.plan(0, torch.arange(SIZE))
    assert len(probes_of(chain.right)) == reference.probes(300)
    assert {*probes_of(chain.right)} <= {*plan.indices.tolist()}


@pytest.mark.parametrize("given", ["nothing", "logits", "other shapes"])
def test_without_class_scores_it_says_so(given: str) -> None:
    loader = looped()
    samples, labels = next(iter(loader))
    logits = table(0)[samples].requires_grad_()
    losses = F.cross_entropy(logits, labels, reduction="none")
    told = {"nothing": (), "logits": (logits,), "other shapes": (logits, labels.float())}[given]
    with pytest.raises(ValueError, match=r"LabelGuard needs to know of each sample: logits. Call reduce\(losses, log"):
        loader.reduce(losses, *told)


def test_losses_that_are_no_single_samples_are_refused() -> None:
    loader = looped()
    samples, labels = next(iter(loader))
    logits = table(0)[samples]
    with pytest.raises(ValueError, match="LabelGuard changes the losses of single samples, and a mask or sample_ids"):
        loader.reduce(logits, logits, labels, mask=logits > 0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"targets": None}, r"LabelGuard works class by class, and no labels were found"),
        ({"epochs": None}, r"LabelGuard depends on the length of the training"),
    ],
)
def test_what_it_needs_to_be_told(changes: dict[str, Any], text: str) -> None:
    plain = DataLoader(TensorDataset(torch.arange(SIZE)), batch_size=BATCH)
    with pytest.raises(ValueError, match=text):
        wrap(plain, LabelGuard(), **({"epochs": EPOCHS, "targets": labels_with(0.4)} | changes))


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"decide=0\.8 must be below release=0\.7"):
        LabelGuard(decide=0.8)
    with pytest.raises(ValueError, match=r"least_wrong=10 is outside \[0, 1\)"):
        LabelGuard(least_wrong=10)
    with pytest.raises(ValueError, match="least_visits=-1 must be at least 0"):
        LabelGuard(least_visits=-1)


def test_labels_that_are_not_those_of_the_data_set_are_refused() -> None:
    loader = looped()
    samples, labels = next(iter(loader))
    logits = table(0)[samples]
    other = (labels + 1) % CLASSES
    with pytest.raises(ValueError, match=r"told other labels in reduce\(targets=\) than the data set has"):
        loader.reduce(F.cross_entropy(logits, other, reduction="none"), logits, other)


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_class_scores_that_are_no_numbers_say_nothing(hole: float) -> None:
    """A network that diverges for a batch, or rules classes out; the loss is the user's then."""

    def broken(epoch: int, size: int) -> Tensor:
        logits = table(epoch)
        logits[::3, 1] = hole
        return logits

    loader = looped(nonfinite="keep", labels=labels_with(0.4).where(torch.arange(SIZE) % 3 > 0, 0))
    for epoch, samples, logits, loss in steps(loader, broken):
        ruled_out = samples % 3 == 0
        if hole == -math.inf:  # a wrong label that is ruled out is not trained on
            assert bool(loss.isfinite())
            loss.backward()
            assert bool(logits.grad.isfinite().all())
        elif bool(ruled_out.any()):
            assert not bool(loss.isfinite())
        del epoch
    known = loader.ledger.fact_count > 0
    assert bool(loader.ledger.fact_sum.isfinite().all())
    assert bool(known[torch.arange(SIZE) % 3 > 0].all())
    assert bool(known[::3].any()) == (hole == -math.inf)


def test_labels_to_ignore_and_labels_without_class_score_are_left_alone() -> None:
    labels = labels_with(0.4)
    labels[::10], labels[1::10] = -100, CLASSES  # the network has no class score for the latter
    loader = looped(labels=labels)
    used: set[int] = set()
    while loader.epoch < EPOCHS:
        for samples, own in loader:
            logits = table(loader.epoch)[samples].requires_grad_()
            losses = F.cross_entropy(logits, own.where(own < CLASSES, -100), reduction="none")
            loader.reduce(losses, logits, own).backward()
            assert bool(logits.grad.isfinite().all())
            used |= {*samples.tolist()} if loader.epoch == 9 else set()
    assert loader.selector.report()["label_guard_acts"]
    assert {*range(0, SIZE, 10), *range(1, SIZE, 10)} <= used
    assert not bool(loader.ledger.fact_count[::10].any())


def test_labels_to_ignore_are_nobody_s_wrong_label_and_have_none() -> None:
    labels = labels_with(0.4).where(torch.arange(SIZE) % 2 > 0, -100)
    for seed in range(5):
        guard = setup(LabelGuard(), size=SIZE, targets=labels, seed=seed)
        guard.plan(0, torch.arange(SIZE))
        probes = probes_of(guard)
        assert len(probes) == reference.probes(SIZE // 2)
        assert all(i % 2 for i in probes)


def test_samples_that_the_loop_ignores_are_left_alone() -> None:
    """Of some, the loop tells that their label is none: neither a probe's label nor a score is theirs then."""
    loader, probes = looped(), 0
    for _ in range(3):
        for samples, labels in loader:
            logits = table(loader.epoch)[samples].requires_grad_()
            targets = labels.where(samples % 4 > 0, -100)
            loader.reduce(F.cross_entropy(logits, targets, reduction="none"), logits, targets).backward()
            assert bool((logits.grad[samples % 4 == 0] == 0).all())
            probes += sum(i % 4 == 0 for i in samples.tolist() if i in probes_of(loader.selector))
    assert probes > 0
    assert (loader.ledger.fact_count > 0).tolist() == [i % 4 > 0 for i in range(SIZE)]


@pytest.mark.parametrize("labels", [torch.zeros(SIZE).long(), torch.arange(20) % 2, torch.full((SIZE,), -100)])
def test_where_no_probe_can_be_had_it_does_nothing(labels: Tensor) -> None:
    """One class, too few samples for one of 25, or no label at all."""
    guard = LabelGuard(least_visits=0)
    loader = looped(guard, labels=labels, size=len(labels))
    for epoch, samples, logits, loss in steps(loader):
        assert torch.equal(loss, F.cross_entropy(logits, labels[samples], reduction="none").mean()) or loss.isnan()
        del epoch
    assert loader.stats.trained == len(labels) * EPOCHS
    assert guard.notes() == ["LabelGuard cannot act: there are too few labelled samples, or one class only."]


def test_samples_that_are_all_alike_are_all_kept() -> None:
    guard = LabelGuard(least_visits=0, least_wrong=0)
    loader = looped(guard, labels=torch.arange(SIZE) % CLASSES)
    used = trained(loader, lambda epoch, size: torch.zeros(size, CLASSES))
    assert all(len(part) == SIZE for part in used.values())


def test_two_classes() -> None:
    labels = labels_with(0.3) % 2
    guard = LabelGuard(least_visits=0)
    used = trained(looped(guard, labels=labels), lambda epoch, size: table(epoch)[:, :2])
    assert all(part for part in used.values())


def test_no_class_is_lost() -> None:
    """A class of one, and one of which every label looks wrong."""
    labels = torch.arange(SIZE) % 3
    labels[100], labels[200:210] = 4, 3
    guard = LabelGuard()
    setup(guard, size=SIZE, targets=labels)
    guard._stage, guard._doubt = "over", (labels >= 3) * 0.98
    counts = torch.stack([torch.bincount(labels[guard.plan(e, torch.arange(SIZE)).indices]) for e in range(7, 40)])
    assert bool((counts[:, :3].sum(dim=1) == SIZE - 11).all())
    assert bool((counts[:, 4] == 1).all())
    assert bool((counts[:, 3] >= 1).all())
    assert counts[:, 3].sum() < 36


@pytest.mark.parametrize(("epochs", "acting"), [(1, []), (2.5, []), (3, [2]), (5, [2, 3, 4]), (100, range(40, 100))])
def test_when_it_acts(epochs: float, acting: Any) -> None:
    """From the first epoch at 0.4 or later and before 0.7, if an epoch at 0.12 or later precedes it."""
    guard = LabelGuard(least_visits=0, least_wrong=0)
    labels = labels_with(0.4)
    setup(guard, size=SIZE, targets=labels, epochs=epochs)
    everything, acts = torch.arange(SIZE), []
    for epoch in range(math.ceil(epochs)):
        plan = guard.plan(epoch, everything)
        if len(plan.indices) < SIZE:
            acts.append(epoch)
        _, facts = guard.observe(epoch, everything, torch.zeros(SIZE), table(epoch), labels)
        guard.run.ledger.record_facts(everything, facts)
        assert bool(facts.isnan().all()) == (epoch < 0.12 * epochs or not len(probes_of(guard)))
    assert acts == [*acting]


def test_an_estimate_knows_it() -> None:
    from estimation.test_measure import stage
    from leantrain.estimation.rehearsal import Rehearsal

    losses = torch.rand(4, SIZE, generator=torch.Generator().manual_seed(0)) * 0.2
    made = stage(SIZE, BATCH, epochs=10, targets=labels_with(0.0), rehearsal=Rehearsal(losses)).run(
        LabelGuard(least_visits=0)
    )
    assert [epoch.trained for epoch in made.epochs] == [SIZE] * 10
    assert not made.exact
    losses[:, torch.rand(SIZE, generator=torch.Generator().manual_seed(1)) < 0.4] = 6.0
    noisy = stage(SIZE, BATCH, epochs=10, targets=labels_with(0.0), rehearsal=Rehearsal(losses)).run(
        LabelGuard(least_visits=0)
    )
    assert noisy.epochs[-1].trained < SIZE
