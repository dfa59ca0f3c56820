"""``leantrain.inspect``: what was planted is found, what cannot be known is said, and what the facts call for."""

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

import leantrain
from leantrain import Inspection
from leantrain.data.images import ArrayDataset
from leantrain.estimation.dry_run import DryRun, Epoch
from leantrain.estimation.forecast import Estimate, forecast
from leantrain.estimation.inspection import EVIDENCE, FEWER
from leantrain.estimation.rehearsal import Costs
from leantrain.methods import METHODS
from toys import Numbers

ROOT = Path(__file__).resolve().parents[2]


def images(contents: list[int], side: int = 8) -> torch.Tensor:
    made = torch.zeros(len(contents), 3, side, side, dtype=torch.uint8)
    made[:, 1, side - 1, 3] = torch.tensor(contents)
    return made


def planted(contents: list[int], labels: list[int], side: int = 8) -> DataLoader[Any]:
    return DataLoader(ArrayDataset(images(contents, side), torch.tensor(labels)), 4, shuffle=True)


def estimate(fetch: float) -> Estimate:
    costs = Costs(fetch=fetch, score=1.0, forward=1.0, backward=2.0, optimizer=0.0)
    epoch = Epoch(trained=10, scored=0, loaded=10, decide=0.0, aside=0.0)
    found = forecast([("full", DryRun([epoch], 0.0, exact=True))], costs, 10, 1)
    return Estimate(
        forecasts=found, costs=costs, size=10, batch_size=2, epochs=1, rehearsed=(10, 1), simulated=10
    )  # fmt: skip


def test_planted_repeats_conflicts_and_classes_are_counted_exactly():
    rng = random.Random(0)
    contents = [rng.randrange(60) for _ in range(200)]
    labels = [content % 5 if rng.random() < 0.95 else rng.randrange(5, 7) for content in contents]
    found = leantrain.inspect(planted(contents, labels))
    under = {content: {b for a, b in zip(contents, labels, strict=True) if a == content} for content in contents}
    conflicts = [i for i, content in enumerate(contents) if len(under[content]) > 1]
    alike = Counter(content for content in contents if len(under[content]) == 1)
    assert len(conflicts) > 5
    assert found.conflicts == tuple(conflicts)
    assert found.repeats == sum(count - 1 for count in alike.values()) > 50
    assert found.classes == dict(sorted(Counter(labels).items()))
    left = Counter(labels[contents.index(content)] for content in alike) + Counter(labels[i] for i in conflicts)
    assert found.once == dict(sorted(left.items()))
    assert f"{found.repeats} of 200 samples repeat" in found.facts()["exact repeats"]
    first = ", ".join(map(str, conflicts[:5]))
    assert f"{len(conflicts)} samples are stored like one with another label: indices {first}, ..." in str(
        found.facts()["conflicting labels"]
    )


def test_only_what_the_sampler_gives_is_looked_at():
    data = ArrayDataset(images([0, 1, 1, 2, 2, 2, 3]), torch.tensor([0, 0, 0, 1, 1, 1, 2]))
    found = leantrain.inspect(DataLoader(data, 2, sampler=SubsetRandomSampler([0, 1, 2, 3, 6])))
    assert (found.size, found.repeats) == (5, 1)
    assert found.classes == {0: 3, 1: 1, 2: 1}
    assert found.once == {0: 2, 1: 1, 2: 1}


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (None, ". Where rare classes count as much as others, say so: goal balanced"),
        ("balanced", ""),
        ("as-trained", ", which the goal as-trained keeps"),
    ],
)
def test_classes_are_told_with_their_tail(goal, said):
    labels = [0] * 8 + [1] * 4 + [2] * 2
    text = leantrain.inspect(planted([*range(14)], labels), goal=goal).facts()["classes"]
    assert text == f"3, of 2 (2) to 8 samples, the median one of 4: a long tail{said}"


def test_a_tail_of_repeats_is_none_once_they_are_left_out():
    found = leantrain.inspect(planted([0] * 30 + [1, 2, 3, 4, 5], [0] * 31 + [1, 1, 2, 2]), goal="balanced")
    assert found.once == {0: 2, 1: 2, 2: 2}
    assert found.facts()["classes"].endswith("no long tail, once repeats are left out")
    assert [one.method for one in found.advice()] == ["distinct"]


def test_labels_below_0_do_not_count():
    found = leantrain.inspect(planted([*range(6)], [-1, 0, 0, 1, 1, -1]))
    assert found.classes == {0: 2, 1: 2}


def test_a_data_set_that_hides_what_it_stores_is_told_not_refused():
    found = leantrain.inspect(DataLoader(Numbers(), 4))
    assert found.repeats is None
    said = found.facts()
    assert said["exact repeats"].startswith("not looked at: Numbers does not show what it stores")
    assert said["conflicting labels"] == "not looked at: see exact repeats"
    assert said["classes"].startswith("4, of 8 (1) to 16 samples, the median one of 8: a long tail")
    assert said["image size"] == "no images of shape (C, H, W) in the samples that were read"


def test_images_that_are_all_the_same_one_are_told():
    found = leantrain.inspect(planted([7] * 6, [0, 1] * 3))
    assert found.facts()["exact repeats"].startswith("All 6 samples are the same one")


def test_without_labels_what_needs_none_is_looked_at():
    loader = DataLoader(TensorDataset(images([0, 1, 1, 2])), 2)
    found = leantrain.inspect(loader)
    assert found.classes is None
    assert found.repeats == 1
    assert found.facts()["classes"].startswith("not looked at: no labels are known")
    assert found.facts()["conflicting labels"] == "not looked at: no labels are known"
    assert leantrain.inspect(loader, targets=[0, 1, 2, 1]).conflicts == (1, 2)


def test_one_class_is_told():
    assert leantrain.inspect(planted([0, 1, 2], [4] * 3)).facts()["classes"].startswith("one, 4, with 3 samples")


class Wild(Dataset):
    """Images of several sizes in a dict, read with draws from every global generator; the last one is broken."""

    sizes = ((96, 70), (70, 90), (128, 128))
    labels = (0, 1, 0)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
        if index == 3:
            raise OSError("a broken file")
        return {"x": torch.zeros(3, *self.sizes[index]), "name": str(index)}


def states(generator: torch.Generator) -> list[Any]:
    numpy: Any = np.random.get_state()  # noqa: NPY002
    return [torch.get_rng_state().tolist(), generator.get_state().tolist(), random.getstate(), numpy[1].tolist()]


def test_images_are_measured_as_they_come_in_a_batch_and_nothing_is_moved():
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(Wild(), 2, shuffle=True, generator=generator, num_workers=2, persistent_workers=True)
    before = states(generator)
    found = leantrain.inspect(loader)
    assert states(generator) == before
    assert found.sides == ((70, 90), (96, 70), (128, 128))
    assert found.unreadable == (3,)
    assert found.facts()["image size"] == "70 x 90, 96 x 70, 128 x 128 pixels; unreadable: 3"
    assert [one.method for one in found.advice()] == ["input-size"]


PLAIN = Inspection(
    size=1000, goal="balanced", classes={0: 500, 1: 500}, once={0: 500, 1: 500}, repeats=0, conflicts=(), hidden="",
    sides=((32, 32),), unreadable=(),
)  # fmt: skip
TAIL = {"classes": {0: 800, 1: 100, 2: 100}, "once": {0: 800, 1: 100, 2: 100}}
SLOW, FAST = ({"full": estimate(fetch).forecasts[0]} for fetch in (9.0, 0.1))
LARGE = {"sides": ((64, 96),)}


@pytest.mark.parametrize(
    ("facts", "methods"),
    [
        ({}, [FEWER]),
        ({"repeats": 10}, ["distinct"]),
        ({"repeats": 9}, [FEWER]),
        ({"repeats": None}, [FEWER]),
        (TAIL, ["class-cap"]),
        (TAIL | {"goal": None}, [FEWER]),
        (TAIL | {"goal": "as-trained"}, [FEWER]),
        ({"once": {0: 149, 1: 100, 2: 100}}, [FEWER]),
        ({"once": {0: 151, 1: 100, 2: 100}}, ["class-cap"]),
        ({"classes": None, "once": None}, [FEWER]),
        ({"classes": {}, "once": {}}, [FEWER]),
        ({"guarded": True, "wrong_labels": 0.4}, ["label-guard"]),
        ({"guarded": False, "wrong_labels": 0.4}, [FEWER]),
        ({"guarded": False, "wrong_labels": None}, [FEWER]),
        (LARGE, ["input-size"]),
        (LARGE | FAST, ["input-size"]),
        (LARGE | SLOW, [FEWER]),
        ({"sides": ((63, 128),)}, [FEWER]),
        ({"sides": ()}, [FEWER]),
        (
            TAIL | LARGE | {"repeats": 300, "guarded": True, "wrong_labels": 0.2},
            ["distinct", "class-cap", "label-guard", "input-size"],
        ),
    ],
)
def test_what_the_facts_call_for(facts, methods):
    found = dataclasses.replace(PLAIN, **facts)
    assert [one.method for one in found.advice()] == methods
    assert max(map(len, str(found).splitlines())) <= 80
    for one in found.advice():
        assert one.method in str(found)


def test_what_a_method_saves_is_told():
    facts = TAIL | LARGE | {"repeats": 300, "guarded": True, "wrong_labels": 0.2}
    repeats, cap, guard, size = (one.why for one in dataclasses.replace(PLAIN, **facts).advice())
    assert repeats.startswith("leaves out 30% of the samples")
    assert cap.startswith("no class above the median one: 300 samples an epoch")
    assert guard == "about 20% of the labels look wrong"
    assert size.endswith("44% of the pixels of full training")  # 3 / (4 + 16 / 9 + 1)


def test_wrong_labels_are_those_that_the_guard_found():
    loader = planted([*range(8)], [0, 1] * 4)
    text = {
        None: "not looked at: that takes a training",
        (1.0, 0.31): "about 31% look wrong",
        (0.0, 0.31): "about 31% look wrong, after too little training",
        (0.0, 0.02): "about 2% look wrong",
        (0.0, None): "the label guard could not tell",
    }
    for report, said in text.items():
        guard = None if report is None else {"label_guard_acts": report[0]}
        if guard and report and report[1] is not None:
            guard["wrong_labels_found"] = report[1]
        found = leantrain.inspect(loader, guard=guard).facts()["wrong labels"]
        assert found.startswith(said)
        assert ("too little" in found) == ("too little" in said)
    with pytest.raises(ValueError, match=r"guard=\{'repeats_left_out': 3\} is no report of a LabelGuard"):
        leantrain.inspect(loader, guard={"repeats_left_out": 3})


def test_what_binds_the_step_is_full_training_s():
    loader = planted([*range(8)], [0, 1] * 4)
    assert leantrain.inspect(loader).facts()["bound by"].startswith("not looked at: that takes trying the model")
    fast = leantrain.inspect(loader, estimate=estimate(1.0)).facts()["bound by"]
    assert fast == "backward, 50% of full training's time"
    slow = leantrain.inspect(loader, estimate=estimate(7.0)).facts()["bound by"]
    assert slow == "loading, 70% of full training's time: only loading less or faster helps"


def test_the_files_that_it_names_say_so():
    for method, file in EVIDENCE.items():
        assert method in METHODS.keys() | {FEWER}
        assert file is None or (ROOT / file).is_file()
    study = json.loads((ROOT / str(EVIDENCE[FEWER])).read_text())
    verdicts = [row["verdict"] for part in study["matrix"].values() for row in part["rows"] if row["method"] != "full"]
    assert len(verdicts) == 40
    assert "beats control" not in verdicts


def test_what_cannot_be_wrapped_is_refused():
    with pytest.raises(TypeError, match="DataLoader"):
        leantrain.inspect([1, 2])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="goal"):
        leantrain.inspect(planted([0, 1], [0, 1]), goal="fair")  # pyright: ignore[reportArgumentType]
