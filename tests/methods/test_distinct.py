"""Distinct against comparing each sample with every other (references/distinct.py); where repeats are found."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler

import leantrain
from leantrain import Distinct
from leantrain.core.exact_repeats import same_content
from leantrain.data.edited import EditedDataset
from leantrain.data.images import ArrayDataset, LazyDataset
from leantrain.train.device_cache import Resident
from references import distinct as reference
from toys import SIZE, Numbers, setup, wrapped

CONTENTS = st.lists(st.integers(0, 6), min_size=1, max_size=40)


def images(contents: list[int]) -> Tensor:
    """Pixels that differ in one place only, late in the image."""
    made = torch.zeros(len(contents), 1, 70, 70, dtype=torch.uint8)
    made[:, 0, 69, 3] = torch.tensor(contents)
    return made


def firsts(contents: list[int]) -> list[int]:
    return [contents.index(content) for content in contents]


@given(contents=CONTENTS, labels=st.lists(st.integers(3, 5), min_size=40, max_size=40), seed=st.integers(0, 9))
def test_an_epoch_takes_one_of_each_group(contents: list[int], labels: list[int], seed: int) -> None:
    labels = labels[: len(contents)]
    if len(contents) > 1 and len(set(contents)) == 1:
        return  # refused
    targets = torch.tensor(labels)
    selector = Distinct(groups=torch.tensor(contents) - 3)
    setup(selector, size=len(contents), targets=targets, seed=seed)
    groups = reference.groups(contents, labels)
    for epoch in range(4):
        plan = selector.plan(epoch, torch.arange(len(contents)))
        taken = plan.indices.tolist()
        assert taken == sorted(taken)
        assert plan.weights is None
        assert [len(group & {*taken}) for group in groups] == [1] * len(groups)
        assert len(taken) == len(groups)
    conflicts = reference.conflicts(contents, labels)
    assert selector.report() == {
        "repeats_left_out": len(contents) - len(groups),
        "label_conflicts": len(conflicts),
    }
    assert len(selector.notes()) == 1 + bool(conflicts)


def test_each_member_is_drawn_as_often() -> None:
    selector = setup(Distinct(groups=torch.tensor([0, 1, 1, 1, 2, 2])), size=6)
    times: Counter[int] = Counter()
    for epoch in range(3000):
        times.update(selector.plan(epoch, torch.arange(6)).indices.tolist())
    assert times[0] == 3000
    for members, share in (((1, 2, 3), 1 / 3), ((4, 5), 1 / 2)):
        spread = 5 * (share * (1 - share) / 3000) ** 0.5
        assert all(abs(times[i] / 3000 - share) < spread for i in members)


def test_a_pool_that_lacks_some_gives_one_of_those_that_are_there() -> None:
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    selector = setup(Distinct(groups=groups), size=8)
    pool = torch.tensor([1, 2, 3, 6, 7])
    seen = {tuple(selector.plan(epoch, pool).indices.tolist()) for epoch in range(60)}
    assert seen == {(1, a, b) for a in (2, 3) for b in (6, 7)}


def test_what_the_sampler_draws_again_comes_again() -> None:
    """A sampler with weights repeats samples on purpose; of copies of one another one is drawn."""
    selector = setup(Distinct(groups=torch.tensor([0, 0, 1, 2])), size=4)
    pool = torch.tensor([3, 0, 3, 2, 1, 3])
    for epoch in range(20):
        taken = selector.plan(epoch, pool).indices.tolist()
        assert taken in ([3, 0, 3, 2, 3], [3, 3, 2, 1, 3])
    sampler = WeightedRandomSampler([1.0] * SIZE, 60)
    loader = wrapped(Distinct(groups=torch.arange(SIZE) // 2), targets=[0] * SIZE, sampler=sampler)
    given = [int(i) for _ in loader for i in loader.indices]
    assert len({i // 2 for i in given}) == len({*given})


def test_without_repeats_it_is_plain_training_and_says_so() -> None:
    selector = setup(Distinct(groups=torch.arange(SIZE).flip(0)), targets=torch.tensor(Numbers().targets))
    pool = torch.arange(3, 17)
    assert selector.plan(2, pool).indices is pool
    assert selector.notes() == ["Distinct: none of the 40 samples repeats another one of its class; all are taken."]
    assert selector.report() == {"repeats_left_out": 0, "label_conflicts": 0}


def test_what_it_says_of_repeats_and_conflicts() -> None:
    groups = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
    selector = setup(Distinct(groups=groups), size=8, targets=torch.tensor([5, 5, 5, 6, 7, 6, 6, 5]))
    assert selector.notes() == [
        "Distinct: 3 of 8 samples repeat another one, up to 3 times the same; each epoch takes one of each, 5 samples.",
        "Distinct: 2 samples are the same as one with another label (indices 3, 4); they stay. Look at their labels.",
    ]
    assert selector.settings() == {"groups": "given"}
    assert Distinct().settings() == {}


@pytest.mark.parametrize(
    ("groups", "error", "text"),
    [
        (torch.arange(SIZE - 1), ValueError, r"groups has 39 numbers; give one for each of the 40 samples\."),
        (torch.arange(SIZE).float(), TypeError, r"must be a \(N,\) int64 tensor.*not torch.float32 of shape \(40,\)"),
        (torch.zeros(SIZE, 1, dtype=torch.int64), TypeError, r"not torch.int64 of shape \(40, 1\)"),
        ("groups.pt", TypeError, r"must be a \(N,\) int64 tensor.*not str"),
        ([0] * SIZE, TypeError, r"not list"),
        (
            torch.zeros(SIZE, dtype=torch.int64),
            ValueError,
            r"All 40 samples are the same one.*how the data set was read",
        ),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        wrapped(Distinct(groups=groups))


def test_images_that_are_all_equal_are_refused_before_training() -> None:
    data = ArrayDataset(torch.zeros(30, 3, 4, 4, dtype=torch.uint8), torch.arange(30) % 3)
    with pytest.raises(ValueError, match="All 30 samples are the same one"):
        leantrain.wrap(DataLoader(data, 8), Distinct())


def test_a_class_of_one_keeps_its_sample() -> None:
    selector = setup(Distinct(groups=torch.tensor([4, 4, 4, 9])), size=4, targets=torch.tensor([0, 0, 0, 1]))
    assert all(3 in selector.plan(epoch, torch.arange(4)).indices for epoch in range(9))


def test_a_data_set_that_is_not_known_is_asked_for_groups() -> None:
    with pytest.raises(TypeError, match=r"Numbers does not show what it stores.*Distinct\(groups=ids\)"):
        wrapped(Distinct())


def files(folder: Path, contents: list[int]) -> list[Path]:
    """Files of one size that start and end alike and differ in the middle, or only at their end, or in size."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, content in enumerate(contents):
        middle, end = content % 3, content // 3
        body = bytes([7]) * 9000 + bytes([middle]) + bytes([7]) * 9000 + bytes([end]) + b"x" * (content == 6)
        (folder / f"{place:03}.png").write_bytes(body)
    return sorted(folder.iterdir())


def torchvision(kind: str) -> Any:
    """A class that is called as torchvision's own."""
    return type(kind, (Dataset,), {"__module__": f"torchvision.datasets.{kind.lower()}"})


def column(contents: list[int], kind: str, folder: Path) -> Any:
    labels = torch.zeros(len(contents), dtype=torch.int64)
    if kind == "arrays":
        return ArrayDataset(images(contents), labels)
    if kind == "resident":
        return Resident(ArrayDataset(images(contents), labels), torch.device("cpu"))
    if kind == "bytes":
        sources = [path.read_bytes() for path in files(folder, contents)]
        return LazyDataset(sources, [""] * len(sources), labels, 8)
    if kind == "files":
        sources = files(folder, contents)
        return LazyDataset(sources, [str(source) for source in sources], labels, 8)
    if kind == "tensors":
        return TensorDataset(images(contents).to(torch.bfloat16).transpose(2, 3), labels)
    if kind == "numbers":
        return TensorDataset(torch.tensor(contents))
    dataset = torchvision({"cifar": "CIFAR10", "mnist": "MNIST", "folder": "DatasetFolder"}[kind])
    inherits = type("Mine", (dataset,), {"__len__": lambda self: len(contents)})()
    if kind == "folder":
        inherits.samples = [(str(path), 0) for path in files(folder, contents)]
    else:
        inherits.data = images(contents) if kind == "mnist" else images(contents).permute(0, 2, 3, 1).numpy()
    return inherits


KINDS = ["arrays", "resident", "bytes", "files", "tensors", "numbers", "cifar", "mnist", "folder"]
GIVEN = [4, 0, 6, 4, 1, 3, 6, 6, 5, 0, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_repeats_are_found_wherever_samples_are_stored(kind: str, tmp_path: Path) -> None:
    assert same_content(column(GIVEN, kind, tmp_path)).tolist() == firsts(GIVEN)
    alone = [1, 4, 2]
    assert same_content(column(alone, kind, tmp_path / "alone")).tolist() == [0, 1, 2]
    assert same_content(column([5], kind, tmp_path / "one")).tolist() == [0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_and_several_joined_are_compared_across(kind: str, tmp_path: Path) -> None:
    first, second = column(GIVEN, kind, tmp_path / "a"), column([2, 5, 6], kind, tmp_path / "b")
    joined = [*GIVEN, 2, 5, 6]
    both = ConcatDataset([first, second])
    assert same_content(both).tolist() == firsts(joined)
    places = [12, 3, 0, 8, 2, 13, 1]
    for part in (Subset(both, places), Subset(both, np.array(places)), Subset(Subset(both, [*places, 4]), range(7))):
        assert same_content(part).tolist() == firsts([joined[i] for i in places])


def test_near_copies_that_are_made_when_they_are_read_are_no_repeats() -> None:
    edits = torch.tensor([[0.0, 0, 1, 8, 0], [0, 0, 1, 8, 0], [1, 0, 1, 8, 0], [1, 0, 1, 8, 0], [1, 0, 1, 8, 0]])
    sources = [b"one", b"one", b"one", b"one", b"two"]
    data = EditedDataset(sources, [""] * 5, torch.zeros(5, dtype=torch.int64), 8, edits[:, None])
    assert same_content(data).tolist() == [0, 0, 2, 2, 4]


def test_images_of_hugging_face_are_compared_as_they_lie_in_the_file(tmp_path: Path) -> None:
    """A transform that draws at random, a filter that reorders, and files beside bytes change nothing."""
    datasets = pytest.importorskip("datasets")
    encoded = [{"bytes": path.read_bytes(), "path": None} for path in files(tmp_path, GIVEN)]
    encoded[3] = {"bytes": None, "path": str(tmp_path / "003.png")}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    whole = datasets.Dataset.from_dict({"img": encoded, "label": [0] * len(GIVEN)}, features=features)
    whole.set_transform(lambda rows: 1 / 0)
    assert same_content(whole).tolist() == firsts(GIVEN)
    order = [3, 0, 10, 5, 2]
    assert same_content(whole.select(order)).tolist() == firsts([GIVEN[i] for i in order])
    text = datasets.Dataset.from_dict({"text": ["a", "a"]})
    with pytest.raises(TypeError, match="Dataset does not show what it stores"):
        same_content(text)


def test_only_files_that_may_be_alike_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, read = files(tmp_path, [0, 6, 1, 3, 0]), Counter()
    plain = Path.open

    class Counted:
        def __init__(self, path: Path) -> None:
            self.path, self.file = path, plain(path, "rb")

        def __enter__(self) -> "Counted":
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def seek(self, place: int) -> None:
            self.file.seek(place)

        def read(self, count: int) -> bytes:
            found = self.file.read(count)
            read[self.path.name] += len(found)
            return found

    monkeypatch.setattr(Path, "open", lambda self, mode: Counted(self))
    data = LazyDataset(sources, [""] * 5, torch.zeros(5, dtype=torch.int64), 8)
    assert same_content(data).tolist() == [0, 1, 2, 3, 0]
    whole, end = 18002, 4096
    # 1 has another size, 3 another end; 2 differs in the middle
    assert read == {"000.png": whole + end, "002.png": whole + end, "003.png": end, "004.png": whole + end}


def test_a_file_that_cannot_be_read_repeats_nothing(tmp_path: Path) -> None:
    sources = files(tmp_path, [1, 1, 1, 1])
    sources[1].unlink()
    sources[3].unlink()
    data = LazyDataset(sources, [""] * 4, torch.zeros(4, dtype=torch.int64), 8)
    assert same_content(data).tolist() == [0, 1, 0, 3]


def test_targets_beside_tensors_count_where_no_labels_are_known() -> None:
    """Without labels, samples of one image and several targets must not be taken for repeats."""
    x, y = images([0, 0, 1, 0]), torch.tensor([0.5, 0.5, 0.5, 2.5])
    data = TensorDataset(x, y)
    unlabelled = leantrain.wrap(DataLoader(data, 2), Distinct())
    assert unlabelled.selector.report() == {"repeats_left_out": 1, "label_conflicts": 0}
    labelled = leantrain.wrap(DataLoader(data, 2), Distinct(), targets=[0, 0, 0, 1])
    assert labelled.selector.report() == {"repeats_left_out": 0, "label_conflicts": 3}


def test_a_sampler_of_a_part_has_only_that_part_looked_at(tmp_path: Path) -> None:
    sources = files(tmp_path, [1, 1, 2, 2, 1, 2])
    sources[0].unlink()
    data = LazyDataset(sources, [""] * 6, torch.tensor([0, 1, 0, 0, 0, 0]), 8)
    loader = leantrain.wrap(DataLoader(data, 1, sampler=torch.utils.data.SubsetRandomSampler([2, 3, 4])), Distinct())
    assert loader.selector.report() == {"repeats_left_out": 1, "label_conflicts": 0}  # 1 would conflict with 4
    taken = loader.plan.indices.tolist()
    assert taken in ([2, 4], [3, 4])
