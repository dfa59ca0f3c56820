"""The reference trainer against a plain PyTorch loop, its options and its accounting."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from leantrain import InfoBatch, Loader, Selector, data, methods
from leantrain.checkpoint.format import load_latest, save
from leantrain.schedule import linear_peak
from leantrain.tasks.image_classification import models
from leantrain.tasks.image_classification.augment import Augment
from leantrain.train.config import TrainConfig
from leantrain.train.method_inputs import build
from leantrain.train.session import CHUNK, Session
from leantrain.train.trainer import train

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"limit": 150, "width": 4, "epochs": 3, "batch_size": 32, "device": "cpu"} | changes)


def test_full_training_is_a_plain_loop_bit_for_bit(digits):
    settings = config()
    trained = train(settings, digits, "full", seed=3).model.state_dict()
    model = models.build("small", classes=10, channels=1, image_size=8, width=4, seed=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    augment = Augment(digits.mean, digits.std, 8, seed=3, **digits.augment)
    order = torch.Generator().manual_seed(3)
    factor, steps = linear_peak(0.2), 0
    model.train()
    for epoch in range(3):
        indices = DataLoader(range(150), batch_size=32, shuffle=True, generator=order)
        for batch in indices:
            images, labels = digits.train.images[batch], digits.targets[batch]
            done = (epoch + min(1.0, (steps - 5 * epoch) * 32 / 150)) / 3
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * factor(done)
            F.cross_entropy(model(augment(images, batch, epoch)), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, next(v for n, v in trained.items() if n.endswith(name))), name


def test_no_global_random_state_moves(digits):
    before = torch.get_rng_state()
    train(config(epochs=1), digits, "ids+adonis", seed=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_do_not_change_the_result(digits, workers):
    assert torch.equal(
        train(config(epochs=2, workers=workers), digits, "sb", seed=0).trained,
        train(config(epochs=2), digits, "sb", seed=0).trained,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"channels_last": True, "width": 8},  # torch 2.13 on AVX2 alone corrupts its heap with 4 channels so laid out
        {"schedule": "multistep"},
        {"schedule": "cosine", "warmup": 0.0},
        {"schedule": "constant"},
        {"model": "tiny-resnet"},
    ],
)
def test_options(digits, options):
    result = train(config(epochs=1, **options), digits, "adonis", seed=0)
    assert all(value.isfinite().all() for value in result.model.state_dict().values())


@pytest.mark.parametrize(("precision", "chunk"), [("fp32", CHUNK), ("bf16", 2 * CHUNK)])
def test_scores_on_the_cpu_in_chunks(digits, monkeypatch, precision, chunk):
    """Batches of 64, of which Adonis judges two joined: never more than ``chunk`` samples in a scoring pass."""
    rows = []

    def counted(model, *given):
        if not model.training:
            rows.append(len(given[0][0]))

    build = models.build
    monkeypatch.setattr(models, "build", lambda *a, **k: hooked(build(*a, **k), counted))
    settings = config(epochs=1, batch_size=64, precision=precision, settings={"adonis": {"scoring_batches": 2}})
    result = train(settings, digits, "adonis", seed=0, evaluate=False)
    assert (sum(rows), max(rows)) == (150, chunk)
    assert result.facts.scored_samples == 150


def hooked(model, hook):
    model.register_forward_pre_hook(hook)
    return model


def alike(one, other) -> float:
    """Share of the samples that both runs trained on as often."""
    assert one.trained.min() < one.trained.max()  # where all are trained on alike there was no choice
    return float((one.trained == other.trained).float().mean())


@pytest.mark.parametrize("method", ["composer-sb", "grad-match", "el2n", "seta"])
@pytest.mark.filterwarnings("ignore:EL2N with probe_epochs=10")  # a training of three epochs
def test_half_precision_chooses_nearly_the_same(digits, method):
    """With a learning rate so small that the models do not drift apart."""
    plain = train(config(lr=1e-4), digits, method, seed=0)
    for layout in (False, True):
        half = train(config(lr=1e-4, precision="bf16", channels_last=layout), digits, method, seed=0)
        assert alike(plain, half) > 0.9


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first compilation on a machine takes minutes
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("method", ["composer-sb", "grad-match"])
def test_a_compiled_model_chooses_the_same(digits, method):
    plain = train(config(lr=1e-4), digits, method, seed=0)
    assert alike(plain, train(config(lr=1e-4, compile=True), digits, method, seed=0)) > 0.98


def test_a_skipped_step_does_not_reach_the_optimizer(digits, monkeypatch):
    """A loss scaler would refuse it, for it has no gradient."""
    steps, step = [], torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda *given: steps.append(1) or step(*given))
    diverging = config(lr=1e18, schedule="constant", epochs=1, nonfinite="skip")
    with pytest.warns(UserWarning, match=r"The step is skipped"):
        result = train(diverging, digits, "full", seed=0, evaluate=False)
    assert result.facts.steps == len(steps) < 5


def test_accounting_of_ids_with_a_snapshot(digits):
    result = train(config(epochs=4, settings={"ids": {"keep_ratio": 0.5}}), digits, "ids", seed=0)
    facts = result.facts
    assert "features" not in facts.settings
    expected = {"keep_ratio": 0.5, "switch_epoch": 0.9, "start_epoch": 1, "per_class": True}
    assert facts.settings | expected == facts.settings
    per_class = [int((digits.targets == label).sum()) for label in range(10)]
    easy = sum(-(-count // 2) + (count > 1) for count in per_class)  # half of the class and its last one
    assert facts.backward_samples == 150 + 3 * easy
    assert facts.forward_samples == facts.backward_samples + 150  # and the embedding pass
    assert facts.preprocess_seconds > 0
    assert facts.total_seconds == facts.train_seconds + facts.preprocess_seconds
    assert int(result.trained.sum()) == facts.backward_samples


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_the_mean_loss_is_read_once_an_epoch_and_exact(digits, monkeypatch, nonfinite):
    session, told, read = Session(config(nonfinite=nonfinite), digits, 0), [], []
    reduce, number = Loader.reduce, torch.Tensor.__float__

    def noted(loader, losses, *more, **named):
        loss = reduce(loader, losses, *more, **named)
        told.append((number(loss.detach()), len(losses)))
        return loss

    monkeypatch.setattr(Loader, "reduce", noted)
    monkeypatch.setattr(torch.Tensor, "__float__", lambda value: read.append(1) or number(value))
    rows = list(session.fit(build(session.config, "full", session), 2))
    assert len(told) == 10
    for row, steps in zip(rows, (told[:5], told[5:]), strict=True):
        total = 0.0
        for loss, size in steps:
            total += loss * size
        assert row["train_loss"] == total / 150
    assert len(read) == 2
    assert {pixels: len(costs) for pixels, costs in session.clock.steps.items()} == {1.0: 10}


def test_a_long_training_keeps_the_latest_costs_of_steps_only(digits):
    steps = Session(config(), digits, 0).clock.steps[1.0]
    steps.extend(range(10_000))
    assert len(steps) == 4096
    assert steps[-1] == 9999


def test_a_cut_budget_compresses_the_schedule(digits):
    rows = train(config(), digits, "full", seed=0, epochs=1.5).epochs
    assert [row["trained"] for row in rows] == [150, 75]
    assert train(config(), digits, "full", seed=0, epochs=1.5).facts.epochs == 1.5


def test_divergence_stops_with_the_samples_named(digits):
    with pytest.raises(FloatingPointError, match=r"loss of sample \[\d+.*is NaN or infinite"):
        train(config(lr=1e18, schedule="constant"), digits, "full", seed=0)


def test_bad_devices_and_precisions_say_what_to_use(digits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"no CUDA device. Use --device cpu"):
        train(config(device="cuda"), digits, "full", seed=0)
    with pytest.raises(ValueError, match=r"fp16' needs a GPU.*bf16"):
        train(config(precision="fp16"), digits, "full", seed=0)


def test_each_note_of_a_method_is_told_once(digits, monkeypatch):
    class Finds(Selector):
        def notes(self):
            return ["found at the start", *[f"found after epoch {epoch}" for epoch in range(self.ended)]]

        def setup(self, run):
            super().setup(run)
            self.ended = 0

        def end_epoch(self, epoch):
            self.ended = min(epoch + 1, 2)

    class Other(Finds):
        def notes(self):
            return ["of the other"]

    monkeypatch.setattr(methods, "make", lambda *_: Other() | Finds())
    told = []
    train(config(), digits, "full", seed=0, evaluate=False, note=told.append)
    assert told == ["of the other", "found at the start", "found after epoch 0", "found after epoch 1"]


def test_half_precision_goes_on_with_its_loss_scale(digits, monkeypatch, tmp_path):
    """As on a GPU, with torch's scaler for the CPU: it grows each two steps."""
    fabric = pytest.importorskip("lightning_fabric")
    precision = pytest.importorskip("lightning_fabric.plugins").MixedPrecision

    def half(config):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
        return fabric.Fabric(accelerator="cpu", devices=1, plugins=precision("16-mixed", "cpu", scaler))

    monkeypatch.setattr("leantrain.train.session.fabric_for", half)

    def run(stop=None, resume=None):
        session, steps = Session(config(epochs=1), digits, 0), 0

        def after_step():
            nonlocal steps
            steps += 1
            if steps == stop:
                save(tmp_path, session.state(), step=steps, facts={})
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            for _ in session.fit(InfoBatch(), 1, resume=resume, after_step=after_step):
                pass
        return session

    straight = run()
    run(stop=2)
    resumed = run(resume=load_latest(tmp_path).state)
    scaler = straight.fabric.strategy.precision.state_dict()
    assert (scaler["scale"], scaler["_growth_tracker"]) == (2.0**10, 1)  # five steps
    assert resumed.fabric.strategy.precision.state_dict() == scaler
    for name, value in straight.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    older = {name: value for name, value in load_latest(tmp_path).state.items() if name != "precision"}
    assert run(resume=older).fabric.strategy.precision.state_dict()["scale"] == 2.0**9  # anew, as then
