"""Models against known parameter counts and torchvision's own, and the import of torchvision."""

import importlib
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from leantrain.tasks.image_classification import models
from leantrain.utils import torchvision_compat

OWN = ["small", "tiny-resnet", "resnet18-32", "resnet50-32", "mobilenetv2-32", "wrn-28-10", "resnet10-128", "small-vit"]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model, size):
    total = 0

    def count(module, _, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    model.eval()(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18-32", 11_173_962),
        ("resnet50-32", 23_520_842),
        ("mobilenetv2-32", 2_296_922),
        ("wrn-28-10", 36_479_194),  # "36.5M" in the paper's Table 4
    ],
)
def test_32x32_variants_have_the_known_parameter_counts(name, count):
    assert parameters(models.build(name, classes=10)) == count


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_compute_what_torchvisions_do_with_the_small_stem(name):
    theirs = models.build(name, classes=10, seed=1)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    ours = models.build(f"{name}-32", classes=10)
    state, other = ours.state_dict(), theirs.state_dict()
    assert [v.shape for v in state.values()] == [v.shape for v in other.values()]
    ours.load_state_dict(dict(zip(state, other.values(), strict=True)))
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.train()(x), theirs.train()(x), rtol=1e-4, atol=1e-4)


def test_mobilenet_keeps_the_resolution_in_stem_and_second_stage():
    model = models.build("mobilenetv2-32", classes=10).eval()
    assert model.features(torch.zeros(1, 3, 32, 32)).shape == (1, 1280, 4, 4)


@pytest.mark.parametrize(("name", "millions"), [("small", 12.5), ("tiny-resnet", 12.3)])
def test_small_models_are_as_cheap_as_they_say(name, millions):
    assert multiply_adds(models.build(name, classes=10), 32) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 8)])
def test_own_models_end_in_a_linear_head(name, channels, size):
    model = models.build(name, classes=7, channels=channels, image_size=size, width=8)
    assert isinstance(list(model.modules())[-1], nn.Linear)
    assert list(model.modules())[-1] is model.fc
    logits = model(torch.zeros(2, channels, size, size))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_network_for_larger_images_is_as_cheap_as_it_says():
    assert multiply_adds(models.build("resnet10-128", classes=10), 128) / 1e6 == pytest.approx(36, abs=0.5)


def test_a_transformer_interpolates_its_positions_and_refuses_sides_that_its_patches_do_not_divide():
    model = models.build("small-vit", classes=3, image_size=64, width=32).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, half = model(images), model(images[..., ::2, ::2])
        model.positions.copy_(torch.ones_like(model.positions))  # the same everywhere: they are at any size
        flat = model(images[:, :, :8, :8])
        model.positions = nn.Parameter(model.positions[..., :1, :1])
        torch.testing.assert_close(flat, model(images[:, :, :8, :8]))
    assert whole.shape == half.shape == (2, 3)
    with pytest.raises(ValueError, match=r"images of 20 pixels do not divide into patches of 8"):
        model(torch.zeros(1, 3, 20, 20))
    with pytest.raises(ValueError, match=r"width=128 and image_size=30.*the side by 8"):
        models.build("small-vit", classes=3, image_size=30)


def test_names_are_this_packages_own():
    assert models.names() == (*OWN,)


def test_width_scales_the_model():
    assert parameters(models.build("small", classes=10, width=16)) == parameters(models.build("small", classes=10))
    assert parameters(models.build("small", classes=10, width=8)) < parameters(models.build("small", classes=10)) / 3
    with pytest.raises(ValueError, match="width=8 has no effect on 'resnet18'"):
        models.build("resnet18", classes=10, width=8)


@pytest.mark.parametrize("name", ["small", "resnet18", "timm:resnet10t"])
def test_seed_decides_the_weights_and_global_generators_stay(name):
    state = torch.get_rng_state()
    first, again, other = (models.build(name, classes=3, seed=s) for s in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "timm:resnet18"])
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_and_timm_models_get_the_head_and_channels(name, channels, monkeypatch):
    def download(*_, **__):
        raise AssertionError("weights were asked for")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    model = models.build(name, classes=7, channels=channels)
    assert model(torch.zeros(2, channels, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "torchvision:vit_b_16"])
def test_transformers_take_the_image_size(name):
    model = models.build(name, classes=3, image_size=32).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_models_with_auxiliary_heads_give_one_output(name):
    with torch.no_grad():
        logits = models.build(name, classes=3).train()(torch.zeros(2, 3, 96, 96))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet18_32", "unknown model 'resnet18_32'. Nearest names: resnet18-32"),
        ("torchvision:resne18", "Nearest names: resnet18,"),
        ("timm:resnett18", "unknown timm model 'resnett18'. Nearest names: resnet18"),
        ("zzzz", f"Known here: {', '.join(OWN)}."),
    ],
)
def test_unknown_names_get_the_nearest(name, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        models.build(name, classes=10)
    assert text in str(caught.value)


@pytest.mark.parametrize("setting", [{"classes": 1}, {"channels": 0}, {"image_size": 0}, {"width": 0}])
def test_numbers_are_checked(setting):
    (name, value), *_ = setting.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        models.build("small", **{"classes": 10, **setting})


# Importing torchvision


@pytest.mark.slow
def test_torchvision_is_usable_in_a_fresh_process():
    """Also next to a torch that its compiled part does not fit, and with timm, which imports it, too."""
    code = """if True:
        from leantrain.utils.torchvision_compat import import_torchvision
        import sys
        assert "torchvision" not in sys.modules  # importing the helper does not import it
        torchvision = import_torchvision()
        assert torchvision is import_torchvision() is sys.modules["torchvision"]
        import timm, torch
        from torchvision.transforms import v2
        assert v2.CenterCrop(4)(torch.zeros(3, 8, 8)).shape == (3, 4, 4)
        assert torchvision.models.get_weight("ResNet18_Weights.DEFAULT").url.startswith("https://")
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_torchvision_without_its_operators_is_imported(tmp_path):
    """A package that fails like torchvision's CUDA wheel next to a CPU torch, whatever is installed here."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "part.py").write_text("value = 1")
    (package / "__init__.py").write_text(
        """if True:
        import torch
        import torchvision.part
        part = torchvision.part.value  # fails where the parts of a failed import are left behind
        for name in ("nms", "qnms"):
            torch.library.register_fake(f"torchvision::{name}")(lambda dets, scores, iou_threshold: dets)
    """
    )
    code = """if True:
        import gc, torch
        from leantrain.utils.torchvision_compat import import_torchvision
        assert import_torchvision().part == 1
        gc.collect()
        assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms
    """
    path = os.pathsep.join([str(tmp_path), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env={**os.environ, "PYTHONPATH": path})


def test_missing_torchvision_comes_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r'pip install "leantrain\[vision\]"'):
        torchvision_compat.import_torchvision()


@pytest.mark.parametrize("text", ["out of memory", "operator torchvision::roi_align does not exist"])
def test_other_failures_of_torchvision_are_not_hidden(monkeypatch, text):
    def broken(name):
        raise RuntimeError(text)

    monkeypatch.setattr(importlib, "import_module", broken)
    declared = len(torchvision_compat._declared)
    with pytest.raises(RuntimeError, match=text):
        torchvision_compat.import_torchvision()
    assert len(torchvision_compat._declared) == declared


def test_missing_timm_comes_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ImportError, match=r'timm:resnet18 needs it\. Install it with: pip install "leantrain\[vision\]"'
    ):
        models.build("timm:resnet18", classes=10)
