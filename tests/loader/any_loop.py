"""Any method in any loop over any sampler, watched: what the loader gives and knows beside what a plain model says.

python tests/loader/any_loop.py --examples 1000 --seeds 0 1 2 3 4 --out results/reliability/property.json

Sample i is i, and its losses tell who it is and in which pass it was met, so that a mistaken identity shows.
"""

import argparse
import copy
import json
import math
import re
import sys
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from leantrain import wrap
from references.any_loop import Known, Presented, cut, filtered, within
from toys import METHODS, OWN_ORDER, SIZE, Numbers

ONLINE = ("sb", "adonis", "rho-loss", "class floor")  # these judge batch by batch, where they do not recycle losses
PART = [*range(0, SIZE, 2), 1, 7, 9]  # a fold
PAST = 10  # passes that losses tell apart


def loss_of(samples: Tensor, turn: int) -> Tensor:
    """(B,) exact in float32: the sample and the pass can be read off, and in each pass others are large."""
    return ((samples * 7 + turn * 13) % 41 + 1 + samples / 64 + (turn % PAST) / 1024).float()


def score_of(samples: Tensor, turn: int) -> Tensor:
    return loss_of(samples, turn + 3) + 1 / 2048


class Watched(Numbers):
    """Numbers of which only some may be read, in whichever process."""

    def __init__(self, allowed: list[int]) -> None:
        super().__init__()
        self.allowed = frozenset(allowed)

    def __getitem__(self, index: int) -> tuple[int, int]:
        assert index in self.allowed, f"sample {index} is not the sampler's, and was read"
        return int(index), self.targets[index]


class Own(Sampler):
    """A sampler of one's own: a part in random order, some of it twice."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        yield from (PART[place] for place in torch.randperm(len(PART), generator=self.generator).tolist())
        yield from PART[:5]


class Sized(Own):
    def __len__(self) -> int:
        return len(PART) + 5


class Buckets(BatchSampler):
    """Batches of samples that leave the same rest, with the attributes of torch's own."""

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        for rest in range(3):
            same = [index for index in order if index % 3 == rest]
            yield from (same[start : start + self.batch_size] for start in range(0, len(same), self.batch_size))

    def __len__(self) -> int:
        return sum(math.ceil(len(range(rest, SIZE, 3)) / self.batch_size) for rest in range(3))


class Budget:
    """As many samples a batch as a budget of tokens holds; nothing else is known of it."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in torch.randperm(SIZE, generator=self.generator).tolist():
            if sum(map(tokens, [*batch, index])) > 24:
                yield batch
                batch = []
            batch.append(index)
        yield batch


def tokens(index: int) -> int:
    return 1 + index * 7 % 9


def as_dict(samples: list[tuple[int, int]]) -> dict[str, Tensor]:
    """A ``collate_fn`` of the user's."""
    ids, labels = zip(*samples, strict=True)
    return {"id": torch.tensor(ids), "label": torch.tensor(labels)}


def by_size(samples: list[tuple[int, int]]) -> dict[str, Tensor]:
    """One that changes the order, so that losses would go to other samples."""
    return as_dict(sorted(samples, reverse=True))


WEIGHTS = [0.0 if index % 5 == 0 else 1.0 + index % 3 for index in range(SIZE)]
SAMPLERS: dict[str, tuple[list[int], Callable[[Any, torch.Generator], dict[str, Any]]]] = {
    # what it may give, and arguments of DataLoader
    "shuffle": ([*range(SIZE)], lambda case, rng: case.batches | {"shuffle": True, "generator": rng}),
    "sequential": ([*range(SIZE)], lambda case, rng: case.batches),
    "subset": (PART, lambda case, rng: case.batches | {"sampler": SubsetRandomSampler(PART, rng)}),
    "weighted": (
        [index for index in range(SIZE) if WEIGHTS[index]],
        lambda case, rng: case.batches | {"sampler": WeightedRandomSampler(WEIGHTS, 2 * SIZE, generator=rng)},
    ),
    "replacement": (
        [*range(SIZE)],
        lambda case, rng: case.batches | {"sampler": RandomSampler(range(SIZE), True, 60, generator=rng)},
    ),
    "fewer": (
        [*range(SIZE)],
        lambda case, rng: case.batches | {"sampler": RandomSampler(range(SIZE), num_samples=25, generator=rng)},
    ),
    "own": (PART, lambda case, rng: case.batches | {"sampler": Sized(rng)}),
    "own, unsized": (PART, lambda case, rng: case.batches | {"sampler": Own(rng)}),
    "batch sampler": (
        [*range(SIZE)],
        lambda case, rng: {
            "batch_sampler": BatchSampler(
                RandomSampler(range(SIZE), generator=rng), case.batch_size, drop_last=case.drop_last
            )
        },
    ),
    "buckets": (
        [*range(SIZE)],
        lambda case, rng: {"batch_sampler": Buckets(SequentialSampler(range(SIZE)), case.batch_size, False)},
    ),
    "budget": ([*range(SIZE)], lambda case, rng: {"batch_sampler": Budget(rng)}),
    "listed": (PART, lambda case, rng: {"batch_sampler": [PART[start::6] for start in range(6)]}),
}
REPLACEABLE = ("shuffle", "sequential", "subset", "batch sampler")  # shuffle or not, and of what: no more is meant
MEANT = ("buckets", "budget", "listed")  # batches that have a meaning
UNSIZED = ("own, unsized", "budget")


@dataclass(frozen=True)
class Case:
    """One training: method, sampler, loop, and the rest that varies.

    Args:
        leave: steps after which each pass is left, None for never.
        stop: the step after which the training is cut short, to go on from its state.
        looks: whether the loop reads what a loader tells of itself all the time.
    """

    method: str
    sampler: str
    loop: str
    batch_size: int
    drop_last: bool
    epochs: float | None
    steps: int | None
    leave: int | None
    stop: int
    workers: int
    looks: bool
    collate: Callable[[list[tuple[int, int]]], Any] | None
    seed: int

    @property
    def batches(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "drop_last": self.drop_last}

    @property
    def turns(self) -> int:
        """The most passes."""
        return 40 if self.epochs is None else math.ceil(self.epochs)

    @property
    def online(self) -> bool:
        return any(name in self.method for name in ONLINE) and "recycled" not in self.method

    @property
    def refused(self) -> str | None:
        """What an error has to say, where there has to be one."""
        if self.sampler in UNSIZED and (self.loop == "counted" or self.steps):
            return "needs a sampler with a length"
        if self.method in OWN_ORDER and self.sampler not in REPLACEABLE:
            return "cannot follow a custom sampler, nor one that draws with repeats or a part of the data"
        if self.collate is by_size:
            return "gives samples back in another order|fewer than one batch of"
        return None

    def plain(self, dataset: Any, workers: int) -> DataLoader[Any]:
        """The user's DataLoader."""
        options = SAMPLERS[self.sampler][1](self, torch.Generator().manual_seed(self.seed))
        return DataLoader(dataset, **options, num_workers=workers, collate_fn=self.collate)


class Life:
    """A training within one process."""

    def __init__(self, case: Case, state: dict[str, Any] | None = None) -> None:
        self.case, self.known = case, Known(SIZE)
        self.turn = self.done = 0  # passes, steps of this one
        self.total = 0
        self.loader = wrap(
            case.plain(Watched(SAMPLERS[case.sampler][0]), case.workers),
            METHODS[case.method](),
            score=self.score,
            epochs=case.epochs,
            steps=case.steps,
            seed=case.seed,
            goal="balanced",
        )
        assert self.loader.lr_factor == 1  # who reads it is not warned that nobody does
        self.twin = replace(case, drop_last=False).plain(Numbers(), 0)  # draws as the user's own does
        self.story: list[tuple[list[int], float, float]] = []  # of each batch told: samples, loss, progress
        self.scores: list[tuple[list[int], list[float]]] = []  # not in the model yet
        self.fetched = 0
        self.left = False  # whether the last pass was
        self.drawn: Counter[int] = Counter()
        self.used: Counter[int] = Counter()
        self.fresh = state is None
        self.ahead = 0.0  # progress at the last look
        if state:
            self.loader.load_state_dict(state["loader"])
            self.turn, self.total = self.loader.epoch, state["total"]
            self.done = state["done"] if self.turn == state["turn"] else 0

    def state(self) -> dict[str, Any]:
        kept = {"turn": self.turn, "done": self.done, "total": self.total}
        return copy.deepcopy(kept | {"loader": self.loader.state_dict()})

    def score(self, batch: Any) -> Tensor:
        samples = ids(batch)
        losses = score_of(samples, self.turn)
        self.scores.append((samples.tolist(), losses.tolist()))
        return losses

    def train(self, stop: int | None = None) -> dict[str, Any] | None:
        """To the end, or the state after ``stop`` steps."""
        if stop == 0:
            return self.state()
        while self.turn < self.case.turns and self.total != self.case.steps:
            self.begin()
            left = False
            for _ in LOOPS[self.case.loop](self):
                self.done += 1
                self.total += 1
                self.check_known()
                left = self.total == self.case.steps or (self.done == self.case.leave and not self.over)
                if (
                    stop is not None and self.total >= stop and not left
                ):  # one taken where a pass is left would go on in that pass
                    return self.state()
                if left:
                    break
            self.end(left)
            self.turn, self.done = self.turn + 1, 0
        return None

    def begin(self) -> None:
        """A pass begins."""
        self.given: list[list[int]] = []
        self.passed: list[Presented] = []
        self.over = False
        self.length: int | None = None
        if not self.fresh:
            return
        self.user = self.draw()
        self.drawn.update(sample for batch in self.user for sample in batch)
        if self.case.looks:
            repr(self.loader)
            assert self.loader.epoch == self.turn - self.left  # one that was left is over with the next one's beginning
            if self.case.sampler not in UNSIZED and not self.left:
                self.length = len(self.loader)

    def draw(self) -> list[list[int]]:
        """What the user's own DataLoader would give now."""
        return [ids(batch).tolist() for batch in self.twin]

    def fetch(self, says: bool = False) -> Iterator[Presented]:
        """The batches of the pass; ``says``: the loop keeps ``loader.indices``."""
        for batch in self.loader:
            samples = ids(batch).tolist()
            self.fetched += 1
            if self.fetched == 1 and self.scores and not self.loader.stats.scored:
                self.scores.pop()  # a scoring function is tried on the first batch, and nothing noted
            self.note_scores()
            if says:
                assert self.loader.indices.tolist() == samples
            plan = self.loader.plan
            weights = dict.fromkeys(range(SIZE), 1.0)
            if plan.weights is not None:
                weights |= dict(zip(plan.indices.tolist(), plan.weights.tolist(), strict=True))
            if not self.given:
                self.plan = plan
            self.given.append(samples)
            self.passed.append(Presented(self.turn, samples, [weights[sample] for sample in samples]))
            if self.case.looks:
                self.look()
            yield self.passed[-1]
        self.over = True
        self.note_scores()

    def note_scores(self) -> None:
        for samples, losses in self.scores:
            self.known.scored(self.turn, samples, losses)
        self.scores = []

    def tell(self, batch: Presented, places: list[int] | None = None, *, said: bool = False, more: float = 0) -> None:
        """The losses of a batch, or of some places of it: ``said`` whose they are, or not; ``more`` than at first."""
        places = [*range(len(batch.samples))] if places is None else places
        samples = torch.tensor([batch.samples[place] for place in places])
        losses = (loss_of(samples, batch.epoch) + more).requires_grad_()
        given = self.loader.reduce(losses, indices=samples if said else None)
        (gradient,) = torch.autograd.grad(given, losses)
        mean, expected = self.known.told(batch, places, losses.tolist())
        assert given.item() == pytest.approx(mean, rel=1e-5)
        assert gradient.tolist() == pytest.approx(expected, rel=1e-5)
        assert self.loader.last_loss == pytest.approx(losses.mean().item(), rel=1e-5)
        self.story.append((samples.tolist(), given.item(), self.loader.progress))
        if self.case.looks and not self.over:
            self.look()

    def look(self) -> None:
        """What the loader tells of itself within a pass changes nothing, and is right."""
        loader, case = self.loader, self.case
        assert loader.epoch == self.turn
        assert str(loader.stats)
        assert repr(loader).startswith("Loader(")
        assert loader.lr_factor > 0
        if not self.fresh:
            return
        assert loader.progress >= self.ahead - 1e-9 or case.steps  # batches that a pass left behind were no steps
        self.ahead = loader.progress
        if case.steps:
            waiting = sum(not batch.told for batch in self.passed)
            assert loader.progress == pytest.approx(min(1.0, (self.known.steps + waiting) / case.steps))
        elif not case.online:
            assert case.epochs
            batches, through = self.expected()
            share = sum(map(len, self.given)) / through
            assert batches is None or loader.progress == pytest.approx((self.turn + self.share * share) / case.epochs)

    @property
    def share(self) -> float:
        """Of the pass that belongs to the training."""
        return 1.0 if self.case.epochs is None else min(1.0, self.case.epochs - self.turn)

    @property
    def pool(self) -> list[int]:
        """What a method can choose from in this pass."""
        allowed = SAMPLERS[self.case.sampler][0]
        own = self.case.sampler in (*MEANT, "own", "own, unsized")
        return sorted({sample for batch in self.user for sample in batch}) if own else allowed

    def expected(self) -> tuple[list[list[int]] | None, int]:
        """The batches of this pass, as far as no choice is made in its course; and samples that it goes through."""
        order = self.plan.indices.tolist()
        share = self.share
        if self.case.method in OWN_ORDER:
            sizes = self.plan.batch_sizes or [1] * len(order)
            return None, sum(sizes[: math.ceil(share * len(sizes) - 1e-6)])
        meant = self.case.sampler in MEANT
        size = None if meant else self.case.batch_size
        left_out = share < 1 or set(order) < set(self.pool)
        return filtered(self.user, set(order), size, self.case.drop_last and not meant, share, left_out)

    def check_known(self) -> None:
        """The ledger is the model's."""
        ledger, known, stats = self.loader.ledger, self.known, self.loader.stats
        if self.fresh:
            for name in ("loss", "score"):
                found, right = getattr(ledger, name), torch.tensor(getattr(known, name))
                same = (found == right) | (found.isnan() & right.isnan())
                assert bool(same.all()), f"{name} of samples {(~same).nonzero().flatten().tolist()}"
            for name in ("loss_epoch", "score_epoch", "trained", "trained_epoch"):
                assert getattr(ledger, name).tolist() == getattr(known, name), name
            assert (stats.trained, stats.steps) == (sum(known.trained), known.steps)

    def end(self, left: bool) -> None:
        """A pass is over: what came of it."""
        case, loader = self.case, self.loader
        self.note_scores()
        self.left = left and not self.over
        if left and (self.turn + 1 == case.turns or self.total == case.steps):
            loader.end_epoch()
        if not self.fresh:
            return
        if not left and case.loop != "across":
            assert loader.epoch == self.turn + 1
            if case.epochs:
                assert loader.progress == pytest.approx(min(1.0, (self.turn + 1) / case.epochs))
        self.check_known()
        self.used.update(sample for batch in self.given for sample in batch)
        if not self.given:
            return
        pool, plan = set(self.pool), self.plan
        assert set(plan.indices.tolist()) <= pool
        assert plan.refresh is None or set(plan.refresh.tolist()) <= pool
        if case.method not in OWN_ORDER:
            assert self.used <= self.drawn
        if case.sampler in MEANT:
            user = iter(self.user)
            for batch in self.given:
                assert any(within(batch, theirs) for theirs in user), f"{batch} is of none of the user's batches"
        elif case.online:
            most = case.batch_size + (not case.drop_last)
            assert all(len(batch) <= most for batch in self.given)
        if not case.online and not case.steps:
            self.check_batches(left)
        if self.length is not None and not left:
            exact = not case.online and (case.sampler in REPLACEABLE or (case.method == "full" and self.share == 1))
            assert len(self.given) == self.length if exact else len(self.given) <= self.length, "len(loader)"

    def check_batches(self, left: bool) -> None:
        expected, _ = self.expected()
        if expected is None:
            order, sizes = self.plan.indices.tolist(), self.plan.batch_sizes
            assert len(order) < 10 or order != sorted(order), "the order of the data set"
            if sizes is None:
                expected, _ = filtered(
                    [order], set(order), self.case.batch_size, self.case.drop_last, self.share, False
                )
            else:
                expected = cut(order, list(sizes[: math.ceil(self.share * len(sizes) - 1e-6)]))
        assert self.given == (expected[: len(self.given)] if left else expected)


def ids(batch: Any) -> Tensor:
    return batch["id"] if isinstance(batch, dict) else batch[0]


def plain(life: Life) -> Iterator[None]:
    for batch in life.fetch():
        life.tell(batch)
        yield


def ahead(count: int) -> Callable[[Life], Iterator[None]]:
    """A prefetcher: ``count`` batches are fetched before the first one's turn."""

    def loop(life: Life) -> Iterator[None]:
        held: deque[Presented] = deque()
        for batch in life.fetch(says=True):
            held.append(batch)
            if len(held) > count:
                life.tell(held.popleft(), said=True)
                yield
        while held:
            life.tell(held.popleft(), said=True)
            yield

    return loop


def accumulated(life: Life) -> Iterator[None]:
    """All batches of a step are fetched before the first one's turn."""
    batches = life.fetch(says=True)
    while group := [batch for _, batch in zip(range(3), batches, strict=False)]:
        for batch in group:
            life.tell(batch, said=True)
        yield


def twice(life: Life) -> Iterator[None]:
    """SAM, L-BFGS: two losses a batch."""
    for batch in life.fetch():
        life.tell(batch)
        life.tell(batch, more=100)
        yield


def pieces(life: Life) -> Iterator[None]:
    """Micro-batches cut from a batch."""
    for batch in life.fetch():
        for start in range(0, len(batch.samples), 3):
            life.tell(batch, [*range(start, min(start + 3, len(batch.samples)))], said=True)
        yield


def evaluated(life: Life) -> Iterator[None]:
    """Another loader is gone through in between; and a validation batch is told by mistake, as it is after the pass."""
    for batch in life.fetch():
        life.tell(batch)
        with torch.no_grad():
            assert sum(len(ids(other)) for other in DataLoader(Numbers(), 16)) == SIZE
            mistaken(life, len(batch.samples))
        yield
    if life.given:
        mistaken(life, len(life.given[-1]))


def mistaken(life: Life, count: int) -> None:
    with pytest.raises(RuntimeError, match="validation batch"):
        life.loader.reduce(torch.full((count,), 1e6))


def looked(life: Life) -> Iterator[None]:
    """Each pass is followed by one without training: accuracy on the training set."""
    yield from plain(life)
    life.turn += 1
    if life.fresh:
        life.draw()
    with torch.no_grad():
        seen = [sample for batch in life.loader for sample in ids(batch).tolist()]
    assert set(seen) <= set(SAMPLERS[life.case.sampler][0])
    life.note_scores()
    life.turn -= 1


def counted(life: Life) -> Iterator[None]:
    """As Lightning's Trainer: ``len(loader)`` batches, then the end."""
    batches = life.fetch()
    for _ in range(len(life.loader)):
        batch = next(batches, None)
        if batch is None:
            break
        life.tell(batch)
        yield
    life.loader.end_epoch()


def unsaid(life: Life) -> Iterator[None]:
    """A prefetcher that does not say whose losses they are: refused before anything is known wrongly."""
    held: Presented | None = None
    for batch in life.fetch():
        if held is not None:
            life.tell(held)
            yield
        held = batch
    if held is not None:
        life.tell(held)
        yield


LOOPS: dict[str, Callable[[Life], Iterator[None]]] = {
    "plain": plain,
    "one ahead": ahead(1),
    "two ahead": ahead(2),
    "accumulated": accumulated,
    "twice": twice,
    "pieces": pieces,
    "evaluated": evaluated,
    "looked": looked,
    "counted": counted,
    "unsaid": unsaid,
}
SAID = "fewer than one batch of", "kept too few samples for a single batch"  # warnings of what a method chose


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """All that a training may be made of; workers seldom, they take their time."""
    epochs = draw(st.sampled_from([2, 3, 2.5, None]))
    return Case(
        method=draw(st.sampled_from(list(METHODS))),
        sampler=draw(st.sampled_from(list(SAMPLERS))),
        loop=draw(st.sampled_from(list(LOOPS))),
        batch_size=draw(st.integers(2, 9)),
        drop_last=draw(st.booleans()),
        epochs=epochs,
        steps=draw(st.integers(5, 30)) if epochs is None else None,
        leave=draw(st.sampled_from([None, None, 1, 2, 4])),
        stop=draw(st.integers(0, 24)),
        workers=draw(st.sampled_from([0] * 39 + [2])),
        looks=draw(st.booleans()),
        collate=draw(st.sampled_from([None, None, None, as_dict, as_dict, by_size])),
        seed=draw(st.integers(0, 1000)),
    )


def refused_rightly(life: Life, error: str) -> bool:
    """Whether the error names a cause that is there, before anything was known wrongly."""
    life.check_known()
    if life.case.loop == "unsaid" and "fetches" in error and "ahead" in error:
        return life.total == 0 and life.fetched > 0
    few = re.search(r"selects (\d+) samples, fewer than one batch of (\d+)", error)
    return bool(few) and int(few[1]) < int(few[2]) and life.turn == 0


def check(case: Case) -> str:
    """AssertionError where ``case`` ends otherwise than the model says; else how it ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "This DataLoader will create")
        for text in SAID:
            warnings.filterwarnings("ignore", f".*{text}")
        if case.looks or case.loop == "counted":  # what a schedule made of it would not end with the training
            warnings.filterwarnings("ignore", r"len\(loader\) was [\d,]+ before the training")
        if case.leave or case.steps:
            warnings.filterwarnings("ignore", r"Epoch \d+ was left before .* refreshed")
        if case.refused:
            with pytest.raises((ValueError, TypeError), match=case.refused):
                Life(case).train()
            return "refused"
        straight = Life(case)
        try:
            straight.train()
        except (RuntimeError, ValueError) as error:
            if not refused_rightly(straight, str(error)):
                raise
            return "refused"
        assert case.loop != "unsaid" or len(straight.given) <= 1, "whose losses they are was guessed"
        first = Life(case)
        state = first.train(min(case.stop, straight.total))
        if state is None:
            return "trained"
        second = Life(case, state)
        second.train()
        assert first.story + second.story == straight.story
        for name, right in straight.loader.ledger.state_dict().items():
            assert torch.equal(second.loader.ledger.state_dict()[name].nan_to_num(-5), right.nan_to_num(-5)), name
        ours, theirs = second.loader.stats, straight.loader.stats
        assert (ours.trained, ours.steps, second.loader.epoch) == (theirs.trained, theirs.steps, straight.loader.epoch)
        return "resumed"


def run(examples: int, seed: int) -> dict[str, Any]:
    """``examples`` cases, and how they ended. Raises where one ends as it must not, with the simplest such case."""
    ends: Counter[str] = Counter()
    of: dict[str, Counter[str]] = {"method": Counter(), "sampler": Counter(), "loop": Counter(), "workers": Counter()}

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        derandomize=False,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(cases())
    def one(case: Case) -> None:
        ends[check(case)] += 1
        for name, count in of.items():
            count[str(getattr(case, name))] += 1

    start = time.process_time()
    one()
    told = {name: dict(sorted(count.items())) for name, count in of.items()}
    seconds = round(time.process_time() - start, 1)
    return {"seed": seed, "examples": ends.total(), "ends": dict(sorted(ends.items())), **told, "seconds": seconds}


def main() -> int:
    from leantrain.compare.environment import describe

    parser = argparse.ArgumentParser(description="train by any method in any loop over any sampler, beside a model")
    parser.add_argument("--examples", type=int, default=1000, help="of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        try:
            rows.append(run(options.examples, seed))
        except Exception as error:
            rows.append({"seed": seed, "difference": "".join(traceback.format_exception(error))[-5000:]})
        found = {
            "examples": sum(row.get("examples", 0) for row in rows),
            "differences": sum("difference" in row for row in rows),
            "rows": rows,
            "environment": describe("cpu"),
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")  # what is found so far
    return int(any("difference" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
