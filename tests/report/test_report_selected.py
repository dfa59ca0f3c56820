"""What is selected, in pictures and in numbers: re-computed by plain loops over the rows of counts.parquet."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic

from leantrain import report
from leantrain.report.counts import Counts, load_counts
from leantrain.report.figures.selected_samples import by_count, contrast, contrasts, ends
from leantrain.report.page import render
from leantrain.report.picks import of_class
from leantrain.report.results import Results, load
from leantrain.report.shares import class_table

Row = dict[str, Any]


def write_rows(out: Path, methods: tuple[str, ...] = ("ids", "sb"), samples: int = 90) -> list[Row]:
    """Two seeds of full training and ``methods``; ids knows distances, full training the losses of most samples."""
    synthetic.write_results(out, methods=list(methods), samples=samples, epochs=10)
    rng = np.random.default_rng(3)
    rows = [
        {
            "run": f"{method}-seed{seed}",
            "method": method,
            "seed": seed,
            "index": 5 * i,
            "label": i % 3 + 1,
            "trained": int(rng.integers(0, 7)) if method != "full" else 10,
            "loss": None if i == 4 else float(rng.random()) + (0 if method == "full" else 100),
            "distance": float(rng.random()) if method == "ids" and i != 1 else None,
        }
        for method in ("full", *methods)
        for seed in (0, 1)
        for i in rng.permutation(samples).tolist()
    ]
    pq.write_table(pa.Table.from_pylist(rows), out / "counts.parquet")
    return rows


def mean(rows: list[Row], method: str, index: int, name: str) -> float:
    values = [row[name] for row in rows if (row["method"], row["index"]) == (method, index)]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def of(results: Results, method: str) -> Counts:
    return next(counts for counts in load_counts(results) or [] if counts.method == method)


def test_losses_are_those_of_full_training_and_distances_the_methods_own(tmp_path: Path) -> None:
    rows = write_rows(tmp_path)
    for method in ("ids", "sb"):
        counts = of(load(tmp_path), method)
        assert counts.index.tolist() == [5 * i for i in range(90)]
        losses = [mean(rows, "full", index, "loss") for index in counts.index.tolist()]
        away = [mean(rows, method, index, "distance") for index in counts.index.tolist()]
        assert counts.loss == pytest.approx(np.array(losses), nan_ok=True)
        assert counts.distance == pytest.approx(np.array(away), nan_ok=True)
        assert math.isnan(counts.loss[4])
        assert np.isnan(counts.distance).all() == (method == "sb")


def test_the_nearest_and_remotest_of_a_class(tmp_path: Path) -> None:
    rows = write_rows(tmp_path)
    near, remote = of_class(of(load(tmp_path), "ids"), 2) or ()
    own = [row["index"] for row in rows if (row["run"], row["label"]) == ("ids-seed0", 2)]
    order = sorted((i for i in own if i != 5), key=lambda index: mean(rows, "ids", index, "distance"))
    assert len(own) == 30
    assert [pick.index for pick in near.picks] == order[:8]
    assert [pick.index for pick in remote.picks] == order[:-9:-1]
    assert all(pick.label == 2 for pick in near.picks + remote.picks)
    assert (near.what, remote.what) == ("nearest to the prototype", "remotest from it")


def test_the_least_and_most_often_selected_of_a_class(tmp_path: Path) -> None:
    rows = write_rows(tmp_path)
    counts = of(load(tmp_path), "sb")
    least, most = of_class(counts, 3) or ()
    own = [row["index"] for row in rows if (row["run"], row["label"]) == ("sb-seed0", 3)]
    often = {index: mean(rows, "sb", index, "trained") for index in own}
    assert [pick.index for pick in least.picks] == sorted(own, key=lambda index: (often[index], index))[:8]
    assert [pick.index for pick in most.picks] == sorted(own, key=lambda index: (-often[index], index))[:8]
    assert of_class(counts, 9) is None


@pytest.mark.parametrize(
    ("trained", "least", "most"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1], [6, 7]),
        ([3, 3, 0, 0, 9, 9, 4, 4], [2, 3], [4, 5]),
        ([5, 5, 5, 5, 5, 5, 5, 1], [7], [0, 1, 2, 3, 4, 5, 6]),  # most share the upper count
        ([0, 0, 0, 0, 0, 0, 0, 2], [0, 1, 2, 3, 4, 5, 6], [7]),
        ([4, 4, 4, 4, 4, 4, 1, 8], [6], [7]),
    ],
)
def test_ends(trained: list[int], least: list[int], most: list[int]) -> None:
    found = ends(np.array(trained, dtype=float))
    assert found is not None
    assert [mask.nonzero()[0].tolist() for mask in found] == [least, most]


def test_alike_samples_have_no_ends() -> None:
    assert ends(np.full(5, 3.0)) is None
    assert ends(np.array([])) is None


def test_contrast_over_all_and_within_each_class(tmp_path: Path) -> None:
    rows = write_rows(tmp_path)
    results = load(tmp_path)
    counts = load_counts(results) or []
    table = class_table(results, counts)
    assert table is not None
    found = contrasts(counts, table)
    assert [method for method, _ in found] == ["ids", "sb"]
    for method, entries in found:
        assert len(entries) == 4
        for label, entry in zip([None, *table.labels], entries, strict=True):
            own = [r["index"] for r in rows if r["run"] == f"{method}-seed0" and label in (None, r["label"])]
            often = {index: mean(rows, method, index, "trained") for index in own}
            low, high = np.quantile(list(often.values()), (0.25, 0.75))
            groups = [i for i in own if often[i] <= low], [i for i in own if often[i] >= high]
            losses = [[mean(rows, "full", index, "loss") for index in group if index != 20] for group in groups]
            assert entry is not None
            assert entry.samples == tuple(map(len, groups))
            assert entry.trained == pytest.approx([sum(often[i] for i in group) / len(group) for group in groups])
            assert entry.loss == pytest.approx([sum(group) / len(group) for group in losses])
            assert entry.lean == pytest.approx(math.log2(entry.loss[1] / entry.loss[0]))
    page = render(results)
    first = found[0][1][0]
    assert first is not None
    assert f"{first.loss[0]:.2f} → {first.loss[1]:.2f}" in page


@pytest.mark.parametrize("top", [1, 6, 39, 40, 41, 500])
def test_bins_of_counts(top: int) -> None:
    rng = np.random.default_rng(top)
    trained = np.append(rng.integers(0, top + 1, 300), top) / 1.0
    loss = np.where(rng.random(301) < 0.1, np.nan, rng.random(301))
    counts = Counts(
        method="x", index=np.arange(301), label=np.zeros(301), trained=trained, loss=loss, distance=np.full(301, np.nan)
    )
    edges, share, losses = by_count(counts)
    assert len(edges) <= 42
    assert edges[0] == -0.5
    if top < 39:
        assert len(share) == top + 1  # one for each count
    assert share.sum() == pytest.approx(100)
    for k in range(len(share)):
        own = [i for i in range(301) if edges[k] < trained[i] < edges[k + 1]]
        known = [loss[i] for i in own if not math.isnan(loss[i])]
        assert share[k] == pytest.approx(100 * len(own) / 301)
        assert losses[k] == pytest.approx(sum(known) / len(known) if known else math.nan, nan_ok=True)


def test_results_from_before_losses_were_kept(tmp_path: Path) -> None:
    write_rows(tmp_path)
    file = tmp_path / "counts.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["loss", "distance"]), file)
    results = load(tmp_path)
    assert all(contrast(counts) is None for counts in load_counts(results) or [])
    page = render(results)
    assert "least → most often" not in page
    assert "How often samples are selected" not in page


@pytest.mark.parametrize("name", ["loss", "distance"])
@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e300])
def test_impossible_numbers_are_refused(tmp_path: Path, name: str, bad: float) -> None:
    rows = write_rows(tmp_path)
    rows[-1][name] = bad
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "counts.parquet")
    with pytest.raises(ValueError, match=rf"counts\.parquet: 'sb' has an impossible number in '{name}'"):
        load_counts(load(tmp_path))


@pytest.mark.usefixtures("undrawn")
def test_the_class_that_is_shown(tmp_path: Path) -> None:
    write_rows(tmp_path)

    def titles(**given: Any) -> set[str]:
        text = report.write(tmp_path, lambda index: np.zeros((2, 2), np.uint8), **given).read_text()
        return {name for name in synthetic.CIFAR10 if f"class {name}, nearest to the prototype" in text}

    assert titles() == {"automobile"}  # the first that there is
    assert titles(show_class="cat") == {"cat"}
    with pytest.raises(ValueError, match=r"Unknown class 'cats'\. Did you mean 'cat'\?"):
        titles(show_class="cats")
    content = json.loads((tmp_path / "results.json").read_text())
    for name, shown in (("bird", "bird"), ("pear", "automobile")):  # a preset's class may be of another data set
        content["config"]["show_class"] = name
        (tmp_path / "results.json").write_text(json.dumps(content))
        assert titles() == {shown}
