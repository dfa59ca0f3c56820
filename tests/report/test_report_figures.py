"""Figures and picks against plain re-computations from the files."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from leantrain import report
from leantrain.report.counts import by_content, load_counts
from leantrain.report.figures.accuracy_time import mean_trajectory
from leantrain.report.figures.boost_drop import control_curve
from leantrain.report.figures.kept_share import kept_shares
from leantrain.report.figures.style import looks
from leantrain.report.picks import least_and_most
from leantrain.report.results import load
from leantrain.report.shares import class_table


def test_control_curve_holds_full_training_and_every_control(tmp_path: Path) -> None:
    data = synthetic.write_results(tmp_path, samples=60)
    runs = data["runs"]
    full = [r for r in runs if r["method"] == "full" and r["control_for"] is None]
    expected = {(1.0, 0.0)}
    for method in data["config"]["methods"]:
        own = [r for r in runs if r["control_for"] == method]
        boost = sum(r["epochs"] for r in full) / len(full) / (sum(r["epochs"] for r in own) / len(own))
        drop = 100 * (sum(r["accuracy"] for r in full) / len(full) - sum(r["accuracy"] for r in own) / len(own))
        expected.add((boost, drop))
    curve = control_curve(load(tmp_path))
    assert len(curve) == 5
    assert curve == pytest.approx(np.array(sorted(expected)), abs=1e-9)
    drawn = [line.get_xydata() for line in report.figures(tmp_path)["boost_drop"].axes[0].lines]
    assert any(np.shape(line) == curve.shape and np.allclose(line, curve[:, ::-1]) for line in drawn)


def test_every_method_stands_at_its_boost_and_drop(tmp_path: Path) -> None:
    data = synthetic.write_results(tmp_path, samples=60)
    axes = report.figures(tmp_path)["boost_drop"].axes[0]
    points = {tuple(np.ravel(line.get_xydata())) for line in axes.lines if len(line.get_xydata()) == 1}
    for row in data["summary"][1:]:
        assert (row["accuracy_drop_pp"], row["boost_with_preprocessing"]) in points
        assert row["method"] in {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("count", [4, 13])
def test_names_in_the_figure_do_not_overlap(tmp_path: Path, count: int) -> None:
    synthetic.write_results(tmp_path, methods=list(synthetic.METHODS)[:count], samples=60)
    figure = report.figures(tmp_path)["boost_drop"]
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == count + 4  # methods, full, controls, two remarks in the corners
    crossing = [(a, b) for a in range(len(boxes)) for b in range(a) if boxes[a].overlaps(boxes[b])]
    assert crossing == []


def test_failed_method_does_not_squeeze_the_rest(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, methods=["rs2", "infobatch", "ids", "grad-match-pb"], samples=60)
    axes = report.figures(tmp_path)["boost_drop"].axes[0]
    assert axes.get_xlim()[1] < 15
    assert any(text.get_text().startswith("grad-match-pb (drop 5") for text in axes.texts)


def test_trajectory_is_the_mean_over_seeds_per_shared_epoch(tmp_path: Path) -> None:
    data = synthetic.write_results(tmp_path, methods=["adonis"], samples=60, epochs=6)
    own = [r for r in data["runs"] if r["method"] == "adonis"]
    for run, before in zip(own, (5, 7, 9), strict=True):
        run["preprocess_seconds"] = before
    own[1]["trajectory"] = own[1]["trajectory"][1::2]  # recorded every second epoch only
    (tmp_path / "results.json").write_text(json.dumps(data))
    seconds, accuracy, spread = mean_trajectory(load(tmp_path).of("adonis"))
    assert len(seconds) == 3
    for k, epoch in enumerate((2, 4, 6)):
        points = [p for r in own for p in r["trajectory"] if p["epoch"] == epoch]
        assert len(points) == 3
        assert seconds[k] == pytest.approx(7 + np.mean([p["train_seconds"] for p in points]))
        assert accuracy[k] == pytest.approx(np.mean([p["accuracy"] for p in points]))
        assert spread[k] == pytest.approx(np.std([p["accuracy"] for p in points], ddof=1))


def test_each_method_has_a_panel_of_its_own_beside_full_training(tmp_path: Path) -> None:
    data = synthetic.write_results(tmp_path, methods=list(synthetic.METHODS)[:8], samples=60)
    results = load(tmp_path)
    _, *panels = report.figures(tmp_path)["accuracy_time"].axes
    assert [axes.get_title(loc="left") for axes in panels] == data["config"]["methods"]
    for method, axes in zip(data["config"]["methods"], panels, strict=True):
        controls = results.controls(method)
        end = [np.mean([run.seconds for run in controls]), 100 * np.mean([run.accuracy for run in controls])]
        expected = [np.stack(mean_trajectory(results.of(name))[:2], 1) * (1, 100) for name in ("full", method)]
        drawn = [np.asarray(line.get_xydata()) for line in axes.lines]
        assert len(drawn) == 3
        for line, points in zip(drawn, [*expected, np.array([end])], strict=True):
            assert line == pytest.approx(points)
            (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
            assert left <= line[:, 0].min() <= line[:, 0].max() < right
            assert low < line[:, 1].min() <= line[:, 1].max() < high
        assert (axes.get_xlim(), axes.get_ylim()) == (panels[0].get_xlim(), panels[0].get_ylim())


def test_the_legend_of_the_close_up_names_what_it_shows(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, methods=["rs2", "infobatch", "grad-match-pb"], samples=60)  # the last fails
    figure = report.figures(tmp_path)["accuracy_time"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["full", "rs2", "infobatch", "equal-time controls"]
    assert len(figure.axes[0].lines) == 4
    figure.draw(FigureCanvasAgg(figure).get_renderer())
    assert legend.get_window_extent().x0 >= figure.axes[0].get_window_extent().x1
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_kept_share_is_trained_over_full(tmp_path: Path) -> None:
    data = synthetic.write_results(tmp_path, samples=60, epochs=6)
    rows = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    shares = kept_shares(load(tmp_path))
    assert list(shares) == ["full", *data["config"]["methods"]]
    for method, (epochs, share) in shares.items():
        assert epochs.tolist() == [1, 2, 3, 4, 5, 6]
        for epoch, value in zip(epochs, share, strict=True):
            own = [r["trained"] for r in rows if (r["method"], r["control_for"], r["epoch"]) == (method, None, epoch)]
            assert value == pytest.approx(sum(own) / len(own) / 60)


def counts_table(rows: list[tuple[str, int, int, int | None, int]]) -> pa.Table:
    names = ["method", "seed", "index", "label", "trained"]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table({"run": [f"{r[0]}-{r[1]}" for r in rows], **columns})


def test_least_and_most_selected_against_brute_force(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, methods=["adonis", "sb"], samples=60)
    rng = np.random.default_rng(1)
    indices = rng.choice(10_000, 300, replace=False).tolist()  # a subset of a data set, in no order
    rows = [
        (method, seed, index, index % 3, int(rng.integers(0, 9)))
        for method in ("adonis", "sb")
        for seed in (0, 1, 2)
        for index in rng.permutation(indices).tolist()
    ]
    pq.write_table(counts_table(rows), tmp_path / "counts.parquet")
    found = load_counts(load(tmp_path))
    assert found is not None
    assert [counts.method for counts in found] == ["adonis", "sb"]
    for counts in found:
        total = dict.fromkeys(indices, 0)
        for method, _, index, _, trained in rows:
            total[index] += trained if method == counts.method else 0
        least, most = least_and_most(counts)
        by_count = sorted(total, key=lambda index: (-total[index], index))
        assert [pick.index for pick in most.picks] == by_count[:8]
        assert [pick.index for pick in least.picks] == sorted(total, key=lambda index: (total[index], index))[:8]
        assert [pick.trained for pick in most.picks] == pytest.approx([total[i] / 3 for i in by_count[:8]])
        assert all(pick.label == pick.index % 3 for pick in (*most.picks, *least.picks))
        assert most.alike == sum(value == total[by_count[7]] for value in total.values())


def test_only_methods_that_choose_by_content_are_pictured(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, methods=list(synthetic.METHODS), samples=200)
    counts = load_counts(load(tmp_path)) or []
    shown = [c.method for c in by_content(counts, 6)]
    assert len(shown) == 6
    assert not {"rs2", "rpc", "rpd"} & set(shown)
    assert [c.method for c in counts if c.method in shown] == shown
    assert not {"rs2", "rpc", "rpd"} & {c.method for c in by_content(counts, 99)}
    left = [c.uneven() for c in counts if c.method not in shown and not c.method.startswith("r")]
    assert min(c.uneven() for c in counts if c.method in shown) >= max(left)


def test_class_shares_against_brute_force(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, methods=["adonis"], samples=60, epochs=10)
    rows = [("adonis", seed, i, i % 4, (i * 7 + seed) % 11) for seed in (0, 1) for i in range(60)]
    pq.write_table(counts_table([*rows]), tmp_path / "counts.parquet")
    results = load(tmp_path)
    table = class_table(results, load_counts(results) or [], most=3)
    assert table is not None
    assert (len(table.labels), table.hidden) == (3, 1)
    ((_, average, entries),) = table.rows
    everything = sum(r[4] for r in rows) / len(rows)
    assert average.count == pytest.approx(everything)
    leans = {c: sum(r[4] for r in rows if r[3] == c) / 30 / everything - 1 for c in range(4)}
    assert set(table.labels) == set(sorted(leans, key=lambda c: -abs(leans[c]))[:3])
    for label, entry in zip(table.labels, entries, strict=True):
        assert entry is not None
        assert entry.lean == pytest.approx(leans[label])
        assert entry.count == pytest.approx(everything * (1 + leans[label]))
        assert entry.share == pytest.approx(100 * entry.count / 10)


def test_data_without_labels(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, methods=["adonis"], samples=60)
    rows = [("adonis", 0, i, None, i) for i in range(60)]
    table = counts_table(rows)
    pq.write_table(table.set_column(4, "label", pa.nulls(60, pa.int64())), tmp_path / "counts.parquet")
    text = report.write(tmp_path, lambda index: np.zeros((2, 2, 3), np.uint8)).read_text()
    assert 'alt="sample 59"' in text
    assert "class by class" not in text


def test_methods_look_different() -> None:
    found = looks(("full", *(f"method{k}" for k in range(15))))
    drawn = {(look.colour, look.marker, str(look.dash)) for look in found.values()}
    assert len(drawn) == 16
    assert len({look.marker for name, look in found.items() if name != "full"}) == 15


def test_saved_figures_are_png_at_150_dpi(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, samples=60)
    before = dict(matplotlib.rcParams)
    paths = report.save_figures(tmp_path, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["accuracy_time.png", "boost_drop.png", "kept_share.png"]
    for path, figure in zip(paths, report.figures(tmp_path).values(), strict=True):
        with Image.open(path) as image:
            assert image.size == pytest.approx(tuple(150 * figure.get_size_inches()), abs=1)
    assert dict(matplotlib.rcParams) == before
