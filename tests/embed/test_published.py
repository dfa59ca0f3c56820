"""Extractors with published weights, from files with random ones in their place: the same features by another way.

What is compared with is the model that the weights were taken from, its last layer cut off by hand.
"""

from importlib.util import find_spec
from urllib.error import URLError

import pytest
import torch
from torch import nn

from leantrain.embed import pretrained
from leantrain.train.method_inputs import named_extractor

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
PIXELS = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def inputs(side):
    grey = nn.functional.interpolate(PIXELS / 255, size=(side, side), mode="bilinear", antialias=True)
    return (grey.repeat(1, 3, 1, 1) - MEAN) / STD


def drawn(make):
    """A model with random weights and, unlike a fresh one, statistics and biases that are not 0 or 1."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = make().eval()
        for value in model.state_dict().values():
            if value.is_floating_point() and value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def torchvision():
    if find_spec("torchvision") is None:  # asked for without importing it, which takes our own way in
        pytest.skip('needs torchvision: pip install "leantrain[vision]"')
    from leantrain.utils.torchvision_compat import import_torchvision

    return import_torchvision()


@pytest.fixture(scope="module")
def timm(torchvision):
    return pytest.importorskip("timm", reason='needs timm: pip install "leantrain[vision]"')


@pytest.fixture(scope="module")
def swav(torchvision, tmp_path_factory):
    """The model, and a file as its authors write it: from a training in parallel, with the heads of that training."""
    model = drawn(lambda: torchvision.models.resnet50(weights=None))
    content = {f"module.{name}": value for name, value in model.state_dict().items() if not name.startswith("fc.")}
    content |= {"module.projection_head.0.weight": torch.ones(3, 2048), "module.prototypes.weight": torch.ones(5, 3)}
    file = tmp_path_factory.mktemp("swav") / "swav_800ep_pretrain.pth.tar"
    torch.save(content, file)
    yield model, file
    file.unlink()


@pytest.fixture(scope="module")
def dinov2(timm, tmp_path_factory):
    model = drawn(lambda: timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0))
    file = tmp_path_factory.mktemp("dinov2") / "dinov2_vits14_pretrain.pth"
    torch.save(model.state_dict() | {"mask_token": torch.zeros(1, 384)}, file)
    yield model, file
    file.unlink()


def test_swav_is_a_resnet50_without_the_heads_of_its_training(swav):
    reference, file = swav
    ours = pretrained("swav", weights=file, size=32)
    assert ours.width == 2048
    reference.fc = nn.Identity()
    with torch.no_grad():
        expected = reference(inputs(32))
    assert torch.allclose(ours((PIXELS, torch.zeros(4))), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_dinov2_gives_its_class_token_at_any_multiple_of_14_pixels(dinov2, timm):
    """Against a model made for small images, with the positions interpolated by hand."""
    reference, file = dinov2
    state = reference.state_dict()
    grid = state["pos_embed"][:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    grid = (
        nn.functional.interpolate(grid, size=(3, 3), mode="bicubic", antialias=True).permute(0, 2, 3, 1).flatten(1, 2)
    )
    positions = torch.cat([state["pos_embed"][:, :1], grid], 1)
    small = drawn(lambda: timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0, img_size=42))
    small.load_state_dict(state | {"pos_embed": positions})
    ours = pretrained("dinov2", weights=file, size=42)
    assert ours.width == 384
    with torch.no_grad():
        expected = small.forward_features(inputs(42))[:, 0]
    assert torch.allclose(ours((PIXELS, torch.zeros(4))), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "width"), [("swav", 2048), ("dinov2", 384)])
def test_by_name_and_file_with_torchs_generator_left_alone(request, name, width):
    _, file = request.getfixturevalue(name)
    before = torch.random.get_rng_state()
    first, second = (named_extractor(f"{name}:{file}") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.width == width
    assert first.fingerprint() == second.fingerprint()  # features kept on disk are found again


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("resnet18", "https://download.pytorch.org/models/resnet18-"),
        ("swav", "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"),
        ("dinov2", "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"),
    ],
)
def test_an_absent_file_says_where_to_get_it(timm, tmp_path, name, place):
    file = tmp_path / "nowhere.pth"
    with pytest.raises(FileNotFoundError, match=rf"nowhere\.pth does not exist.*weights of {name}\. Download {place}"):
        named_extractor(f"{name}:{file}")


@pytest.mark.parametrize("name", ["swav", "dinov2"])
def test_a_file_of_something_else_is_refused(timm, tmp_path, name):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=rf"other\.pth does not hold the weights of {name}: \d+ missing, .*; 1 unknown, weight first"
    ):
        named_extractor(f"{name}:{tmp_path / 'other.pth'}")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds no state dict"):
        named_extractor(f"{name}:{tmp_path / 'list.pth'}")


def test_without_a_network_the_file_is_asked_for(timm, monkeypatch):
    def refused(*given, **settings):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refused)
    monkeypatch.setattr(timm, "create_model", refused)
    for name in ("swav", "dinov2"):
        with pytest.raises(
            OSError, match=rf"{name} could not be fetched.*no network.*Download http.*{name}:{name}\.pth"
        ):
            named_extractor(name)
