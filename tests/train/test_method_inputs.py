"""What the trainer makes for a method: probes, gradients, embeddings, and where their time and samples are counted."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from leantrain import data
from leantrain.core.inputs import Input
from leantrain.methods import METHODS
from leantrain.methods._static_scores import ProbeRanking
from leantrain.train.config import TrainConfig
from leantrain.train.method_inputs import build, check, held
from leantrain.train.session import Session
from leantrain.train.trainer import train
from leantrain.utils import memory

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"limit": 150, "width": 4, "epochs": 4, "batch_size": 32, "device": "cpu"} | changes)


SETTINGS = {
    "adonis": {"theta": "auto"},
    "forget": {"probe_epochs": 2},
    "el2n": {"probe_epochs": 1},
    "grad-match": {"select_every": 2},
    "grad-match-pb": {"select_every": 2},
    "rho-loss": {"holdout_epochs": 1, "keep_ratio": 0.5, "scoring_batches": 2},
}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "replay"])
def test_every_method_trains(digits, method):
    settings = config(settings=SETTINGS, goal="balanced", epochs=3)
    check(settings, [method])
    result = train(settings, digits, method, seed=0)
    facts = result.facts
    aside = facts.aside
    assert int(result.trained.sum()) == facts.backward_samples - aside.backward
    assert facts.forward_samples == int(result.trained.sum()) + facts.scored_samples + aside.forward
    assert len(facts.class_accuracy) == 10
    again = train(settings, digits, method, seed=0)
    assert torch.equal(result.trained, again.trained)
    assert facts.accuracy == again.facts.accuracy


@pytest.mark.parametrize(
    ("method", "forward", "backward"),
    [
        ("forget", 2 * 150, 2 * 150),
        ("el2n", 150 + 150, 150),  # a probe of one epoch, then a pass over all
        ("grand", 150, 0),  # at initialisation
        ("rho-loss", 150 + 150, 150),  # two halves, each trained on for an epoch and asked of the other
        ("ssp", 150, 0),
        ("grad-match", 2 * 150, 0),  # a pass at epochs 0 and 2
    ],
)
def test_what_is_done_aside_is_counted(digits, method, forward, backward):
    facts = train(config(settings=SETTINGS), digits, method, seed=0).facts
    assert facts.aside.model_dump() == {"forward": forward, "backward": backward}
    assert (facts.preprocess_seconds > 0) == (method != "grad-match")
    assert facts.total_seconds == facts.train_seconds + facts.preprocess_seconds
    assert facts.selection_seconds >= 0


def test_forget_drops_what_its_probe_forgot_least(digits):
    """The probe is the full training of as many epochs with the same seed, and the training starts afresh."""
    session = Session(config(), digits, 0)
    events = build(session.config, "forget", session).events(2)
    probe = Session(config(), digits, 0)
    from leantrain import Full
    from leantrain.methods.forget import forgetting_events

    for _ in probe.fit(Full(), 2):
        pass
    assert torch.equal(events, forgetting_events(probe.loader.ledger))
    fresh = Session(config(), digits, 0)
    for name, value in session.model.state_dict().items():
        assert torch.equal(value, fresh.model.state_dict()[name])


@dataclass(kw_only=True, eq=False)
class Latest(ProbeRanking):
    """Keeps the last samples that a probe trained on: a method that no other file knows of."""

    inputs: ClassVar = {"seen": Input("history", lambda ledger: torch.arange(ledger.size) * ledger.trained)}

    seen: Any


def test_a_method_says_itself_what_it_is_to_be_given(digits, monkeypatch):
    monkeypatch.setitem(METHODS, "latest", Latest)
    settings = config(settings={"latest": {"probe_epochs": 2, "prune_ratio": 0.4}})
    check(settings, ["latest"], digits)
    result = train(settings, digits, "latest", seed=0)
    facts = result.facts
    assert result.trained.tolist() == [0] * 60 + [4] * 90
    assert facts.aside.model_dump() == {"forward": 2 * 150, "backward": 2 * 150}
    assert facts.backward_samples == 2 * 150 + 4 * 90
    assert facts.settings == {"probe_epochs": 2, "prune_ratio": 0.4}


def test_no_holdout_model_saw_the_sample_that_it_judges(digits, monkeypatch):
    from leantrain.train import method_inputs as module

    seen = []
    original = module._probe

    def spy(session, epochs, part=None):
        seen.append(part)
        return original(session, epochs, part)

    monkeypatch.setattr(module, "_probe", spy)
    settings = config(settings=SETTINGS)
    losses = build(settings, "rho-loss", Session(settings, digits, 0)).holdout_losses()
    assert losses.shape == (150,)
    assert losses.isfinite().all()
    first, second = (set(part.tolist()) for part in seen)
    assert first.isdisjoint(second)
    assert first | second == set(range(150))


def test_a_label_gives_a_method_settings_of_its_own(digits):
    settings = config(settings={"rs2": {"keep_ratio": 0.5}, "rs2@few": {"keep_ratio": 0.3}})
    assert train(settings, digits, "rs2@few", seed=0).facts.backward_samples == 4 * 45
    assert train(settings, digits, "rs2", seed=0).facts.backward_samples == 4 * 75


def test_a_class_floor_around_any_method(digits):
    facts = train(config(class_floor=0.5, settings={"rpd": {"keep_ratio": 0.2}}), digits, "rpd", seed=0).facts
    assert facts.events["samples_added_by_class_floor"] > 0
    assert facts.backward_samples >= 4 * 75
    full = train(config(class_floor=0.5), digits, "full", seed=0).facts
    assert full.events == {}


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "RMSprop"])
def test_other_optimizers_take_the_same_first_step_as_torchs_own(digits, optimizer):
    session = Session(config(optimizer=optimizer.lower(), lr=0.003, weight_decay=0.1), digits, 0)
    weight = torch.nn.Parameter(session.module.fc.weight.detach().clone())
    own = getattr(torch.optim, optimizer)([weight], lr=0.003, weight_decay=0.1)
    weight.grad = session.module.fc.weight.grad = torch.ones_like(weight)
    own.step()
    session.optimizer.step()
    assert torch.equal(weight, session.module.fc.weight)


def test_a_recording_of_one_model_is_replayed_by_another(digits, tmp_path):
    """The sources' use: subsets chosen with one architecture train another one."""
    first = train(config(settings=SETTINGS), digits, "grad-match", seed=0, record=tmp_path / "picks")
    replayed = config(model="tiny-resnet", lr=0.01, settings={"replay": {"path": str(tmp_path / "picks")}})
    second = train(replayed, digits, "replay", seed=1)
    assert torch.equal(first.trained, second.trained)
    assert second.facts.scored_samples == 0
    assert second.facts.aside.model_dump() == {"forward": 0, "backward": 0}


@pytest.mark.parametrize("method", ["ids", "ssp", "grad-match", "infobatch+grad-match-pb", "infobatch", "forget"])
def test_what_will_be_held_is_known_before_anything_is_trained(digits, method, monkeypatch):
    """By the check of the settings and by the session alike; a refusal leaves not a step done."""
    settings = config(settings=SETTINGS)
    session = Session(settings, digits, 0)
    needed = sum(part.bytes for part in held(build(settings, method, session), session))
    embeds = method not in ("infobatch", "forget")
    assert (needed > 150 * 4 * 4) == embeds
    monkeypatch.setattr(memory, "available", lambda device="cpu": needed - 1)
    if not embeds:
        check(settings, [method], digits)
        assert needed == 0
        return
    with pytest.raises(ValueError, match="The selection would hold"):
        check(settings, ["full", method], digits)
    rows = []
    with pytest.raises(ValueError, match="The selection would hold"):
        train(settings, digits, method, seed=0, after_epoch=rows.append)
    assert rows == []
    monkeypatch.setattr(memory, "available", lambda device="cpu": needed)
    check(settings, [method], digits)
    told = []
    train(settings, digits, method, seed=0, before_start=told.append)
    assert [sum(part.bytes for part in parts) for parts in told] == [needed]


@pytest.mark.parametrize(
    ("method", "said"), [("forget", "Forget with probe_epochs=20"), ("rs2+el2n", "EL2N with probe_epochs=10")]
)
def test_a_long_probe_is_told_before_anything_is_trained(method, said):
    with pytest.warns(UserWarning, match=said):
        check(config(epochs=10, class_floor=0.1), ["full", method])
    check(config(epochs=10, settings={"forget": {"probe_epochs": 0.2}, "el2n": {"probe_epochs": 2}}), [method])
