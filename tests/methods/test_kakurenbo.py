"""KAKURENBO against plain loops over its four steps (references/kakurenbo.py)."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import references.kakurenbo as reference
from leantrain import RPD, Ledger, Loader, Plan, Run, Selector, scorer
from leantrain.methods.kakurenbo import Kakurenbo, learnt
from toys import CLASSES, SIZE, Numbers, flat, run_epoch, setup, wrapped

EPOCHS = 10
OFF = ["hide", "move_back", "reduce_fraction", "adjust_lr"]


def table() -> Tensor:
    """(2, EPOCHS, SIZE, CLASSES) logits, in training and in eval mode, that favour the label more and more."""
    logits = torch.randn(2, EPOCHS, SIZE, CLASSES, generator=torch.Generator().manual_seed(3))
    label = F.one_hot(torch.tensor(Numbers().targets), CLASSES)
    return logits + label * torch.linspace(1, 4, EPOCHS)[:, None, None]


class Model(nn.Module):
    """Looks its logits up, and notes whom it saw in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.epoch = table(), 0
        self.seen_in_eval: list[int] = []

    def forward(self, indices: Tensor) -> Tensor:
        if not self.training:
            self.seen_in_eval += indices.tolist()
        return self.table[0 if self.training else 1, self.epoch, indices]


class Training:
    """A user's loop around a wrapped loader; ``epoch()`` gives what the reference gives."""

    def __init__(self, selector: Selector, **options: Any) -> None:
        self.model = Model()
        score = scorer(self.model, F.cross_entropy)
        self.loader: Loader = wrapped(selector, epochs=EPOCHS, score=score, **options)

    def epoch(self) -> reference.Epoch:
        self.model.epoch, self.model.seen_in_eval = self.loader.epoch, []
        trained, factors = [], set()
        for number, (indices, labels) in enumerate(self.loader):
            if number == 0:
                self.model.seen_in_eval = []  # the scoring function was tried on the first batch of the training
            factors.add(self.loader.lr_factor)
            trained += indices.tolist()
            logits = self.model(indices)
            self.loader.reduce(F.cross_entropy(logits, labels, reduction="none"), logits=logits, targets=labels)
        (factor,) = factors
        return reference.Epoch(sorted(trained), sorted(self.model.seen_in_eval), factor)


def plain(pool: list[int], **settings: Any) -> list[reference.Epoch]:
    logits = table()

    def look_up(mode: str, epoch: int, i: int) -> list[float]:
        return logits[0 if mode == "train" else 1, epoch, i].tolist()

    return reference.Kakurenbo(pool, Numbers().targets, look_up, EPOCHS, **settings).train()


def assert_same(ours: list[reference.Epoch], theirs: list[reference.Epoch]) -> None:
    assert [(e.trained, e.hidden) for e in ours] == [(e.trained, e.hidden) for e in theirs]
    assert [e.lr_factor for e in ours] == pytest.approx([e.lr_factor for e in theirs])


@pytest.mark.parametrize("off", [None, *OFF])
@pytest.mark.parametrize(("fraction", "tau"), [("0.3", 0.7), ("0.55", 0.35)])
def test_a_training_is_the_four_steps(off: str | None, fraction: str, tau: float) -> None:
    switches = {} if off is None else {off: False}
    training = Training(Kakurenbo(fraction=float(fraction), tau=tau, **switches), shuffle=True)
    ours = [training.epoch() for _ in range(EPOCHS)]
    assert_same(ours, plain(list(range(SIZE)), fraction=fraction, tau=tau, **switches))
    hidden = [len(epoch.hidden) for epoch in ours]
    assert hidden[0] == 0
    assert training.loader.stats.scored == sum(hidden)
    assert (max(hidden) > 0) == (off != "hide")


def test_each_part_matters() -> None:
    """Or the comparison with the loops would prove nothing."""
    runs = [Training(Kakurenbo(fraction=0.55, **({} if off is None else {off: False}))) for off in [None, *OFF]]
    histories = [[run.epoch() for _ in range(EPOCHS)] for run in runs]
    assert all(histories[i] != histories[j] for i in range(5) for j in range(i))


def test_within_the_pool_of_another() -> None:
    pool = setup(RPD(keep_ratio=0.6)).plan(0, torch.arange(SIZE)).indices.tolist()
    training = Training(RPD(keep_ratio=0.6) | Kakurenbo(fraction=0.5))
    ours = [training.epoch() for _ in range(EPOCHS)]
    assert_same(ours, plain(pool, fraction="0.5"))
    assert max(epoch.lr_factor for epoch in ours) > 1


def test_resumed_training_is_the_straight_one() -> None:
    straight, resumed = Training(Kakurenbo(fraction=0.5)), Training(Kakurenbo(fraction=0.5))
    for _ in range(4):
        straight.epoch()
    file = io.BytesIO()
    torch.save(straight.loader.state_dict(), file)
    file.seek(0)
    resumed.loader.load_state_dict(torch.load(file, weights_only=True))
    rest = [straight.epoch() for _ in range(EPOCHS - 4)]
    assert [resumed.epoch() for _ in range(EPOCHS - 4)] == rest
    assert rest[0].hidden


@pytest.mark.parametrize("epochs", [5, 30, 100, 200, 7])
def test_the_fraction_steps_down(epochs: int) -> None:
    facts = [(i / 1000, 1, 0.9) for i in range(100)]
    for fraction in ("0.3", "0.57"):
        for epoch in range(epochs):
            found = plan(facts, Kakurenbo(fraction=float(fraction)), epoch=epoch, epochs=epochs)
            share = reference.largest_fraction(epoch, epochs, fraction)
            assert count(found.refresh) == math.floor(share * 100), (fraction, epoch)


def test_other_milestones() -> None:
    facts = [(i / 1000, 1, 0.9) for i in range(100)]
    selector = Kakurenbo(fraction=0.5, milestones=[0, 0.5], factors=[0.2, 1.0])  # lists come from YAML
    assert [count(plan(facts, selector, epoch=e, epochs=4).refresh) for e in range(6)] == [10, 10, 50, 50, 50, 50]


def count(indices: Tensor | None) -> int:
    return 0 if indices is None else len(indices)


def plan(facts: list[tuple[float, int, float]], selector: Selector, *, epoch: int = 0, epochs: int = 10) -> Plan:
    """The plan where ``facts`` holds each sample's last loss (NaN), correctness (-1) and confidence (NaN)."""
    ledger = Ledger(len(facts))
    columns = [torch.tensor(column) for column in zip(*facts, strict=True)]
    ledger.loss, ledger.correct, ledger.confidence = columns[0].float(), columns[1].to(torch.int8), columns[2].float()
    return setup(selector, size=len(facts), ledger=ledger, epochs=epochs).plan(epoch, torch.arange(len(facts)))


FACT = st.tuples(
    st.sampled_from([math.nan, 0.0, 0.125, 0.25, 1.0, 8.0]),
    st.sampled_from([-1, 0, 1, 1, 1]),
    st.sampled_from([math.nan, 0.25, 0.5, 0.75, 1.0]),
)


@given(
    facts=st.lists(FACT, min_size=1, max_size=50),
    fraction=st.sampled_from(["0", "0.1", "0.3", "0.57", "0.99"]),
    tau=st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    move_back=st.booleans(),
)
def test_whom_it_hides(facts: list[Any], fraction: str, tau: float, move_back: bool) -> None:
    unknown = {
        i: reference.Known(
            None if math.isnan(loss) else loss,
            None if correct < 0 else correct == 1,
            None if math.isnan(confidence) else confidence,
        )
        for i, (loss, correct, confidence) in enumerate(facts)
    }
    pool = list(range(len(facts)))
    share = reference.largest_fraction(0, 10, fraction)
    hidden = reference.hidden(unknown, pool, share, tau, move_back=move_back)
    found = plan(facts, Kakurenbo(fraction=float(fraction), tau=tau, move_back=move_back))
    assert found.indices.tolist() == [i for i in pool if i not in hidden]
    assert ([] if found.refresh is None else found.refresh.tolist()) == hidden
    assert found.lr_factor == pytest.approx(len(pool) / (len(pool) - len(hidden)))
    assert found.weights is None


def test_an_unsure_prediction_is_moved_back() -> None:
    confidence = torch.tensor([0.71, 0.69, 0.9, 0.9, math.nan, 0.9])
    correct = torch.tensor([1, 1, 0, 1, 1, -1], dtype=torch.int8)
    assert learnt(correct, confidence, 0.7).tolist() == [True, False, False, True, False, False]
    assert learnt(torch.tensor([1]), torch.tensor([0.75]), 0.75).tolist() == [True]  # only below tau it moves back


def test_a_data_set_of_one_is_never_hidden() -> None:
    assert plan([(0.0, 1, 1.0)], Kakurenbo(fraction=0.99)).indices.tolist() == [0]


def test_there_is_nothing_random() -> None:
    facts = [(i / 10, 1, 0.9) for i in range(20)]
    assert plan(facts, Kakurenbo()).indices.tolist() == plan(facts, Kakurenbo()).indices.tolist()
    assert Kakurenbo().state_dict() == {}


@pytest.mark.parametrize(
    ("selector", "needs"),
    [
        (lambda: Kakurenbo(), {"loss", "score", "correct", "confidence"}),
        (lambda: Kakurenbo(move_back=False), {"loss", "score"}),
        (lambda: Kakurenbo(hide=False), set()),
    ],
)
def test_what_it_needs(selector: Callable[[], Selector], needs: set[str]) -> None:
    assert selector().needs == needs
    if "correct" in needs:
        with pytest.raises(ValueError, match=r"needs to know of each sample: confidence, correct"):
            run_epoch(wrapped(selector()))
    else:
        assert len(flat(run_epoch(wrapped(selector())))) == SIZE
    if needs:
        with pytest.raises(ValueError, match=r"needs a scoring function"):
            wrapped(selector(), score=None)


def test_only_the_reduced_fraction_needs_the_length_of_the_training() -> None:
    with pytest.raises(ValueError, match=r"KAKURENBO with reduce_fraction=True depends on the length"):
        setup(Kakurenbo(), epochs=None)
    for settings in ({"reduce_fraction": False}, {"hide": False}):
        selector = Kakurenbo(**settings)
        selector.setup(Run(size=SIZE, batch_size=4, epochs=None, seed=0, ledger=Ledger(SIZE)))
        assert len(selector.plan(0, torch.arange(SIZE)).indices) == SIZE


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"fraction": 1}, r"fraction=1 is outside \[0, 1\)"),
        ({"fraction": 30}, r"fraction=30 is outside .* For 30 % pass 0\.3"),
        ({"tau": 1.1}, r"tau=1\.1 is outside \[0, 1\]"),
        ({"tau": math.nan}, r"tau=nan is outside"),
        ({"milestones": (0, 0.6, 0.3, 0.8)}, r"milestones=.* must ascend from 0"),
        ({"milestones": (0.1, 0.3, 0.6, 0.8)}, r"milestones=.* must ascend from 0"),
        ({"milestones": (), "factors": ()}, r"milestones=\(\) must ascend from 0"),
        ({"milestones": (0, 30, 60, 80)}, r"milestones\[1\]=30 is outside .* For 30 % pass 0\.3"),
        ({"milestones": 0.3}, r"milestones=0\.3 must be a sequence"),
        ({"factors": "high"}, r"factors='high' must be a sequence"),
        ({"factors": (1, 0.8)}, r"4 milestones and 2 factors: give one factor for each"),
        ({"factors": (1, 0.8, 0.6, 1.4)}, r"factors\[3\]=1\.4 is outside"),
        ({"hide": 1}, r"hide=1 must be True or False"),
        ({"move_back": None}, r"move_back=None must be True or False"),
        ({"reduce_fraction": "no"}, r"reduce_fraction='no' must be True or False"),
        ({"adjust_lr": 0.5}, r"adjust_lr=0\.5 must be True or False"),
    ],
)
def test_bad_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        Kakurenbo(**settings)


def test_defaults_of_the_sources() -> None:
    assert Kakurenbo().settings() == {
        "fraction": 0.3,
        "tau": 0.7,
        "milestones": (0.0, 0.3, 0.6, 0.8),
        "factors": (1.0, 0.8, 0.6, 0.4),
        "hide": True,
        "move_back": True,
        "reduce_fraction": True,
        "adjust_lr": True,
    }
