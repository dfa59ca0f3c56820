"""InputSize and the view: stages against a walk through the training, what loops get, what is counted."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from leantrain import InfoBatch, InputSize, ProgressLR, Record, Replay, data, wrap
from leantrain.compare.costs import modelled_seconds, pooled_costs, work
from leantrain.core.view import View
from leantrain.tasks.image_classification import models
from leantrain.tasks.image_classification.augment import Augment
from leantrain.train.config import TrainConfig
from leantrain.train.facts import RunFacts
from leantrain.train.method_inputs import check
from leantrain.train.trainer import train
from leantrain.utils import nested_batch
from references.input_size import walk
from toys import losses_at, setup


class Images(Dataset):
    """Sample i is an image of i in every pixel, and i."""

    def __init__(self, size: int = 40, side: int = 32) -> None:
        self.targets, self.side = [i % 4 for i in range(size)], side

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, self.side, self.side), float(index)), index


def loader_of(selector, *, epochs=6, seed=0, **options):
    plain = DataLoader(Images(), **({"batch_size": 4, "shuffle": True} | options))
    return wrap(plain, selector, epochs=epochs, seed=seed)


def steps(loader, epochs=6, until=None):
    """(epoch, indices, side, progress) of each step; at ``until`` steps it stops."""
    told = []
    while loader.epoch < epochs:
        for images, index in loader:
            seen = loader.view(images)
            assert torch.equal(seen[:, 0, 0, 0].long(), index)
            loader.reduce(losses_at(loader.epoch, index))
            told.append((loader.epoch, index.tolist(), seen.shape[-1], loader.progress))
            if len(told) == until:
                return told
    return told


@pytest.mark.parametrize("sides", [[0.5, 0.75, 1.0], [1.0], [0.5, 1.0], [0.3, 0.4, 0.5, 1.0]])
@pytest.mark.parametrize("epochs", [1, 5, 7, 2.5])
def test_stages_are_those_of_a_walk_through_the_training(sides, epochs):
    walked = walk(sides)
    selector = setup(InputSize(sides=sides), epochs=epochs)
    for moment in range(0, len(walked), 997):
        passed = (moment + 0.5) / len(walked) * epochs
        view = selector.plan(int(passed), torch.arange(40)).view
        position = (passed - int(passed)) / min(1, epochs - int(passed))
        side, done = walked[moment]
        assert view.done(position) == pytest.approx(done, abs=1e-4)
        at_side, _ = view.of(torch.zeros(1, 1, 1000, 1000), position)
        near = {walked[max(0, moment - 5)][0], walked[min(len(walked) - 1, moment + 5)][0]}
        assert at_side.shape[-1] in {round(s * 1000 / 16) * 16 if s < 1 else 1000 for s in near | {side}}


def test_a_loop_gets_smaller_images_first_and_progress_is_the_share_of_the_pixels():
    loader = loader_of(InputSize())
    told = steps(loader)
    assert len(told) == 60
    assert [side for *_, side, _ in told] == sorted(side for *_, side, _ in told)
    assert {side for *_, side, _ in told} == {16, 32}  # 24 is no multiple of 16
    loader = loader_of(InputSize(stride=8))
    told = steps(loader)
    assert {side for *_, side, _ in told} == {16, 24, 32}
    total, done = sum(side**2 for *_, side, _ in told), 0
    for *_, side, progress in told:
        done += side**2
        assert progress == pytest.approx(done / total, abs=1.5 / 60)
    assert loader.progress == 1
    assert loader.stats.trained == 240
    assert loader.stats.work == pytest.approx(total * 4 / 32**2)
    assert all(sorted(i for epoch, index, *_ in told if epoch == e for i in index) == [*range(40)] for e in range(6))


def test_the_learning_rate_follows_the_work_between_epochs_too():
    loader = loader_of(InputSize(stride=8))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = ProgressLR(optimizer, loader, lambda progress: progress)
    rates = []
    for _ in range(6):
        for images, index in loader:
            loader.view(images)
            loader.reduce(losses_at(loader.epoch, index))
            rates.append((optimizer.param_groups[0]["lr"], loader.progress))
            optimizer.step()
            schedule.step()
        assert loader.progress == rates[-1][1]
    assert all(before[0] <= after[0] for before, after in pairwise(rates))
    for (_, done), (rate, _) in pairwise(rates):
        assert rate == pytest.approx(done)


@pytest.mark.parametrize(("stop", "workers"), [(0, 0), (1, 0), (17, 2), (35, 0), (36, 0), (40, 0), (55, 2)])
def test_it_resumes_at_any_step(stop, workers):
    whole = steps(loader_of(InputSize(stride=8)))
    first = loader_of(InputSize(stride=8), num_workers=workers)
    begun = steps(first, until=stop) if stop else []
    state = copy.deepcopy(first.state_dict())
    second = loader_of(InputSize(stride=8))
    second.load_state_dict(state)
    if stop:
        assert second.progress == begun[-1][-1]
    # A shuffled order of the rest of the epoch comes from the generator of the loader, which torch seeds globally.
    assert [(e, s, p) for e, _, s, p in begun + steps(second)] == [(e, s, p) for e, _, s, p in whole]
    assert second.stats.trained_at == {0.25: 140, 0.5625: 64, 1.0: 36}


def test_between_epochs_progress_is_kept():
    first = loader_of(InputSize(stride=8))
    steps(first, epochs=4)
    assert first.progress == pytest.approx(first.stats.work / (35 * 4 / 4 + 16 * 4 * 0.5625 + 9 * 4), abs=0.02)
    second = loader_of(InputSize(stride=8))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.progress == first.progress


def test_a_replay_sees_what_was_seen(tmp_path):
    pytest.importorskip("pyarrow")
    recorded = steps(loader_of(Record(InputSize(stride=8) | InfoBatch(), tmp_path)))
    replayed = steps(loader_of(Replay(path=tmp_path)))
    assert [(epoch, side, progress) for epoch, _, side, progress in replayed] == [
        (epoch, side, progress) for epoch, _, side, progress in recorded
    ]


def test_it_composes_from_either_side_and_once():
    for selector in (InputSize() | InfoBatch(prune_ratio=0.9), InfoBatch(prune_ratio=0.9) | InputSize()):
        told = steps(loader_of(selector))
        assert told[0][2] == 16
        assert told[-1][2] == 32
        assert len(told) < 60
    with pytest.raises(ValueError, match=r"InputSize \| InputSize: two of them change the size"):
        loader_of(InputSize() | InputSize()).plan  # noqa: B018


def test_a_loop_that_does_not_ask_for_views_is_told_so():
    loader = loader_of(InputSize())
    _, index = next(iter(loader))
    with pytest.raises(RuntimeError, match=r"InputSize trains on smaller inputs first.*x = loader.view\(x\)"):
        loader.reduce(losses_at(0, index))


def test_a_loop_that_tells_no_losses_is_told_so():
    with pytest.raises(RuntimeError, match=r"InputSize needs the losses of each batch"):
        list(loader_of(InputSize()))


def test_without_a_view_the_batch_is_the_very_same():
    loader = loader_of(InfoBatch())
    for images, index in loader:
        assert loader.view(images) is images
        loader.reduce(losses_at(0, index))
    assert loader.stats.work == 40


def test_nothing_that_is_no_image_is_resized():
    view = View([1.0], [0.5], [0.0, 1.0])
    batch = {"pixels": torch.rand(2, 3, 20, 30), "box": torch.rand(2, 4), "name": ["a", "b"]}
    seen, pixels = view.of(batch, 0.3)
    assert seen["pixels"].shape == (2, 3, 10, 15)
    assert pixels == 0.25
    assert seen["box"] is batch["box"]
    assert seen["name"] == ["a", "b"]
    with pytest.raises(TypeError, match=r"resizes images, and found none.*\(B, C, H, W\)"):
        view.of(torch.rand(2, 3), 0.3)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.float64, torch.bfloat16])
def test_images_of_any_type_stay_of_it(kind):
    images = (torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8) % 200).to(kind)
    seen = nested_batch.resize(images, 0.5)
    assert seen.dtype == kind
    exact = torch.nn.functional.interpolate(images.double(), [4, 4], mode="bilinear", antialias=True)
    assert (seen.double() - exact).abs().max() <= (1 if kind != torch.float64 else 1e-4)


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"sides": []}, TypeError, "must be a list of shares"),
        ({"sides": "0.5"}, TypeError, "must be a list of shares"),
        ({"sides": [0.5, 0.75]}, ValueError, "the last of them 1"),
        ({"sides": [0, 1]}, ValueError, "in (0, 1]"),
        ({"sides": [0.5, 0.5, 1]}, ValueError, "must ascend"),
        ({"sides": [float("nan"), 1]}, ValueError, "in (0, 1]"),
        ({"stride": 0}, ValueError, "stride"),
        ({"stride": 1.5}, TypeError, "stride"),
    ],
)
def test_bad_settings(bad, error, words):
    with pytest.raises(error) as told:
        InputSize(**bad)
    assert words in str(told.value)


def test_it_needs_the_length_of_the_training():
    with pytest.raises(ValueError, match=r"InputSize depends on the length"):
        loader_of(InputSize(), epochs=None)


@pytest.mark.parametrize(
    "bad",
    [
        {"ends": [], "sides": [], "progress": [0]},
        {"ends": [0.5], "sides": [1], "progress": [0, 1]},
        {"ends": [0.5, 1], "sides": [1], "progress": [0, 1]},
        {"ends": [0.5, 0.5, 1], "sides": [1, 1, 1], "progress": [0, 0, 0, 1]},
        {"ends": [1], "sides": [1.5], "progress": [0, 1]},
        {"ends": [1], "sides": [0.5], "progress": [1, 0]},
        {"ends": [1], "sides": [0.5], "progress": [0, float("nan")]},
        {"ends": [1], "sides": [0.5], "progress": [0, 1], "stride": 0},
    ],
)
def test_a_view_that_cannot_be(bad):
    with pytest.raises(ValueError, match=r"no stages of an epoch|stride"):
        View(**bad)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def config(**changes):
    settings = {"input-size": {"stride": 2}} | changes.pop("settings", {})
    return TrainConfig(
        **{"limit": 150, "width": 4, "epochs": 4, "batch_size": 32, "device": "cpu"} | changes, settings=settings
    )


def test_the_trainer_counts_what_it_spared_and_times_each_size(digits):
    facts = train(config(), digits, "input-size", seed=0).facts
    assert facts.backward_samples == 600
    assert [part.pixels for part in facts.smaller] == [0.25, 0.5625]
    assert sum(part.samples for part in facts.smaller) == pytest.approx(600 * 0.8525, abs=64)
    assert all(part.step > 0 for part in facts.smaller)
    assert facts.costs.step > 0


@pytest.mark.parametrize("method", ["input-size+adonis", "ids+input-size", "input-size+grad-match"])
def test_the_trainer_takes_it_with_others(digits, method):
    facts = train(config(settings={"ids": {"keep_ratio": 0.5}}), digits, method, seed=0).facts
    assert [part.pixels for part in facts.smaller] == [0.25, 0.5625]
    assert sum(part.samples for part in facts.smaller) < facts.backward_samples < 600


def test_images_are_cropped_and_flipped_as_ever_and_then_resized(digits):
    images, indices = digits.train.images[:7], torch.arange(7)
    augment = Augment(digits.mean, digits.std, 8, seed=3, pad=2, flip=True)
    whole = Augment([0.0], [1 / 255], 8, seed=3, pad=2, flip=True)(images, indices, 5)  # pixels as they are
    expected = nested_batch.resize(whole.to(torch.uint8), 0.5).float() / 255
    expected = (expected - digits.mean[0]) / digits.std[0]
    seen = augment(images, indices, 5, lambda crops: nested_batch.resize(crops, 0.5))
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", ["train", "check"])
def test_a_model_that_cannot_take_another_size_is_refused_before_the_training(digits, where):
    settings = config(model="small-vit", width=32, settings={"input-size": {"sides": [0.7, 1.0], "stride": 3}})
    data = dataclasses.replace(digits, image_size=8)
    fixed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", lambda *_, **__: copy.deepcopy(fixed))
        with pytest.raises(ValueError, match=r"small-vit does not take images of 6 pixels, 0.7 of their full side"):
            train(settings, data, "input-size", seed=0) if where == "train" else check(settings, ["input-size"], data)


def run(method, samples, smaller=(), step=2.0):
    """A run that took ``step`` a sample of full size, and reads for nothing."""
    return RunFacts(
        method=method, seed=0, epochs=1, accuracy=0.5, train_seconds=1, preprocess_seconds=0, selection_seconds=0,
        forward_samples=samples, backward_samples=samples, loaded_samples=samples, trajectory=[],
        costs={"fetch": 0.0, "score": None, "step": step, "decide": 0.0}, smaller=list(smaller),
    )  # fmt: skip


def test_a_comparison_counts_smaller_inputs_by_their_pixels_and_their_own_time():
    full = run("full", 100)
    half = run("input-size", 100, [{"pixels": 0.25, "samples": 60, "step": 0.7}])
    runs = [full, half]
    costs = pooled_costs(runs)
    assert modelled_seconds(full, costs) == 200
    assert modelled_seconds(half, costs) == pytest.approx(40 * 2 + 60 * 0.7)
    assert work(full) == 300
    assert work(half) == 3 * (40 + 15)
