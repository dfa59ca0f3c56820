"""Copies of the user's DataLoader keep all that is theirs, whichever part of the library makes them."""

import inspect

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

from leantrain.embed import passes
from leantrain.estimation.rehearsal import shuffled
from leantrain.loader import dataloader
from leantrain.utils.dataloader_copy import KEPT, OF_WORKERS, copy_with

SIZE, BATCH = 10, 4
ORDER = {"batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "in_order"}


def collate(samples):
    return default_collate(samples)


def start(worker):
    """A ``worker_init_fn``."""


def everything(**changes):
    """A DataLoader that sets all that can be set, to what is not the default."""
    options = {
        "batch_size": BATCH,
        "num_workers": 2,
        "collate_fn": collate,
        "pin_memory": True,
        "timeout": 50,
        "worker_init_fn": start,
        "multiprocessing_context": "spawn",
        "generator": torch.Generator().manual_seed(3),
        "prefetch_factor": 3,
        "persistent_workers": True,
    }
    return DataLoader(TensorDataset(torch.arange(SIZE)), **(options | changes))


def kept(loader):
    """What a copy must share with its original; the start method of its processes by name."""
    return {name: getattr(loader, name) for name in (*KEPT, *OF_WORKERS)} | {
        "multiprocessing_context": loader.multiprocessing_context.get_start_method()
    }


def copy_of_wrap(loader, monkeypatch):
    return dataloader.twin(loader, [[0, 1]], loader.collate_fn, keep_samples=False, tolerant=False), set()  # pyright: ignore


def copy_of_a_rehearsal(loader, monkeypatch):
    return shuffled(loader, torch.tensor([1, 2, 5]), seed=0), {"dataset", "generator"}


def copy_of_a_pass(loader, monkeypatch):
    made = []
    copy = lambda *given, **more: made.append(copy_with(*given, **more)) or [0] * SIZE  # noqa: E731
    monkeypatch.setattr(passes, "copy_with", copy)
    assert {batch for batch, _ in passes.in_order(loader)} == {0}
    return made[0], {"generator"}


@pytest.mark.parametrize("make", [copy_of_wrap, copy_of_a_rehearsal, copy_of_a_pass])
def test_nothing_of_the_user_s_is_lost(make, monkeypatch):
    loader = everything()
    copied, other = make(loader, monkeypatch)
    want, have = kept(loader), kept(copied)
    assert {name: have[name] for name in want.keys() - other} == {name: want[name] for name in want.keys() - other}
    assert all(have[name] is not want[name] for name in other)


def test_every_argument_of_a_dataloader_is_thought_of():
    known = {*KEPT, *OF_WORKERS, *ORDER, "self", "pin_memory_device"}  # the last is deprecated and without effect
    assert set(inspect.signature(DataLoader.__init__).parameters) - known == set()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="spawned", marks=pytest.mark.slow),
        pytest.param({"multiprocessing_context": "fork"}, id="forked"),
        pytest.param(
            {
                "num_workers": 0,
                "timeout": 0,
                "multiprocessing_context": None,
                "prefetch_factor": None,
                "persistent_workers": False,
            },
            id="none",
        ),
    ],
)
def test_a_pass_gives_every_sample_in_order_whatever_the_workers(options):
    draws = torch.get_rng_state()
    loader = everything(pin_memory=False, **options)
    before = loader.generator.get_state()
    found = [(batch[0].tolist(), places.tolist()) for batch, places in passes.in_order(loader)]
    assert found == [(part, part) for part in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])]
    assert torch.equal(loader.generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), draws)


def test_samples_are_read_here_and_now_by_the_user_s_collate():
    loader = everything(pin_memory=False, collate_fn=lambda samples: [int(x) for (x,) in samples])
    before = loader.generator.get_state()
    assert dataloader.read(loader, torch.tensor([7, 0, 7])) == [7, 0, 7]
    assert torch.equal(loader.generator.get_state(), before)


def test_a_rehearsal_shows_each_of_its_samples_once_an_epoch():
    loader = everything(num_workers=0, timeout=0, multiprocessing_context=None, prefetch_factor=None,
                        persistent_workers=False, pin_memory=False, drop_last=True)  # fmt: skip
    few = shuffled(loader, torch.tensor([9, 4, 6]), seed=1)  # less than a batch: nothing is dropped
    epochs = [[int(x) for (batch,) in few for x in batch] for _ in range(6)]
    assert all(sorted(epoch) == [4, 6, 9] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    many = shuffled(loader, torch.arange(SIZE), seed=1)
    assert [len(batch) for (batch,) in many] == [BATCH, BATCH]
