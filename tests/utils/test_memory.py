"""Memory: estimates beside the process's own peak, refusals before the work, and no growth over the epochs."""

import gc
import math
import multiprocessing
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from leantrain import IDS, Adonis, ClassFloor, GradMatch, Ledger, Run
from leantrain.core.inputs import Sized
from leantrain.embed import embed, gradients, grand_scores, penultimate, snapshot
from leantrain.utils import memory
from toys import EACH_METHOD, METHODS, SIZE, Numbers, run_epoch, wrapped

SAMPLES, WIDTH, CLASSES = 60_000, 512, 10
ESTIMATED = {
    "ids": lambda model, loader: IDS(features=snapshot(model, loader)),
    "grad-match": lambda model, loader: GradMatch(gradients=gradients(model, loader), keep_ratio=0.001),
}


class Numbered(Dataset):
    """Nothing is stored."""

    def __init__(self, size: int) -> None:
        self.targets = torch.arange(size) % CLASSES

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return torch.ones(len(indices), CLASSES), self.targets[indices]


def measure(name: str) -> tuple[int, int]:
    """Bytes estimated, and by which this process grew at its peak, while what ``name`` is to be given is made."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(CLASSES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
    for size in (1000, SAMPLES):  # the small one first: code that runs for the first time takes memory as well
        data = Numbered(size)
        selector = ESTIMATED[name](model, DataLoader(data, batch_size=500, collate_fn=lambda batch: batch))
        estimate = sum(part.bytes for part in selector.memory(Run(size, 500, 10, 0, Ledger(size), data.targets)))
        before, code = status("VmRSS:"), status("RssFile:")
        made = getattr(selector, next(iter(selector.inputs)))()
        assert made.fingerprint
    # Pages of code that the kernel took back where memory was short, and that this brought in again, are no growth.
    return estimate, status("VmHWM:") - before - (status("RssFile:") - code)


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {words[0]: words[1] for line in lines if len(words := line.split()) > 1}
    return int(found[field]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_estimates_are_near_the_peak():
    """Of processes that did nothing else before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leantrain.embed"])
    with context.Pool(1, maxtasksperchild=1) as pool:
        found = dict(zip(ESTIMATED, pool.map(measure, ESTIMATED, chunksize=1), strict=True))
    assert len(found) == 2
    off = {name: pair for name, pair in found.items() if not 0.75 < pair[0] / pair[1] < 1.25}
    assert not off, f"estimated and measured: {off}"


@pytest.fixture
def left(monkeypatch):
    """How much memory there is, as far as leantrain is told."""

    def set_left(count: int | None) -> None:
        monkeypatch.setattr(memory, "available", lambda device="cpu": count)

    return set_left


def model() -> nn.Module:
    return nn.Sequential(nn.Embedding(SIZE, 5), nn.Linear(5, 4))


MOST = max(Numbers().targets.count(label) for label in range(4))  # samples of a class
CHOSEN = math.ceil(0.4 * MOST)
PASSES = {
    "ids": (lambda model, loader: IDS(features=snapshot(model, loader)), SIZE * 5 * 4),
    "ids by an extractor": (
        lambda model, loader: IDS(features=Sized(lambda: embed(loader, penultimate(model)), 5)),
        SIZE * 5 * 4,
    ),
    "ids later": (
        lambda model, loader: IDS(features=snapshot(model, loader), start_epoch=3) | Adonis(),
        SIZE * 5 * 4,
    ),
    "grad-match": (
        lambda model, loader: ClassFloor(GradMatch(gradients=gradients(model, loader), keep_ratio=0.4), 0.1),
        SIZE * 9 * 4 + 8 * CHOSEN**2,
    ),
    "validated": (
        lambda model, loader: GradMatch(
            gradients=gradients(model, loader),
            validation=gradients(model, DataLoader(Numbers(12))),
            keep_ratio=0.4,
        ),
        (SIZE + 12) * 9 * 4 + 8 * CHOSEN**2,
    ),
}


@pytest.mark.parametrize("name", PASSES)
def test_refused_before_anything_is_read(left, name):
    make, needed = PASSES[name]
    data = Numbers()
    selector = make(model(), DataLoader(data, batch_size=4))
    left(needed - 1)
    with pytest.raises(ValueError, match=r"The selection would hold .* bytes.*available on this machine.*takes less"):
        wrapped(selector, data, targets=data.targets, epochs=10)
    assert data.reads == []
    left(needed)
    wrapped(selector, data, targets=data.targets, epochs=10)
    left(None)  # unknown: go on
    wrapped(selector, data, targets=data.targets, epochs=10)


def test_the_message_names_what_is_largest(left):
    left(3 * 2**30)
    held = [memory.rows("features for IDS", 10**6, 1000), memory.Part("a matrix", 2**20, "a smaller keep_ratio")]
    with pytest.raises(ValueError, match="would hold") as caught:
        memory.check_fits(held)
    assert str(caught.value) == (
        "The selection would hold 3.73 GiB: features for IDS, 1,000,000 x 1,000 numbers (3.73 GiB); a matrix (1.00 MiB)"
        f". 3.00 GiB of memory are available on this machine. What takes less: {memory.ROWS}."
    )
    with pytest.raises(ValueError, match=r"takes less: a smaller keep_ratio\."):
        memory.check_fits([memory.Part("a matrix", 4 * 2**30, "a smaller keep_ratio")])


def test_ranks_on_one_machine_share_its_memory(left, monkeypatch):
    held = [memory.rows("features for IDS", 1000, 1000)]
    left(3 * held[0].bytes)
    for ranks in ("", "1", "3", "odd"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        memory.check_fits(held)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"numbers \(3\.81 MiB\), on each of 4 ranks\. 11\.44 MiB of memory are"):
        memory.check_fits(held)


@pytest.mark.parametrize("make", [lambda loader: lambda: embed(loader, wide), lambda loader: lambda: headed(loader)])
def test_a_pass_of_unknown_width_ends_with_its_first_batch(left, make):
    data = Numbers()
    loader = DataLoader(data, batch_size=4)
    left(SIZE * 7 * 4 - 1)
    with pytest.raises(ValueError, match="40 x 7 numbers"):
        make(loader)()
    assert len(data.reads) == 4
    left(SIZE * 7 * 4)
    make(loader)()
    assert len(data.reads) == 4 + SIZE


def wide(batch: Any) -> Tensor:
    return torch.zeros(len(batch[0]), 7)


def headed(loader: DataLoader) -> Any:
    """A gradient pass over a head that is no linear layer."""
    whole = Headed()
    return gradients(whole, loader, layer=whole.head)()


class Headed(nn.Module):
    """3 features, 4 scores, by a layer that says nothing of its sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(3, 4))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(numbers.unsqueeze(1).float() * torch.ones(3))


def test_grand_is_refused_by_its_chunk(left):
    whole = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 1)), nn.Linear(1, 4))
    data = [(torch.tensor([float(i)]), i % 4) for i in range(8)]
    left(3 * 8 * 4 - 1)
    with pytest.raises(ValueError, match=r"gradients of 3 samples.*smaller chunk_size"):
        grand_scores(whole, DataLoader(data, batch_size=4), chunk_size=3)
    left(8 * 4 * 4)
    assert len(grand_scores(whole, DataLoader(data, batch_size=4), chunk_size=3)) == 8


def system(root: Path, files: dict[str, str]) -> int | None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return memory.available_to_process(root)


MEMINFO = {"proc/meminfo": "MemTotal:  9000 kB\nMemFree:  1000 kB\nMemAvailable:  8000 kB\n"}
V2, V1 = "sys/fs/cgroup/", "sys/fs/cgroup/memory/"
HALVES = {  # the outer group has less left than the inner one
    V2 + "a/b/memory.max": "5000000\n",
    V2 + "a/b/memory.current": "1000000\n",
    V2 + "a/memory.max": "2000000\n",
    V2 + "a/memory.current": "1500000\n",
    V2 + "a/memory.stat": "anon 7\ninactive_file 200000\nactive_file 9\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MEMINFO, 8000 * 1024),
        (MEMINFO | HALVES | {"proc/self/cgroup": "0::/a/b\n"}, 700_000),
        (MEMINFO | HALVES | {"proc/self/cgroup": "0::/other\n"}, 8000 * 1024),
        (HALVES | {"proc/self/cgroup": "0::/a/b\n"}, 700_000),
        (MEMINFO | {"proc/self/cgroup": "0::/a\n", V2 + "a/memory.max": "max\n"}, 8000 * 1024),
        (
            {  # in a container the group's path is not there, its limits stand at the top
                "proc/self/cgroup": "12:cpu:/x\n4:memory,pids:/docker/123\n1:name=systemd:/y\n0::/\n",
                V1 + "memory.limit_in_bytes": "3000\n",
                V1 + "memory.usage_in_bytes": "2900\n",
                V1 + "memory.stat": "inactive_file 5\ntotal_inactive_file 50\n",
            },
            150,
        ),
        (
            {"proc/self/cgroup": "0::/\n", V2 + "memory.max": "10\n", V2 + "memory.current": "20\n"},  # over its limit
            0,
        ),
    ],
)
def test_what_is_available(tmp_path, files, expected):
    assert system(tmp_path, files) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is known")
def test_this_machine_has_some():
    assert 2**20 < memory.available() < 2**50


@pytest.mark.parametrize("name", EACH_METHOD)
def test_no_growth_over_the_epochs(name):
    data = Numbers()
    selector = METHODS[name]()
    for part in [selector, *vars(selector).values()]:
        if hasattr(part, "history"):
            part.history = 64  # a bounded one, full by then
    loader = wrapped(selector, data, batch_size=8, epochs=61, targets=data.targets, shuffle=True)
    sizes = []
    for epoch in range(60):
        run_epoch(loader)
        data.reads.clear()
        if epoch in (9, 59):
            for costs in (loader.stats.fetch_cost, loader.stats.score_cost):
                assert costs.maxlen  # bounded
                costs.clear()
            sizes.append(reachable(loader))
    assert sizes[0] > 26 * SIZE  # the ledger at least
    assert sizes[1] <= sizes[0] + 1000, sizes  # 20 bytes an epoch; a plan has hundreds. An open batch's size varies


def reachable(root: Any) -> int:
    """Bytes of everything that ``root`` refers to, modules, classes and code left out."""
    seen: dict[int, Any] = {}
    waiting, total = [root], 0
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType | type | types.CodeType):
            continue
        seen[id(thing)] = thing
        total += sys.getsizeof(thing)
        if isinstance(thing, Tensor):
            total += thing.untyped_storage().nbytes()
        if isinstance(thing, types.FunctionType):  # not its module's globals
            waiting += [thing.__closure__, thing.__defaults__]
        else:
            waiting += gc.get_referents(thing)
    return total
