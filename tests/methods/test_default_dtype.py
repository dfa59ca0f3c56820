"""Scientific scripts set torch's default dtype. What is selected, and how it is weighted, does not depend on it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import PartialForward, Replay, data, embed, wrap
from leantrain.embed.gradients import gradients
from leantrain.replay.record_replay import Record
from leantrain.tasks.image_classification.augment import Augment
from toys import EACH_METHOD, METHODS, SIZE, Numbers

LOSSES = torch.rand(10, SIZE, generator=torch.Generator().manual_seed(1)) * 3
OTHERS = [torch.float64, torch.bfloat16]


@pytest.fixture(params=OTHERS, ids=str)
def default(request: Any) -> Iterator[Any]:
    """Calls a function under another default dtype."""

    def under(function: Any) -> Any:
        torch.set_default_dtype(request.param)
        try:
            return function()
        finally:
            torch.set_default_dtype(torch.float32)

    return under


def trained(selector: Any) -> list[Any]:
    """What is trained on in six epochs, and the gradient of each loss."""

    def score(batch: Any) -> Tensor:
        return LOSSES[loader.epoch, batch[0]]

    plain = DataLoader(Numbers(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))
    loader: Any = wrap(plain, selector, score=score, epochs=6, goal="balanced")
    assert loader.lr_factor == 1
    told = []
    for _ in range(6):
        for indices, labels in loader:
            losses = LOSSES[loader.epoch, indices].clone().requires_grad_()
            logits = F.one_hot(labels * (losses.detach() > 1), 4).to(torch.float32)
            loader.reduce(losses, logits=logits, targets=labels).backward()
            told += [indices.tolist(), losses.grad.tolist()]  # pyright: ignore[reportOptionalMemberAccess]
    return [*told, *(fact.nan_to_num(-1).tolist() for fact in (loader.ledger.loss, loader.ledger.confidence))]


@pytest.mark.parametrize("method", EACH_METHOD)
def test_every_method_selects_the_same(method: str, default: Any) -> None:
    selector = METHODS[method]()
    expected = trained(METHODS[method]())
    assert default(lambda: trained(selector)) == expected


def test_a_recording_is_the_same(default: Any, tmp_path: Any) -> None:
    expected = trained(Record(METHODS["infobatch"](), tmp_path / "plain"))
    assert default(lambda: trained(Record(METHODS["infobatch"](), tmp_path / "other"))) == expected
    assert default(lambda: trained(Replay(path=tmp_path / "plain"))) == trained(Replay(path=tmp_path / "other"))


def test_conditions_and_augmentation_are_the_same(default: Any) -> None:
    def changed() -> Any:
        made = data.load("digits", limit=60, condition="redundant=3+noise=0.2")
        augment = Augment(made.mean, made.std, 8, pad=1, flip=True, rotation=20)
        images, rows = made.train.images[:9], torch.arange(9)  # pyright: ignore[reportAttributeAccessIssue]
        return made, augment(images, rows, 3), augment.plain(images)

    (one, *expected), (other, *found) = changed(), default(changed)
    assert one.fingerprint == other.fingerprint
    assert torch.equal(one.train.images, other.train.images)
    assert (one.mean, one.std) == (other.mean, other.std)
    for left, right in zip(expected, found, strict=True):
        assert right.dtype == torch.float32
        assert torch.equal(left, right)


def test_embedding_passes_give_float32(default: Any) -> None:
    images = torch.rand(12, 6, generator=torch.Generator().manual_seed(2))
    plain = DataLoader([(images[i], i % 3) for i in range(12)], batch_size=5)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    def passes() -> list[Tensor]:
        made = gradients(model, plain)()
        features = embed.embed(plain, embed.penultimate(model)).values
        return [features, made.delta, made.features, embed.el2n_scores(model, plain), embed.grand_scores(model, plain)]

    for left, right in zip(passes(), default(passes), strict=True):
        assert right.dtype == torch.float32
        assert torch.equal(left, right)


def test_a_partial_forward_has_a_head_of_the_models_type(default: Any) -> None:
    def losses() -> Any:
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        partial = PartialForward(model, F.cross_entropy, cut="0", selector=METHODS["adonis"](), epochs=2)
        x, y = torch.rand(12, 6), torch.arange(12) % 3
        return [partial(x, y, epoch=epoch) for epoch in (0, 0, 1, 1)]

    with torch.random.fork_rng([]):
        assert all(bool(loss.isfinite()) for loss in default(losses))
