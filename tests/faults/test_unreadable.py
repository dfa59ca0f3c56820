"""Samples that cannot be read: the very one is named; or it is left out, counted and told of, and the run goes on."""

import copy
import dataclasses
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from leantrain import Adonis, Full, Plan, Selector, StaleSB, data, wrap
from leantrain.loader.unreadable_samples import NAMED
from leantrain.train.config import TrainConfig
from leantrain.train.trainer import train
from leantrain.utils.tolerant_reading import Tolerant
from toys import METHODS, SIZE, Numbers, flat, losses_at, run_epoch, wrapped

BAD = (3, 13, 20, 21, 22, 23, 39)  # 20 to 23 are a whole batch


class Broken(Numbers):
    """Samples of ``bad`` raise."""

    def __init__(self, size: int = SIZE, bad: Any = BAD, error: type[BaseException] = OSError) -> None:
        super().__init__(size)
        self.bad, self.error = bad, error

    def __getitem__(self, index: int) -> tuple[int, int]:
        if index in self.bad:
            self.reads.append(int(index))
            raise self.error(f"cannot identify image file '{index}.png'")
        return super().__getitem__(index)


class Whole(Broken):
    """Reads batches at once."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


def objects(samples: list[Any]) -> Any:
    assert samples, "collate_fn was called without samples"
    return torch.tensor([number for number, _ in samples]), [str(label) for _, label in samples]


def skipping(selector: Selector, dataset: Any = None, **options: Any) -> Any:
    return wrapped(selector, Broken() if dataset is None else dataset, unreadable="skip", **options)


def quiet(loader: Any) -> list[list[int]]:
    """One epoch; the batches hold the samples that the loader says, and nothing empty is handed out."""
    given = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sample .* cannot be read")
        for numbers, labels in loader:
            assert numbers.tolist() == loader.indices.tolist()
            assert len(labels) == len(numbers) > 0
            given.append(numbers.tolist())
            loader.reduce(losses_at(loader.epoch, loader.indices))
    return given


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("data", [Broken, Whole])
@pytest.mark.parametrize("collate", [None, objects], ids=["", "custom collate"])
def test_the_rest_of_each_batch_is_trained_on(workers: int, data: Any, collate: Any) -> None:
    loader = skipping(Full(), data(), num_workers=workers, collate_fn=collate)
    plain = [range(start, start + 4) for start in range(0, SIZE, 4)]
    expected = [kept for batch in plain if (kept := [i for i in batch if i not in BAD])]
    for epoch in (1, 2):
        assert quiet(loader) == expected
        assert (loader.stats.unreadable, loader.stats.loaded) == (epoch * len(BAD), epoch * (SIZE - len(BAD)))
    assert loader.ledger.trained.tolist() == [0 if i in BAD else 2 for i in range(SIZE)]


@pytest.mark.parametrize(
    ("method", "collate"), [*((name, None) for name in METHODS), ("full", objects), ("sb", objects), ("iswr", objects)]
)
def test_every_method_goes_on(method: str, collate: Any) -> None:
    data = Broken(bad=(3, 13, 39))
    loader = skipping(METHODS[method](), data, shuffle=True, collate_fn=collate)
    trained = [index for _ in range(6) for index in flat(quiet(loader))]
    assert trained
    assert not {3, 13, 39} & {*trained}
    assert loader.ledger.trained.tolist() == [trained.count(i) for i in range(SIZE)]
    assert loader.ledger.loss[[3, 13, 39]].isnan().all()
    assert loader.stats.unreadable == sum(data.reads.count(i) for i in (3, 13, 39)) > 0
    assert loader.stats.loaded == len(data.reads) - loader.stats.unreadable


@pytest.mark.parametrize("method", ["stale-sb", "kakurenbo", "rho-loss", "composer-sb"])
def test_workers_change_nothing(method: str) -> None:
    pairs = [
        skipping(METHODS[method](), shuffle=True, num_workers=workers, generator=torch.Generator().manual_seed(1))
        for workers in (0, 2)
    ]
    for _ in range(3):
        assert quiet(pairs[0]) == quiet(pairs[1])
    assert pairs[0].stats.state_dict().keys() == pairs[1].stats.state_dict().keys()
    assert pairs[0].stats.unreadable == pairs[1].stats.unreadable > 0


class Asking(Selector):
    """Judges every other batch, keeps all, refreshes the first twelve: all kinds of requests but one."""

    needs = frozenset({"score"})

    def __init__(self) -> None:
        self.judged: list[int] = []

    def plan(self, epoch, pool):
        return Plan(pool[12:], refresh=pool[:12])

    def loss_age(self, epoch):
        return 1

    def judges(self, epoch, number):
        return number % 2 == 0

    def select(self, batch):
        self.judged += batch.indices.tolist()
        return torch.arange(len(batch.indices))


@pytest.mark.parametrize("workers", [0, 2])
def test_scored_opened_and_refreshed(workers: int) -> None:
    selector = Asking()
    loader = skipping(selector, num_workers=workers)
    kept = [i for i in range(12, SIZE) if i not in BAD]
    assert flat(quiet(loader)) == kept[: len(kept) // 4 * 4]
    judged = [i for i in range(12, SIZE) if (i - 12) // 4 % 2 == 0]
    assert selector.judged == [i for i in judged if i not in BAD]
    scored = loader.ledger.score.isfinite().nonzero().flatten().tolist()
    assert scored == sorted({*range(12), *judged} - {*BAD})
    assert loader.stats.scored == len(scored)


def test_what_cannot_be_read_does_not_keep_losses_from_being_reused() -> None:
    data = Broken()
    loader = skipping(StaleSB(beta=1.0, start_epoch=0), data)
    quiet(loader)
    data.reads.clear()
    scored = loader.stats.scored
    quiet(loader)  # decided from stored losses: nothing is scored, nothing unreadable tried
    assert loader.stats.scored == scored
    assert not {*BAD} & {*data.reads}


def test_a_sample_is_warned_of_once_and_only_some_are() -> None:
    bad = range(0, 60, 4)
    loader = skipping(Full(), Broken(100, bad))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            run_epoch(loader)
    texts = [str(warning.message) for warning in caught]
    assert [int(text.split()[1]) for text in texts] == [*bad][:NAMED]
    assert "OSError: cannot identify image file '0.png'" in texts[0]
    assert ["only counted" in text for text in texts] == [False] * (NAMED - 1) + [True]
    assert {warning.filename for warning in caught} == {run_epoch.__code__.co_filename}  # the user's loop
    assert loader.stats.unreadable == 3 * len(bad)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("bad", "stops"), [(range(40), True), (range(21), True), (range(0, 40, 2), False)])
def test_more_than_half_stop_the_run(bad: Any, stops: bool, workers: int) -> None:
    loader = skipping(Full(), Broken(bad=bad), num_workers=workers)
    if not stops:
        assert len(flat(quiet(loader))) == 20
        return
    with pytest.raises(OSError, match=r"of the 1\d samples tried cannot be read, more than half.*\d\.png"):
        quiet(loader)


def test_few_samples_are_not_judged_by() -> None:
    loader = skipping(Full(), Broken(400, bad=range(51)), batch_size=4)  # of the first 102 tried, half
    assert len(flat(quiet(loader))) == 349


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [KeyError, ZeroDivisionError, MemoryError])
def test_other_errors(error: type[Exception], workers: int) -> None:
    loader = skipping(Full(), Broken(bad=(5,), error=error), num_workers=workers)
    if error is MemoryError:  # no fault of the sample
        with pytest.raises(MemoryError):
            quiet(loader)
    else:
        assert 5 not in flat(quiet(loader))
        assert loader.stats.unreadable == 1


def test_an_interrupt_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        quiet(skipping(Full(), Broken(bad=(5,), error=KeyboardInterrupt)))


def test_an_error_of_collate_is_not_skipped() -> None:
    def collate(samples: list[Any]) -> Any:
        raise LookupError("of collate")

    with pytest.raises(LookupError, match="of collate") as caught:
        quiet(skipping(Full(), collate_fn=collate))
    assert caught.value.__notes__ == ["leantrain: the batch being loaded holds the samples [0, 1, 2, 3]."]


@pytest.mark.parametrize("method", ["full", "stale-sb", "adonis", "kakurenbo"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_goes_on_in_mid_epoch(method: str, stop: int) -> None:
    def make() -> Any:
        order = torch.Generator().manual_seed(7)
        return skipping(METHODS[method](), shuffle=True, generator=order)

    straight, cut, resumed = make(), make(), make()
    expected = [quiet(straight) for _ in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = [quiet(cut)]
        before = []
        for _ in cut:
            before.append(cut.indices.tolist())
            cut.reduce(losses_at(cut.epoch, cut.indices))
            if len(before) == stop:
                state = copy.deepcopy(cut.state_dict())
                break
        else:
            pytest.fail("the epoch is too short")
    resumed.load_state_dict(state)
    assert [*done, before + quiet(resumed), quiet(resumed)] == expected
    assert torch.equal(resumed.ledger.trained, straight.ledger.trained)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [OSError, KeyError, ZeroDivisionError])
def test_the_sample_that_stops_a_run_is_named(error: Any, workers: int) -> None:
    loader = wrapped(Adonis(theta="auto"), Broken(bad=(14, 15), error=error), num_workers=workers)
    with pytest.raises(error) as caught:
        run_epoch(loader)
    (note,) = caught.value.__notes__
    assert "sample 14 (index" in note
    assert 'unreadable="skip"' in note


def test_a_sample_that_the_second_time_can_be_read_is_not_named() -> None:
    class Flaky(Numbers):
        def __getitem__(self, index: int) -> tuple[int, int]:
            if index == 6 and index not in self.reads:
                self.reads.append(index)
                raise OSError("timed out")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="timed out") as caught:
        run_epoch(wrapped(Full(), Flaky()))
    assert caught.value.__notes__ == ["leantrain: the batch being loaded holds the samples [4, 5, 6, 7]."]


class Opened(Numbers):
    """Readable only in a worker, where ``opened`` is set."""

    opened = False

    def __getitem__(self, index: int) -> tuple[int, int]:
        if not self.opened:
            raise RuntimeError("closed")
        if index == 6:
            raise OSError("bad block")
        return super().__getitem__(index)


def open_it(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    assert len(info.dataset.targets) == SIZE
    info.dataset.opened = True


def test_the_wrong_sample_is_not_named() -> None:
    """This process cannot read any of them: that is not what went wrong in the worker."""
    with pytest.raises(OSError, match="bad block") as caught:
        run_epoch(wrapped(Full(), Opened(), num_workers=2, worker_init_fn=open_it))
    assert caught.value.__notes__ == ["leantrain: the batch being loaded holds the samples [4, 5, 6, 7]."]


def test_a_worker_opens_the_users_files() -> None:
    loader = skipping(Full(), Opened(), num_workers=2, worker_init_fn=open_it)
    assert flat(quiet(loader)) == [i for i in range(SIZE) if i != 6]


@pytest.mark.slow
def test_workers_may_be_spawned() -> None:
    loader = skipping(Full(), num_workers=1, multiprocessing_context="spawn", collate_fn=objects)
    assert flat(quiet(loader)) == [i for i in range(SIZE) if i not in BAD]


def test_what_is_sent_to_a_spawned_worker_pickles() -> None:
    assert pickle.loads(pickle.dumps(Tolerant(Broken()))).bad == BAD


class BrokenImages(torch.utils.data.Dataset):
    def __init__(self, images: Any) -> None:
        self.images, self.targets = images, images.targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        if index % 10 == 3:
            raise ValueError("cannot identify image file")
        return self.images[index]


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("method", ["full", "sb", "forget"])
def test_the_trainer_counts(method: str) -> None:
    whole = data.load("digits", limit=150)
    broken = dataclasses.replace(whole, train=BrokenImages(whole.train))  # pyright: ignore[reportArgumentType]
    settings = {"forget": {"probe_epochs": 1, "prune_ratio": 0.1}}
    config = TrainConfig(limit=150, width=4, epochs=2, device="cpu", unreadable="skip", settings=settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sample .* cannot be read")
        result = train(config, broken, method, 0)
    bad = torch.arange(150) % 10 == 3
    assert int(result.trained[bad].sum()) == 0
    assert int(result.trained.sum()) > 0
    lost = [row["unreadable"] for row in result.epochs]
    assert lost[0] > 0
    assert result.facts.unreadable_samples == sum(lost)
    if method != "forget":
        assert lost == [15, 15]
    with pytest.raises(ValueError, match="cannot identify") as caught:
        train(config.model_copy(update={"unreadable": "raise"}), broken, method, 0)
    assert "sample" in caught.value.__notes__[0]


def test_raising_puts_nothing_between() -> None:
    data = Numbers()
    loader = wrap(DataLoader(data, batch_size=4, collate_fn=objects), Full())
    inner = loader._epochs.inner
    assert inner.dataset is data
    assert inner.collate_fn.collate is objects  # within what watches the order of the first batch


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown unreadable 'ignore'\. Known: raise, skip"):
        wrapped(Full(), unreadable="ignore")
