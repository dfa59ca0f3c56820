"""The page: its numbers are the file's, what it shows is escaped, it fetches nothing, it is written whole."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic
from PIL import Image

from leantrain import report
from leantrain.methods import METHODS
from leantrain.report.verdict import RANDOM

COLUMNS = ["accuracy", "drop", "boost", "boost_with", "to_5pp", "work", "selecting", "control", "ahead"]


class Page(HTMLParser):
    """What a browser would make of it: elements with attributes, and the text of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[tuple[str, str | None]]] = []  # per cell: text, data-value
        self._cell: list[str] | None = None
        self._value: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell, self._value = [], dict(attrs).get("data-value")

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append((" ".join(" ".join(self._cell).split()), self._value))
            self._cell = None


def grey(index: int) -> np.ndarray:
    return np.full((4, 6), index % 256, dtype=np.uint8)


def table(text: str) -> dict[str, dict[str, tuple[str, str | None]]]:
    """The main table as method -> column -> (text, unrounded value)."""
    rows = [row for row in Page(text).rows if len(row) == len(COLUMNS) + 2][1:]
    return {row[0][0]: dict(zip([*COLUMNS, "verdict"], row[1:], strict=True)) for row in rows}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("seeds", [1, 3])
def test_table_holds_the_numbers_of_the_file(tmp_path: Path, seeds: int) -> None:
    data = synthetic.write_results(tmp_path, seeds=seeds, samples=60)
    shown = table(report.write(tmp_path).read_text())
    assert list(shown) == ["full", *data["config"]["methods"]]
    for row in data["summary"]:
        cells = shown[row["method"]]
        own = [r for r in data["runs"] if r["method"] == row["method"] and r["control_for"] is None]
        controls = [r["accuracy"] for r in data["runs"] if r["control_for"] == row["method"]]
        accuracy = [r["accuracy"] for r in own]
        expected = {
            "accuracy": 100 * np.mean(accuracy),
            "drop": row["accuracy_drop_pp"],
            "boost": row["boost"],
            "boost_with": row["boost_with_preprocessing"],
            "to_5pp": row["boost_to_5pp"] and row["boost_to_5pp"] / data["summary"][0]["boost_to_5pp"],
            "work": row["work_ratio"],
            "selecting": 100 * sum(r["selection_seconds"] for r in own) / sum(r["train_seconds"] for r in own),
            "control": 100 * np.mean(controls) if controls else None,
            "ahead": row["control_accuracy_pp_ahead"],
        }
        for column, value in expected.items():
            text, exact = cells[column]
            if value is None:
                assert (text, exact) == ("–", None), (row["method"], column)
                continue
            assert exact is not None, (row["method"], column)
            assert float(exact) == pytest.approx(value, rel=1e-12, abs=1e-12), (row["method"], column)
            assert float(re.split(r"[ ×]", text.replace("−", "-"))[0]) == pytest.approx(value, abs=0.0501)
        if seeds > 1:
            assert cells["accuracy"][0].endswith(f"± {100 * np.std(accuracy, ddof=1):.2f}")
            if row["method"] != "full":
                assert cells["drop"][0].endswith(f"± {row['accuracy_drop_std']:.2f}")
                assert cells["ahead"][0].endswith(f"± {row['noise_pp']:.2f}")
        else:
            assert "±" not in "".join(text for text, _ in cells.values())
        assert (row["verdict"] or "reference") in cells["verdict"][0]
    assert data["summary"][0]["boost_to_5pp"] > 1.1
    assert shown["full"]["to_5pp"] == ("1.00×", "1.0")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("verdicts", "headline"),
    [
        (
            ["beats control", "within noise", "loses to control", "loses to control"],
            "1 of 4 methods beat training for fewer epochs in the same time: "
            "rs2 (+1.50 p.p., random subsets, no choice by content); 1 cannot be told from it and 2 lost to it.",
        ),
        (
            ["loses to control", "beats control", "beats control", None],
            "2 of 4 methods beat training for fewer epochs in the same time: infobatch (+1.50 p.p.) and "
            "ids+adonis (+1.50 p.p.); 1 lost to it and 1 could not be judged.",
        ),
        (
            ["within noise"] * 4,
            "None of the 4 methods beat training for fewer epochs in the same time; 4 cannot be told from it.",
        ),
    ],
)
def test_headline_follows_the_verdicts(tmp_path: Path, verdicts: list[str | None], headline: str) -> None:
    data = synthetic.write_results(tmp_path, samples=60)
    for row, verdict in zip(data["summary"][1:], verdicts, strict=True):
        row.update(verdict=verdict, control_accuracy_pp_ahead=1.5)
    (tmp_path / "results.json").write_text(json.dumps(data))
    page = report.write(tmp_path).read_text()
    assert f'<p class="headline">{headline}</p>' in page
    assert "Read with care" not in page


@pytest.mark.usefixtures("undrawn")
def test_one_seed_is_called_one_seed(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, seeds=1, samples=60)
    page = report.write(tmp_path).read_text()
    assert "With one seed: " in page
    assert "Read with care" in page


@pytest.mark.usefixtures("undrawn")
def test_an_easy_control_is_called_one(tmp_path: Path) -> None:
    """Behind full training that is merely stopped: told of those who did not lose to the control, beyond the noise."""
    data = synthetic.write_results(tmp_path, samples=60)
    verdicts = ["within noise", "beats control", "loses to control", "within noise"]
    for row, verdict, lead in zip(data["summary"][1:], verdicts, (-1.6, -2.25, -9.0, -0.4), strict=True):
        row.update(verdict=verdict, stopped_accuracy_pp_ahead=lead, stopped_noise_pp=0.5)
    (tmp_path / "results.json").write_text(json.dumps(data))
    page = report.write(tmp_path).read_text()
    assert (
        "<b>Read with care.</b> Full training merely stopped after the same time, its schedule not compressed, is "
        "ahead of rs2 (by 1.60 p.p.) and infobatch (by 2.25 p.p.) beyond the noise. With this schedule the control is "
        "an easy rival." in page
    )


@pytest.mark.usefixtures("undrawn")
def test_events_are_added_up_over_seeds(tmp_path: Path) -> None:
    data = synthetic.write_results(tmp_path, methods=["adonis"], samples=60)
    for count, run in enumerate(run for run in data["runs"] if run["method"] == "adonis"):
        run["events"] = {"batches_without_a_bin": count, "never": 0}
    (tmp_path / "results.json").write_text(json.dumps(data))
    text = report.write(tmp_path).read_text()
    assert "<code>batches_without_a_bin 3</code>" in text
    assert "never 0" not in text


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a--><b>&amp;", "_$x^2$ ]]>"]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    data = synthetic.write_results(tmp_path, methods=HOSTILE, classes=HOSTILE, samples=200)
    for key in ("data", "model"):
        data["config"][key] = HOSTILE[0]
    data["environment"] |= {"cpu": HOSTILE[1], HOSTILE[0]: HOSTILE[1], "device": HOSTILE[0]}
    for run in data["runs"]:
        run["settings"] = {HOSTILE[1]: HOSTILE[0]}
        run["events"] = {HOSTILE[1]: 1}
    (tmp_path / "results.json").write_text(json.dumps(data))
    for images in (None, grey):
        text = report.write(tmp_path, images).read_text()
        page = Page(text)
        tags = {tag for tag, _ in page.elements}
        assert not tags & {"script", "iframe", "object", "link"}
        assert [a for tag, a in page.elements if tag == "img" and a.get("src") == "x"] == []
        assert [name for _, a in page.elements for name in a if name.startswith("on")] == []
        assert list(table(text)) == ["full", *HOSTILE]
        assert "<script" not in text.lower()
        headers = [[cell for cell, _ in row] for row in page.rows]
        assert ["method", "all classes", *HOSTILE] in headers


def test_page_fetches_nothing(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, samples=60)
    text = report.write(tmp_path, grey).read_text()
    targets = [
        a[name] for _, a in Page(text).elements for name in ("src", "href", "xlink:href", "srcset", "data") if name in a
    ]
    assert any(target and target.startswith("data:image/png") for target in targets)
    assert any(target and target.startswith("#") for target in targets)
    assert [target for target in targets if not target or not target.startswith(("#", "data:image/png;base64,"))] == []
    assert not re.search(r"https?:|@import|url\((?!#)|[\"'(=]//", text)
    assert "default-src 'none'" in text


def test_ids_are_unique_and_resolved(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, samples=60)
    text = report.write(tmp_path, grey).read_text()
    ids = [a["id"] for _, a in Page(text).elements if "id" in a]
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_same_folder_same_page(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, samples=60)
    assert report.write(tmp_path).read_bytes() == report.write(tmp_path).read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_pictures_are_those_of_the_samples(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, methods=["adonis"], samples=60)
    page = Page(report.write(tmp_path, grey).read_text())
    pictures = [a for tag, a in page.elements if tag == "img"]
    assert len(pictures) == 32  # least and most often, of one class and of all
    for picture in pictures:
        index = int(re.match(r"sample (\d+)", picture["alt"] or "")[1])  # type: ignore[index]
        data = base64.b64decode((picture["src"] or "").split(",")[1])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), grey(index))


@pytest.mark.usefixtures("undrawn")
def test_without_pictures_the_page_says_how_to_get_them(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, samples=60)
    text = report.write(tmp_path).read_text()
    assert "leantrain report DIR" in text
    assert "<img" not in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.float32), np.zeros((3, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_wrong_pictures_are_refused(tmp_path: Path, bad: np.ndarray) -> None:
    synthetic.write_results(tmp_path, samples=60)
    with pytest.raises(ValueError, match=r"images\(\d+\) gave .*expected uint8 of shape"):
        report.write(tmp_path, lambda index: bad)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("failure", ["replace", "disk"])
def test_failed_write_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    synthetic.write_results(tmp_path, samples=60)
    path = report.write(tmp_path)
    before, names = path.read_bytes(), sorted(p.name for p in tmp_path.iterdir())
    synthetic.write_results(tmp_path, samples=80, seeds=1)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "replace") if failure == "replace" else (Path, "write_text")), fail)
    with pytest.raises(OSError, match="No space left"):
        report.write(tmp_path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert report.write(tmp_path).read_bytes() != before


@pytest.mark.skipif(shutil.which("chromium") is None, reason="a browser draws it: Debian's chromium")
@pytest.mark.parametrize("width", [500, 1200])
def test_verdicts_are_seen_without_scrolling(tmp_path: Path, width: int) -> None:
    synthetic.write_results(tmp_path, methods=["rs2", "infobatch", "adonis"], samples=60)
    page, shot = report.write(tmp_path), tmp_path / "shot.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += [f"--window-size={width},1000", f"--screenshot={shot}"]
    subprocess.run(["chromium", *options, page.as_uri()], check=True, capture_output=True, timeout=120)
    seen = {colour for _, colour in Image.open(shot).convert("RGB").getcolors(1 << 24)}
    for badge in ("e1f3ea", "fdebe3"):  # beats, loses
        assert tuple(bytes.fromhex(badge)) in seen


def test_methods_that_choose_at_random_are_known_by_their_names() -> None:
    assert METHODS.keys() >= RANDOM
