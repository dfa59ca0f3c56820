"""The loops of public training scripts: with ``Full`` they are plain PyTorch bit for bit; with methods that select, the
ledger and the weights are those of a plain account of what the loop did.

Each loop is written once, for a plain DataLoader and for a wrapped one: ``reduce(losses, samples, epoch)`` averages.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from leantrain import SB, Full, InfoBatch, wrap
from references.infobatch import easy, kept_of_easy

SIZE, BATCH, EPOCHS, STEPS = 26, 4, 4, 24


def dataset():
    random = torch.Generator().manual_seed(3)
    return TensorDataset(torch.randn(SIZE, 5, generator=random), torch.arange(SIZE) % 3, torch.arange(SIZE))


def network():
    torch.manual_seed(7)  # and of whatever a loop draws
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


def cross_entropy(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none")


def whose(loader):
    """Asked as a batch is fetched, by loops that train on it later."""
    return getattr(loader, "indices", None)


class Prefetcher:
    """As ``timm.data.loader.PrefetchLoader``: gives a batch once the next ones are fetched."""

    def __init__(self, loader, ahead):
        self.loader, self.ahead = loader, ahead

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        held = []
        for batch in self.loader:
            held.append((*batch, whose(self.loader)))
            if len(held) > self.ahead:
                yield held.pop(0)
        yield from held


def timm(loader, reduce, ahead=1):
    model, optimizer = network()
    for epoch in range(EPOCHS):
        for x, y, samples, indices in Prefetcher(loader, ahead):
            optimizer.zero_grad()
            reduce(cross_entropy(model, x, y), samples, epoch, indices=indices).backward()
            optimizer.step()
    return model


def accumulation(loader, reduce):
    """As Hugging Face's Trainer, which collects all batches of an accumulation before it trains on the first."""
    model, optimizer = network()
    for epoch in range(EPOCHS):
        batches = iter(loader)
        for _ in range(math.ceil(len(loader) / 3)):
            together = [(*batch, whose(loader)) for batch in itertools.islice(batches, 3)]
            for x, y, samples, indices in together:
                (reduce(cross_entropy(model, x, y), samples, epoch, indices=indices) / len(together)).backward()
            if together:
                optimizer.step()
                optimizer.zero_grad()
    return model


def gan(loader, reduce):
    """Two networks, two optimizers, two losses of each batch."""
    torch.manual_seed(7)
    critic, maker = nn.Linear(5, 1), nn.Linear(2, 5)
    optimizers = [torch.optim.Adam(part.parameters(), lr=0.05, betas=(0.5, 0.999)) for part in (critic, maker)]

    def judged(x, real):
        found = critic(x).squeeze(1)
        return F.binary_cross_entropy_with_logits(found, torch.full_like(found, real), reduction="none")

    for epoch in range(EPOCHS):
        for x, _, samples in loader:
            made = maker(torch.randn(len(x), 2))
            optimizers[0].zero_grad()
            reduce(judged(x, 1.0) + judged(made.detach(), 0.0), samples, epoch).backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            reduce(judged(made, 1.0), samples, epoch, again=True).backward()
            optimizers[1].step()
    return nn.ModuleList([critic, maker])


def sam(loader, reduce):
    """Sharpness-aware minimisation: the gradient where the loss is worst nearby, by a second pass over the batch."""
    model, optimizer = network()
    for epoch in range(EPOCHS):
        for x, y, samples in loader:
            reduce(cross_entropy(model, x, y), samples, epoch).backward()
            before = [p.detach().clone() for p in model.parameters()]
            norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(p.grad, alpha=float(0.05 / norm))
            optimizer.zero_grad()
            reduce(cross_entropy(model, x, y), samples, epoch, again=True).backward()
            with torch.no_grad():
                for p, value in zip(model.parameters(), before, strict=True):
                    p.copy_(value)
            optimizer.step()
            optimizer.zero_grad()
    return model


def nanogpt(loader, reduce):
    """Steps, not epochs: two micro-batches each from an endless iterator, the next one fetched before backward."""

    def endless():
        for epoch in itertools.count():
            for batch in loader:
                yield epoch, *batch

    (model, optimizer), batches = network(), endless()
    epoch, x, y, samples = next(batches)
    for _ in range(STEPS // 2):
        for _ in range(2):
            loss = reduce(cross_entropy(model, x, y), samples, epoch) / 2
            epoch, x, y, samples = next(batches)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


SHAPES = {
    "timm": timm,
    "timm, 3 ahead": lambda loader, reduce: timm(loader, reduce, ahead=3),
    "accumulation": accumulation,
    "gan": gan,
    "sam": sam,
    "k-fold": lambda loader, reduce: timm(loader, reduce, ahead=0),
    "nanogpt": nanogpt,
}
FOLD = list(range(0, SIZE, 2))
shapes = pytest.mark.parametrize("name", SHAPES)


def batches(name):
    """The user's own DataLoader."""
    order = {"sampler": SubsetRandomSampler(FOLD)} if name == "k-fold" else {"shuffle": True}
    for_sampler = torch.Generator().manual_seed(5)
    if name == "k-fold":
        order["sampler"].generator = for_sampler
    return DataLoader(dataset(), BATCH, generator=for_sampler, **order)


class Account:
    """``reduce`` of a wrapped loader, and a plain account of what was told: each sample's own loss, how often, when."""

    def __init__(self, name, selector):
        self.loss = dict.fromkeys(range(SIZE), math.nan)
        self.given, self.weights, self.scores, self.steps = {}, {}, {}, 0
        self.pool = FOLD if name == "k-fold" else list(range(SIZE))
        self.selector, self.in_steps = selector, name == "nanogpt"
        length = {"steps": STEPS} if self.in_steps else {"epochs": EPOCHS}
        self.loader = wrap(batches(name), selector, score=self.score, **length)

    def score(self, batch):
        found = torch.rand(len(batch[2]), generator=torch.Generator().manual_seed(len(self.scores) + int(batch[2][0])))
        self.scores |= dict(zip(batch[2].tolist(), found.tolist(), strict=True))
        self.loss |= dict(zip(batch[2].tolist(), found.tolist(), strict=True))
        return found

    def begin(self, epoch):
        """The weights of an epoch, by the losses before it."""
        self.given[epoch], self.weights[epoch] = [], dict.fromkeys(range(SIZE), 1.0)
        left = (STEPS - self.steps) / math.ceil(SIZE / BATCH)
        epochs = epoch + math.ceil(left) if self.in_steps else EPOCHS
        if isinstance(self.selector, InfoBatch) and epoch < self.selector.delta * epochs:
            below = [self.pool[at] for at in easy([self.loss[i] for i in self.pool])]
            if below:
                weight = len(below) / kept_of_easy(len(below), "0.5")
                self.weights[epoch] |= dict.fromkeys(below, weight)

    def __call__(self, losses, samples, epoch, again=False, indices=None):
        samples = samples.tolist()
        if epoch not in self.given:
            self.begin(epoch)
        reduced = self.loader.reduce(losses, indices=indices)
        own = losses.tolist()
        weighted = [self.weights[epoch][i] * loss for i, loss in zip(samples, own, strict=True)]
        assert reduced.item() == pytest.approx(sum(weighted) / len(weighted), rel=1e-5)
        if not again:
            self.steps += 1
            self.given[epoch] += samples
            self.loss |= dict(zip(samples, own, strict=True))
        return reduced

    def check(self):
        ledger, told = self.loader.ledger, [i for given in self.given.values() for i in given]
        assert ledger.loss.tolist() == pytest.approx(list(self.loss.values()), nan_ok=True)
        assert ledger.trained.tolist() == [told.count(i) for i in range(SIZE)]
        assert (self.loader.stats.trained, self.loader.stats.steps) == (len(told), self.steps)
        assert set(told) <= set(self.pool)
        assert self.loader.progress == 1
        if not isinstance(self.selector, SB):  # which may have a sample wait from one epoch to the next
            assert all(len(given) == len(set(given)) for given in self.given.values())
        for i, score in self.scores.items():
            assert ledger.score[i].item() == pytest.approx(score)
        if not self.in_steps:
            assert self.loader.epoch == EPOCHS


@shapes
def test_with_full_it_is_plain_pytorch_bit_for_bit(name):
    expected = SHAPES[name](batches(name), lambda losses, *_, **__: losses.mean())
    account = Account(name, Full())
    found = SHAPES[name](account.loader, account)
    for one, other in zip(expected.parameters(), found.parameters(), strict=True):
        assert torch.equal(one, other)
    account.check()
    if name != "nanogpt":
        assert all(sorted(given) == account.pool for given in account.given.values())


@shapes
def test_infobatch_weighs_each_sample_by_the_losses_of_the_epochs_before(name):
    account = Account(name, InfoBatch(prune_ratio=0.5))
    SHAPES[name](account.loader, account)
    account.check()
    weighed = 0
    for epoch, weights in account.weights.items():
        below = {i for i, weight in weights.items() if weight != 1}
        weighed += len(below)
        if below and (epoch + 1 in account.weights or not account.in_steps):  # whole epochs
            given = set(account.given[epoch])
            assert set(account.pool) - below <= given
            assert len(given & below) == kept_of_easy(len(below), "0.5")
    assert weighed > 0


@shapes
def test_selective_backprop_trains_on_what_it_scored_and_chose(name):
    account = Account(name, SB(start_epoch=0, beta=1.0))
    SHAPES[name](account.loader, account)
    account.check()
    told = sum(map(len, account.given.values()))
    assert set(account.scores) == set(account.pool)
    assert BATCH * 4 < told < account.loader.stats.scored
