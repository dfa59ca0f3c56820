"""Losses of other shapes, against slow loops: dicts of terms, tokens with padding, packed rows, single numbers."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from distributed.processes import on_ranks
from leantrain import SB, Adonis, Full, Plan, Selector, one_by_one, per_sample, scorer, wrap
from scoring.test_scorer import assert_untouched, everything

B, T, C = 4, 6, 5
LENGTHS = torch.tensor([6, 1, 3, 2])
MASK = torch.arange(T) < LENGTHS[:, None]


class Heavy(Selector):
    """Sample i has weight i + 1."""

    def plan(self, epoch, pool):
        return Plan(pool, pool + 1.0)


def at_first_batch(selector=None, size=B):
    loader = wrap(DataLoader(range(size), size), selector or Full())
    next(iter(loader))
    return loader


def tokens(seed=0):
    """(B, T) losses; those of padding are NaN, which must touch nothing."""
    losses = torch.rand(B, T, generator=torch.Generator().manual_seed(seed))
    return losses.masked_fill(~MASK, math.nan).requires_grad_()


def of_samples(losses, mask=MASK):
    """Each sample's mean over what counts, token by token."""
    found = []
    for row, valid in zip(losses.tolist(), mask.tolist(), strict=True):
        counted = [loss for loss, counts in zip(row, valid, strict=True) if counts]
        found.append(sum(counted) / max(1, len(counted)))
    return found


def test_terms_are_added_up():
    loader = at_first_batch(Heavy())
    box, cls = (torch.rand(B, requires_grad=True) for _ in range(2))
    reduced = loader.reduce({"box": box, "cls": cls}, weights={"box": 2.0})
    whole = [2 * b + c for b, c in zip(box.tolist(), cls.tolist(), strict=True)]
    assert loader.ledger.loss.tolist() == pytest.approx(whole)
    assert reduced.item() == pytest.approx(sum((i + 1) * loss for i, loss in enumerate(whole)) / B)
    reduced.backward()
    assert box.grad.tolist() == pytest.approx([2 * (i + 1) / B for i in range(B)])
    assert cls.grad.tolist() == pytest.approx([(i + 1) / B for i in range(B)])


def test_of_terms_without_selection_it_is_the_mean_of_their_sum():
    loader = at_first_batch()
    losses = {"box": torch.rand(B), "cls": torch.rand(B)}
    assert torch.equal(loader.reduce(losses), (losses["box"] + losses["cls"]).mean())


def test_a_learnt_weight_of_a_term_gets_its_gradient():
    weight = torch.tensor(0.5, requires_grad=True)
    at_first_batch().reduce({"box": torch.arange(float(B))}, weights={"box": weight}).backward()
    assert weight.grad == 1.5


@pytest.mark.parametrize("as_integers", [False, True])
def test_of_tokens_only_those_that_count_do(as_integers):
    loader, losses = at_first_batch(Heavy()), tokens()
    mask = MASK.long() if as_integers else MASK
    reduced = loader.reduce(losses, mask=mask)
    assert loader.ledger.loss.tolist() == pytest.approx(of_samples(losses))
    assert per_sample(losses, mask=mask).tolist() == pytest.approx(of_samples(losses))
    total = sum((i + 1) * losses[i, t].item() for i in range(B) for t in range(LENGTHS[i]))
    assert reduced.item() == pytest.approx(total / 12)
    reduced.backward()
    expected = MASK * (torch.arange(B)[:, None] + 1.0) / 12
    assert losses.grad.flatten().tolist() == pytest.approx(expected.flatten().tolist())


def test_without_selection_tokens_train_as_in_plain_pytorch():
    labels = torch.randint(C, (B, T)).masked_fill(~MASK, -100)
    plain = torch.randn(B, T, C, requires_grad=True)
    ours = plain.detach().clone().requires_grad_()
    usual = F.cross_entropy(plain.flatten(0, 1), labels.flatten())
    usual.backward()
    losses = F.cross_entropy(ours.flatten(0, 1), labels.flatten(), reduction="none").view(B, T)
    loss = at_first_batch().reduce(losses, mask=labels != -100)
    loss.backward()
    assert torch.equal(ours.grad, plain.grad)
    torch.testing.assert_close(loss, usual)


def test_pixels_and_half_precision():
    """70,000 losses of 1 have a sum that is infinite in half precision."""
    loader, losses = at_first_batch(size=2), torch.ones(2, 350, 400, dtype=torch.float16)
    losses[0, :175] = 3
    mask = torch.ones(2, 350, 400, dtype=torch.bool)
    mask[1, 5:] = False
    assert loader.reduce(losses, mask=mask).item() == pytest.approx((70000 * 4 + 2000) / 142000)
    assert loader.ledger.loss.tolist() == [2, 1]


def test_where_nothing_counts_the_loss_is_zero():
    loader = at_first_batch()
    losses = torch.full((B, T), math.nan, requires_grad=True)
    loss = loader.reduce(losses, mask=torch.zeros(B, T, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not losses.grad.any()
    assert loader.ledger.loss.tolist() == [0] * B


PACKED = torch.tensor([[0, 0, 2, 2, 2, -1], [3, 1, 1, 1, 0, 3]])  # rows of a batch of 4


@pytest.mark.parametrize("form", ["rows", "flat", "masked"])
def test_packed_rows(form):
    loader, losses = at_first_batch(Heavy()), torch.rand(2, 6, requires_grad=True)
    mask = torch.rand(2, 6) < 0.6 if form == "masked" else torch.ones(2, 6, dtype=torch.bool)
    told, ids = (losses.flatten(), PACKED.flatten()) if form == "flat" else (losses, PACKED)
    given = {"mask": mask} if form == "masked" else {}
    reduced = loader.reduce(told, sample_ids=ids, **given)
    own = [
        [losses[r, t].detach() for r in range(2) for t in range(6) if PACKED[r, t] == i and mask[r, t]]
        for i in range(B)
    ]
    expected = [float(sum(each)) / max(1, len(each)) for each in own]
    assert loader.ledger.loss.tolist() == pytest.approx(expected)
    assert per_sample(told, sample_ids=ids, **given).tolist() == pytest.approx(expected)
    total = sum((i + 1) * float(sum(each)) for i, each in enumerate(own))
    assert reduced.item() == pytest.approx(total / sum(map(len, own)))
    reduced.backward()
    shares = (PACKED + 1) * mask / sum(map(len, own))  # padding, -1, has a share of 0
    assert losses.grad.flatten().tolist() == pytest.approx(shares.flatten().tolist())


def test_micro_batches_name_their_samples():
    loader, losses = at_first_batch(Heavy()), tokens()
    for part in torch.tensor([2, 0]), torch.tensor([3, 1]):
        reduced = loader.reduce(losses[part], indices=part, mask=MASK[part])
        expected = (losses[part] * (part[:, None] + 1))[MASK[part]].mean()
        assert reduced.item() == pytest.approx(expected.item())
    assert loader.ledger.loss.tolist() == pytest.approx(of_samples(losses))
    assert loader.stats.trained == B


@pytest.mark.parametrize(
    ("losses", "given", "error", "said"),
    [
        ({}, {}, ValueError, "empty dict"),
        ({"box": torch.tensor(1.0)}, {}, ValueError, r"losses\['box'\] has shape \(\);.*leantrain\.one_by_one"),
        ({"a": torch.ones(B), "b": torch.ones(B, T)}, {}, ValueError, r"losses\['b'\] has shape \(4, 6\)"),
        ({"a": torch.ones(3)}, {}, ValueError, r"reduce\(losses\) has shape \(3,\)"),
        ({"a": 1.0}, {}, ValueError, r"losses\['a'\] has type float"),
        ({"a": torch.ones(B)}, {"weights": {"b": 2.0}}, ValueError, r"weights=\{'b': 2\.0\} .* \['a'\]"),
        (torch.ones(B), {"weights": {"a": 2.0}}, TypeError, "of the terms in a dict of losses, here a Tensor"),
        (torch.ones(B, T), {}, ValueError, r"say what counts, mask=targets != ignore_index: loader\.reduce\(losses, m"),
        (
            torch.ones(B * T),
            {"mask": MASK},
            ValueError,
            r"mask has shape \(4, 6\) and the losses \(24,\).*\.view\(mask",
        ),
        (torch.ones(B, T), {"mask": MASK.float()}, TypeError, "integers or bool, not torch.float32"),
        (torch.ones(B, T), {"mask": MASK * 3}, ValueError, "other numbers than 0 and 1. Of labels make one"),
        (torch.ones(3, T), {"mask": MASK[:3]}, ValueError, r"reduce\(losses\) has shape \(3,\)"),
        (torch.ones(2, 6), {"sample_ids": PACKED + 1}, ValueError, r"samples, from 0 to 3.* name \[0, 1, 2, 3, 4\]"),
        (torch.ones(2, 6), {"sample_ids": PACKED.clamp(max=2)}, ValueError, r"here they name \[0, 1, 2\]"),
        (torch.ones(2, 6), {"sample_ids": PACKED.float()}, TypeError, "tensor of integers, not torch.float32"),
        (torch.tensor(1.0), {"mask": torch.tensor(True)}, ValueError, 'reduction="none"'),
    ],
)
def test_what_does_not_fit(losses, given, error, said):
    loader = at_first_batch()
    with pytest.raises(error, match=said):
        loader.reduce(losses, **given)
    assert loader.stats.steps == loader.ledger.trained.sum() == 0


def test_ranks_together_take_the_mean_over_all_tokens():
    """Two ranks, whose tokens are 7 and 5."""

    def rank():
        loader = wrap(DataLoader(range(B), B // 2), Heavy())
        next(iter(loader))
        losses = tokens()
        own = loader.indices
        loader.reduce(losses[own], mask=MASK[own]).backward()
        return losses.grad

    gradients = torch.stack(on_ranks(2, rank)).mean(0)
    expected = MASK * (torch.arange(B)[:, None] + 1.0) / 12
    torch.testing.assert_close(gradients, expected)


class Detector(nn.Module):
    """As torchvision's: losses in training mode only, a number each for the whole batch; BatchNorm, dropout, draws."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 4, 3))
        self.register_buffer("calls", torch.zeros(()))
        self.frozen.eval()

    def forward(self, images, targets=None):
        features = [self.body(self.frozen(image[None])).mean((0, 2, 3)) for image in images]
        if not self.training:
            return [{"boxes": each} for each in features]
        if any(target["boxes"].isnan().any() for target in targets):
            raise ArithmeticError("the model fails")
        self.calls = self.calls + 1  # replaced, not changed in place
        found = torch.stack(features)
        boxes = torch.stack([target["boxes"] for target in targets])
        return {"loss_box": (found - boxes).abs().mean(), "loss_cls": found.square().mean() * torch.rand(())}


def pictures(sizes=(5, 7, 6, 9)):
    return [torch.randn(3, size, size) for size in sizes], [{"boxes": torch.randn(4)} for _ in sizes]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("fails", [False, True], ids=["", "raises"])
def test_a_detector_is_scored_in_training_mode_without_a_trace(mode, fails):
    model, (images, targets) = Detector(), pictures()
    model(images, targets)["loss_box"].backward()  # gradients, statistics
    model.train(mode == "train") if mode == "eval" else model
    pending = model.frozen(images[0][None]).sum()  # a graph that holds buffers, where their layers are in eval mode
    before, buffers = everything(model), list(map(id, model.buffers()))
    score = scorer(model, mode="train")
    if fails:
        targets[2]["boxes"] = torch.full((4,), math.nan)
        with pytest.raises(ArithmeticError):
            score((images, targets))
    else:
        losses = score((images, targets)).losses
    assert_untouched(before, everything(model))
    assert buffers == list(map(id, model.buffers()))
    pending.backward()
    if not fails:  # the same once more, by hand, on a copy
        other = copy.deepcopy(model)
        other.train() if mode == "eval" else other
        for image, target, loss in zip(images, targets, losses.tolist(), strict=True):
            with torch.no_grad():
                expected = sum(map(float, other([image], [target]).values()))
            assert loss == pytest.approx(expected)
        assert not losses.requires_grad
        assert len(set(losses.tolist())) == len(images)


def test_a_detector_trains_on_the_images_that_it_chose():
    """A whole loop: scored and trained on image by image; the ledger knows each image's own loss."""
    torch.manual_seed(1)
    model, data = Detector().train(), list(zip(*pictures(range(5, 21)), strict=True))
    loader = wrap(
        DataLoader(data, 4, collate_fn=lambda samples: tuple(zip(*samples, strict=True))),
        SB(start_epoch=0, beta=1.0),
        score=scorer(model, mode="train", forward=lambda model, batch: one_by_one(model, *batch)),
        epochs=2,
    )
    model.body[1].eval()  # without dropout, a loss can be had again
    for images, targets in loader:
        losses = one_by_one(model, images, targets)
        loader.reduce(losses, weights={"loss_cls": 0.0}).backward()
        with torch.no_grad():
            own = [
                (model.body(model.frozen(image[None])).mean((0, 2, 3)) - target["boxes"]).abs().mean()
                for image, target in zip(images, targets, strict=True)
            ]
        assert loader.ledger.loss[loader.indices].tolist() == pytest.approx(list(map(float, own)), rel=1e-5)
    assert 0 < loader.stats.trained < len(data) == loader.stats.scored
    assert model.body[2].weight.grad.abs().sum() > 0


def test_scoring_functions_may_tell_terms():
    terms = {"box": torch.arange(8.0), "cls": torch.arange(8.0).square()}
    loader = wrap(
        DataLoader(range(8), 4), Adonis(), score=lambda batch: {name: term[batch] for name, term in terms.items()}
    )
    list(loader)
    assert loader.ledger.score.tolist() == (terms["box"] + terms["cls"]).tolist()


def test_loss_functions_may_tell_terms_or_masked_tokens():
    batch = torch.randn(B, T, 3), torch.randint(C, (B, T)).masked_fill(~MASK, -100)
    model = nn.Linear(3, C)

    def losses(logits, labels):
        return F.cross_entropy(logits.mT, labels, reduction="none", ignore_index=-100)

    expected = of_samples(losses(model(batch[0]), batch[1]))
    masked = scorer(model, lambda logits, labels: per_sample(losses(logits, labels), mask=labels != -100))
    assert masked(batch).losses.tolist() == pytest.approx(expected)
    terms = scorer(model, lambda x, y: {"a": losses(x, y)[:, 0], "b": losses(x, y)[:, 0]}, chunk=3)
    assert terms(batch).losses.tolist() == pytest.approx((2 * losses(model(batch[0]), batch[1])[:, 0]).tolist())


def test_one_by_one_of_tensors_dicts_and_lists():
    model = nn.Linear(3, C)
    x, y = torch.randn(B, 3), torch.arange(B)
    whole = F.cross_entropy(model(x), y, reduction="none")
    losses = one_by_one(lambda x, y: F.cross_entropy(model(x), y), x, y)
    torch.testing.assert_close(losses, whole)
    losses.mean().backward()
    assert model.weight.grad.abs().sum() > 0
    batch = {"x": x, "inner": {"y": y}}
    found = one_by_one(lambda batch: F.cross_entropy(model(batch["x"]), batch["inner"]["y"]), batch)
    torch.testing.assert_close(found, whole)
    terms = one_by_one(lambda x, y: {"ce": F.cross_entropy(model(x[0][None]), y)}, tuple(x), y)
    torch.testing.assert_close(terms["ce"], whole)


@pytest.mark.parametrize(
    ("model", "batch", "error", "said"),
    [
        (lambda x: x, [torch.ones(2, 3)], ValueError, r"must be a single number, not \(1, 3\)"),
        (lambda x: 1.0, [torch.ones(2)], ValueError, "single number, not float"),
        (lambda x, y: x, [torch.ones(2), torch.ones(3)], ValueError, r"of one length .* \[2, 3\]"),
        (lambda x: x, [torch.ones(0)], ValueError, "empty batch"),
        (lambda x: x, [3], TypeError, "not int"),
        (lambda x: {str(int(x)): x}, [torch.arange(2)], ValueError, r"other terms .*\[\['0'\], \['1'\]\]"),
    ],
)
def test_one_by_one_says_what_does_not_fit(model, batch, error, said):
    with pytest.raises(error, match=said):
        one_by_one(model, *batch)


def test_a_scorer_without_a_loss_function_wants_pairs():
    with pytest.raises(TypeError, match=r"without a loss_fn expected a batch of \(inputs, targets\), not dict"):
        scorer(nn.Linear(3, C))({"x": torch.ones(2, 3)})
    with pytest.raises(ValueError, match=r"mode 'training'"):
        scorer(nn.Linear(3, C), mode="training")
