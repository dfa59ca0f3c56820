"""``PartialForward`` against networks that are cut by hand."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leantrain import IDS, SB, Adonis, Batch, ComposerSB, InfoBatch, PartialForward, Run, Selector
from leantrain.core.ledger import Ledger
from leantrain.tasks.image_classification.models import build
from leantrain.utils.torchvision_compat import import_torchvision
from toys import embedding

B, C = 12, 5
Halves = tuple[Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor]]


def tiny_resnet() -> tuple[nn.Module, str, Halves]:
    halves = lambda m, x: m.blocks[0](m.stem(x)), lambda m, z: m.fc(m.blocks[2](m.blocks[1](z)).mean((2, 3)))
    return build("tiny-resnet", classes=C, width=8), "blocks.0", halves


def own_mobilenet() -> tuple[nn.Module, str, Halves]:
    halves = lambda m, x: m.features[:6](x), lambda m, z: m.fc(m.features[6:](z).mean((2, 3)))
    return build("mobilenetv2-32", classes=C, width=8), "features.5", halves


def resnet18() -> tuple[nn.Module, str, Halves]:
    import_torchvision()

    def shallow(m: Any, x: Tensor) -> Tensor:
        return m.layer2(m.layer1(m.maxpool(F.relu(m.bn1(m.conv1(x))))))

    return build("resnet18", classes=C), "layer2", (shallow, lambda m, z: m.fc(m.layer4(m.layer3(z)).mean((2, 3))))


def vit() -> tuple[nn.Module, str, Halves]:
    from importlib import import_module

    import_torchvision()
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = import_module("torchvision.models").VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=C)
        nn.init.normal_(model.heads.head.weight)  # zeros otherwise

    def shallow(m: Any, x: Tensor) -> Tensor:
        tokens = m.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([m.class_token.expand(len(x), -1, -1), tokens], dim=1) + m.encoder.pos_embedding
        return m.encoder.layers.encoder_layer_1(m.encoder.layers.encoder_layer_0(tokens))

    def deep(m: Any, z: Tensor) -> Tensor:
        return m.heads(m.encoder.ln(m.encoder.layers.encoder_layer_2(z))[:, 0])

    return model, "encoder.layers.encoder_layer_1", (shallow, deep)


NETWORKS = [tiny_resnet, own_mobilenet, resnet18, vit]


def batch(number: int, size: int = B) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(number)
    return torch.randn(size, 3, 32, 32, generator=rng), torch.randint(C, (size,), generator=rng)


def plain(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([-row.log_softmax(0)[label] for row, label in zip(logits, labels, strict=True)])


def assert_same(model: nn.Module, other: nn.Module, **tolerance: float) -> None:
    pairs = zip(model.named_parameters(), other.parameters(), strict=True)
    gradients = [(name, a.grad, b.grad) for (name, a), b in pairs]
    assert any(a.abs().max() > 0 for _, a, _ in gradients)
    buffers = [(name, a, b) for (name, a), b in zip(model.named_buffers(), other.buffers(), strict=True)]
    for name, a, b in gradients + buffers:
        torch.testing.assert_close(a, b, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_those_of_the_kept_samples_in_a_network_cut_by_hand(network: Any) -> None:
    model, cut, (shallow, deep) = network()
    model.train()
    partial = PartialForward(model, F.cross_entropy, cut=cut, selector=SB(beta=1.0, start_epoch=0), batch_norm="all")
    partial(*batch(0), epoch=0)
    assert partial.kept.tolist() == list(range(B))
    for number in (1, 2):
        model.zero_grad()
        twin, (images, labels) = copy.deepcopy(model), batch(number)
        partial(images, labels, epoch=0).backward()
        kept = partial.kept
        assert 2 <= len(kept) < B
        plain(deep(twin, shallow(twin, images)[kept]), labels[kept]).mean().backward()
        assert_same(model, twin, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_kept_is_plain_training_on_the_kept_samples(network: Any) -> None:
    model, cut, _ = network()
    model.train()
    model = nn.Sequential(nn.Dropout(0.2), model)
    partial = PartialForward(
        model, F.cross_entropy, cut=f"1.{cut}", selector=SB(beta=1.0, start_epoch=0), batch_norm="kept"
    )
    with torch.random.fork_rng([]):
        partial(*batch(0), epoch=0)
        for number in (1, 2):
            model.zero_grad()
            twin, (images, labels) = copy.deepcopy(model), batch(number)
            torch.manual_seed(7)
            loss = partial(images, labels, epoch=0)
            loss.backward()
            assert 2 <= len(partial.kept) < B
            torch.manual_seed(7)
            expected = F.cross_entropy(twin(images[partial.kept]), labels[partial.kept], reduction="none").mean()
            expected.backward()
            assert torch.equal(loss, expected)
            assert_same(model, twin, rtol=0, atol=0)


def by_hand(features: Tensor, labels: Tensor, head: dict[str, Tensor]) -> Tensor:
    means = features.detach().double()
    if means.ndim == 4:
        means = means.unflatten(3, (4, -1)).unflatten(2, (4, -1)).mean((3, 5)).flatten(1)
    else:
        means = means.mean(1)
    means = means - means.mean(1, keepdim=True)
    normal = means / (means.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return plain(normal @ head["2.weight"].double().T + head["2.bias"].double(), labels).float()


@pytest.mark.parametrize("network", [tiny_resnet, vit])
def test_the_head_predicts_losses_and_the_method_judges_them(network: Any) -> None:
    model, cut, (shallow, _) = network()
    model.train()
    method = Adonis(stale_epochs=1, start_epoch=1)
    partial = PartialForward(model, F.cross_entropy, cut=cut, selector=method, batch_norm="all", seed=3)
    alone = Adonis(stale_epochs=1, start_epoch=1)
    alone.setup(Run(size=0, batch_size=1, epochs=None, seed=3, ledger=Ledger(0)))
    for epoch in range(3):
        for number in range(3):
            twin, (images, labels) = copy.deepcopy(model), batch(3 * epoch + number)
            head = copy.deepcopy(partial.state_dict()["head"])
            partial(images, labels, epoch=epoch)
            if head is None:
                assert (epoch, number, partial.predicted) == (0, 0, None)
                continue
            predicted = partial.predicted
            assert predicted is not None
            torch.testing.assert_close(predicted, by_hand(shallow(twin, images), labels, head))
            kept = list(range(B))
            if epoch > 0:
                kept = alone.select(Batch(epoch, number, torch.arange(B), predicted)).tolist()
                assert len(kept) >= 2
            assert partial.kept.tolist() == kept
    assert partial.report()["samples_seen"] == 9 * B
    assert 3 * B < partial.report()["samples_used"] < 9 * B


def test_the_head_learns_what_can_be_learnt_at_the_cut() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, C))
    partial = PartialForward(model, F.cross_entropy, cut="0", selector=SB(start_epoch=99), head_lr=0.1)
    rng = torch.Generator().manual_seed(0)
    for _ in range(80):
        x = torch.randn(64, 4, generator=rng)
        partial(x, (x[:, 0] > 0).long(), epoch=0)
    assert partial.predicted is not None
    assert partial.predicted.mean() < 0.35  # 0.69 without looking


class Keep(Selector):
    """Keeps the given positions."""

    needs = frozenset({"score"})

    def __init__(self, positions: list[int]) -> None:
        self.positions = positions

    def loss_age(self, epoch: int) -> int | None:
        return 1

    def select(self, batch: Batch) -> Tensor:
        return torch.tensor(self.positions, dtype=torch.int64)


@pytest.mark.parametrize(("positions", "count"), [([], 2), ([4], 2), ([7, 2], 2), ([9, 1, 3], 3)])
@pytest.mark.parametrize("batch_norm", ["all", "kept"])
def test_at_least_two_go_on_the_largest_losses_first(positions: list[int], count: int, batch_norm: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, C))
    partial = PartialForward(model, F.cross_entropy, cut="0", selector=Keep(positions), batch_norm=batch_norm)
    x, y = torch.randn(B, 4), torch.arange(B) % C
    partial(x, y, epoch=0)
    partial(x, y, epoch=0)
    assert partial.predicted is not None
    others = [i for i in partial.predicted.argsort(descending=True).tolist() if i not in positions]
    assert partial.kept.tolist() == sorted(positions + others[: count - len(positions)])


@pytest.mark.parametrize("batch_norm", ["all", "kept"])
def test_leaves_nothing_on_the_model(batch_norm: Any) -> None:
    model, cut, _ = tiny_resnet()
    model.train()
    model.get_submodule("blocks.2").eval()
    flags = [module.training for module in model.modules()]
    partial = PartialForward(
        model, F.cross_entropy, cut=cut, selector=SB(beta=1.0, start_epoch=0), batch_norm=batch_norm
    )
    random = torch.get_rng_state()
    for number in range(3):
        partial(*batch(number), epoch=0)
    with pytest.raises(IndexError):
        partial(batch(3)[0], batch(3)[1] + C, epoch=0)
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("batch_norm", ["all", "kept"])
def test_goes_on_from_a_state(batch_norm: Any) -> None:
    def make(model: nn.Module) -> PartialForward:
        return PartialForward(model, F.cross_entropy, cut="blocks.0", selector=SB(beta=1.0), batch_norm=batch_norm)

    def steps(partial: PartialForward, first: int, last: int) -> list[Any]:
        found = []
        for step in range(first, last):
            found.append((partial(*batch(step), epoch=step // 4).item(), partial.kept.tolist()))
        return found

    model = tiny_resnet()[0].train()
    straight = make(model)
    steps(straight, 0, 6)
    resumed = make(copy.deepcopy(model))
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    assert steps(resumed, 6, 10) == steps(straight, 6, 10)
    assert resumed.report() == straight.report()


def test_a_head_and_a_loss_of_ones_own() -> None:
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Conv1d(4, 1, 3))
    head = nn.Conv1d(4, 1, 3)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean((1, 2))

    partial = PartialForward(model, loss, cut="1", selector=SB(beta=1.0, start_epoch=0), head=head)
    x, y = torch.randn(B, 1, 16), torch.randn(B, 1, 12)
    expected = loss(head(model[1](model[0](x))), y).detach()
    partial(x, y, epoch=0).backward()
    torch.testing.assert_close(partial.predicted, expected)
    assert len(partial.kept) < B
    with pytest.raises(TypeError, match=r"\(12, 4, 14\) and \(12, 1, 12\)\. Pass head="):
        PartialForward(model, loss, cut="1", selector=SB())(x, y, epoch=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # Dynamo looks at it
def test_parts_may_be_compiled() -> None:
    model, cut, (shallow, deep) = tiny_resnet()
    model.train()
    partial = PartialForward(model, F.cross_entropy, cut=cut, selector=SB(beta=1.0, start_epoch=0), batch_norm="all")
    partial(*batch(0), epoch=0)
    twin, (images, labels) = copy.deepcopy(model), batch(1)
    model.get_submodule("blocks.1").compile(backend="eager")
    partial(images, labels, epoch=0).backward()
    assert len(partial.kept) < B
    F.cross_entropy(deep(twin, shallow(twin, images)[partial.kept]), labels[partial.kept]).backward()
    assert_same(model, twin, rtol=1e-4, atol=1e-6)


def test_with_kept_something_may_lead_around_the_cut() -> None:
    model, x, y = Around(), torch.randn(B, 4), torch.arange(B) % 4
    partial = PartialForward(model, F.cross_entropy, cut="middle", selector=Keep([3, 8]), batch_norm="kept")
    partial(x, y, epoch=0)
    torch.testing.assert_close(partial(x, y, epoch=0), plain(model(x[[3, 8]]), y[[3, 8]]).mean())


class Around(nn.Module):
    """A connection leads around ``middle``; ``twice`` runs two times, ``unused`` never."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.unused, self.head = (nn.Linear(4, 4) for _ in range(4))
        self.twice, self.rows = nn.ReLU(), nn.Unflatten(0, (2, -1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.first(x))
        self.rows(x)
        self.middle(x)
        return self.head(self.twice(x))


@pytest.mark.parametrize(
    ("cut", "error", "message"),
    [
        ("middel", ValueError, "Unknown cut 'middel'. Did you mean 'middle'"),
        (
            "middle",
            ValueError,
            "2 samples were kept at 'middle', and the model gave 12 outputs: something leads around",
        ),
        ("unused", ValueError, "did not come by 'unused'. Name a module that it calls"),
        ("twice", ValueError, "'twice' runs more than once"),
        ("rows", TypeError, r"'rows' gives \(2, 6, 4\); a cut needs a tensor of 12 rows"),
    ],
)
def test_a_cut_that_does_not_fit(cut: str, error: Any, message: str) -> None:
    model = Around()

    def run() -> None:
        partial = PartialForward(model, F.cross_entropy, cut=cut, selector=Keep([0, 1]), batch_norm="all")
        for _ in range(2):
            partial(torch.randn(B, 4), torch.arange(B) % 4, epoch=0)

    with pytest.raises(error, match=message):
        run()
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (InfoBatch(), "InfoBatch chooses before an epoch.*Use Adonis, SB or ComposerSB"),
        (SB(score="recycle"), "SB chooses before an epoch"),
        (IDS(features=embedding()) | Adonis(), "no labels were found"),
        (ComposerSB(), "depends on the length of the training"),
    ],
)
def test_a_method_that_does_not_fit(selector: Selector, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PartialForward(Around(), F.cross_entropy, cut="first", selector=selector)


def test_a_loss_that_is_not_finite_is_named_before_anything_learns_from_it() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, C))
    partial = PartialForward(model, F.cross_entropy, cut="0", selector=SB())
    x, y = torch.randn(B, 4), torch.arange(B) % C
    partial(x, y, epoch=0)
    before = copy.deepcopy(partial.state_dict()["head"])
    x[3] = torch.nan
    with pytest.raises(FloatingPointError, match=r"at positions \[3\].*output of '0'"):
        partial(x, y, epoch=0)
    assert all(torch.equal(before[name], value) for name, value in partial.state_dict()["head"].items())
