"""A preset run whole: recordings made once, comparisons that replay them, speed-ups re-computed by plain loops."""

import io
import json

import pytest
from rich.console import Console

from leantrain import data, methods
from leantrain.cli.tables import tables
from leantrain.compare import CompareConfig, presets
from leantrain.compare.presets import Preset, Table
from leantrain.compare.presets.runner import configs, run_study, speedups
from leantrain.compare.presets.scaling import scaled
from leantrain.train import method_inputs
from leantrain.train.facts import RunFacts

pytestmark = pytest.mark.usefixtures("shallow")

CHANGES = {"data": "digits", "limit": 150, "model": "small", "width": 4, "epochs": 3, "batch_size": 32, "device": "cpu"}
SMALL = Preset(
    source="a test",
    data="digits",
    base={
        "lr": 0.1,
        "epochs": 40,
        "model": "small",
        "settings": {"grad-match": {"keep_ratio": 0.5, "select_every": 2}, "rs2": {"keep_ratio": 0.5}},
    },
    recordings={"first": ("grad-match", {"lr": 0.05})},
    comparisons={
        "a": {"methods": ("grad-match", "replay@first")},
        "b": {"methods": ("replay@first",), "seeds": (0, 1)},
    },
    tables=(
        Table("letter", {"cached": "replay@first"}, {"A": "a", "B": "b"}, printed={"cached": {"A": 7.92}}),
        Table("only A", {"grad-match": "grad-match"}, {"A": "a"}),
        Table("summary", {"again": "replay@first"}, comparison="a", figures={"drop": "accuracy_drop_pp"}),
    ),
)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def test_a_study_records_once_replays_and_resumes(digits, tmp_path):
    told = []

    def announce(what, config):
        told.append(what)

    study = run_study(SMALL, CHANGES, lambda _: digits, tmp_path, announce=announce)
    assert told == ["recording first: grad-match", "a", "b"]
    assert json.loads((tmp_path / "study.json").read_text()) == study
    a, b = (json.loads((tmp_path / name / "results.json").read_text()) for name in "ab")
    replays = [run for run in a["runs"] + b["runs"] if run["method"] == "replay@first"]
    assert len(replays) == 3
    recorded = next(run["backward_samples"] for run in a["runs"] if run["method"] == "grad-match")
    for run in replays:
        assert (run["backward_samples"], run["forward_samples"]) == (recorded, recorded)
        assert run["settings"]["method"] == "GradMatch"
    first, second, third = study["tables"]
    assert third["rows"]["again"]["figures"]["drop"] is not None
    assert first["rows"]["cached"]["A"]["printed"] == 7.92
    assert first["rows"]["cached"]["B"]["printed"] is None
    assert list(second["rows"]) == ["grad-match"]

    again = run_study(SMALL, CHANGES, lambda _: digits, tmp_path, resume=True)
    assert again["recording_seconds"] == study["recording_seconds"]  # nothing was run again
    assert again["tables"] == study["tables"]
    with pytest.raises(ValueError, match="--resume"):
        run_study(SMALL, CHANGES, lambda _: digits, tmp_path)
    with pytest.raises(ValueError, match="recording of another configuration"):
        run_study(SMALL, CHANGES | {"epochs": 2}, lambda _: digits, tmp_path, resume=True)


def test_a_recording_that_was_cut_short_is_made_again(digits, tmp_path, monkeypatch):
    from leantrain.compare.presets import runner as module

    def stopped(*args, **kwargs):
        train(*args, **kwargs)
        raise KeyboardInterrupt

    train = module.train
    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_study(SMALL, CHANGES, lambda _: digits, tmp_path, only=["a"])
    assert list((tmp_path / "recordings" / "first").iterdir())
    monkeypatch.setattr(module, "train", train)
    assert run_study(SMALL, CHANGES, lambda _: digits, tmp_path, only=["a"])["tables"]


def made(method, seed, seconds, accuracies, control_for=None, preprocess=0.0):
    """A run of as many steps as seconds: with pooled costs of 1 s a sample, modelled time is measured time."""
    count = len(accuracies)
    points = [{"epoch": i, "train_seconds": seconds * (i + 1) / count, "accuracy": a} for i, a in enumerate(accuracies)]
    facts = {
        "method": method,
        "control_for": control_for,
        "seed": seed,
        "epochs": count,
        "accuracy": accuracies[-1],
        "trajectory": points,
        "train_seconds": seconds,
        "preprocess_seconds": preprocess,
        "selection_seconds": 0.0,
        "loaded_samples": 0,
        "scored_samples": 0,
        "forward_samples": seconds,
        "backward_samples": seconds,
        "costs": {"fetch": 0.0, "score": None, "step": 1.0, "decide": 0.0},
    }
    return RunFacts.model_validate(facts)


def test_speedups_by_hand():
    runs = [
        made("full", 0, 100, [0.2, 0.5, 0.6, 0.8]),
        made("full", 1, 100, [0.2, 0.3, 0.6, 0.8]),
        made("fast", 0, 40, [0.3, 0.7], preprocess=10),
        made("fast", 1, 40, [0.6, 0.5], preprocess=10),
        made("full", 0, 50, [0.1, 0.65], control_for="fast"),
        made("full", 1, 50, [0.62, 0.7], control_for="fast"),
    ]
    level, ours, controls = speedups(runs, ["fast"])
    assert level == 0.6  # the best of the second seed of `fast`, lower than that of any other run
    full = (75 + 75) / 2
    assert ours == {"fast": pytest.approx(full / ((40 + 10 + 20 + 10) / 2))}
    assert controls == {"fast": pytest.approx(full / ((50 + 25) / 2))}


def test_the_source_s_tables_stand_in_the_preset():
    tables = {table.title.split(":")[0]: table for table in presets.load("cached-grad-match").tables}
    assert tables["learning rate"].printed["cached-grad-match"] == {"0.001": 1.0, "0.003": 0.99, "0.03": 7.92}
    assert tables["optimizer"].printed["grad-match"] == {"Adam": 0.83, "RMSProp": 0.81, "SGD": 3.07}
    assert tables["architecture"].printed["cached-grad-match-warm"] == {"ResNet": 4.51}


PAPERS = [name for name in presets.names() if name != "demo"]


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_is_whole(name, tmp_path):
    preset = presets.load(name)
    assert preset.source
    assert preset.protocol
    assert preset.get
    assert preset.hours
    made = configs(preset, CHANGES, tmp_path)
    for table in preset.tables:
        for comparison in table.comparisons():
            rows = {"+".join(methods.parts(method)) for method in table.rows.values()}
            assert rows <= set(made[comparison].methods)
        assert set(table.printed) <= set(table.rows)
        assert all(set(row) <= {*table.columns, *table.figures} for row in table.printed.values())
    for config in made.values():
        for method in config.methods:
            if method.startswith("replay@"):
                assert method.removeprefix("replay@") in preset.recordings
                assert config.settings[method]["path"].startswith(str(tmp_path))
    with pytest.raises(ValueError, match=r"made for .*\. Say where it is, for example .* To get it: .*http"):
        configs(preset, {}, tmp_path)


def test_the_demo_brings_its_data_and_is_what_it_was(tmp_path):
    made = configs(presets.load("demo"), {}, tmp_path)
    assert made == {
        "digits": CompareConfig(
            data="digits",
            model="small",
            width=8,
            methods=("full", "rpd", "rs2", "infobatch", "ids", "adonis", "ids+adonis", "sb", "stale-sb"),
            seeds=(0, 1),
            epochs=15,
            batch_size=64,
        )
    }


LINE = Preset(
    source="a test",
    data="digits",
    base={"limit": 100, "seeds": (0, 1, 2), "control": "line", "line": (0.4, 0.7), "settings": {}},
    recordings={},
    comparisons={"clean": {}, "tail": {"condition": "long-tail=3", "limit": 200, "methods": ("infobatch",)}},
    matrix=True,
)


def test_conditions_have_folders_of_their_own_and_one_matrix(digits, tmp_path):
    changes = {"data": "digits", "limit": 50, "width": 4, "epochs": 2, "batch_size": 16, "methods": ("rs2",)}
    seen = []

    def load(config):
        seen.append(config.limit)
        return data.load("digits", limit=config.limit)

    study = run_study(LINE, changes | {"device": "cpu"}, load, tmp_path)
    assert seen == [50, 100]  # the tail has twice the images of the base's, whatever the base's are
    tail = json.loads((tmp_path / "tail" / "results.json").read_text())
    assert tail["config"]["condition"] == "long-tail=3"
    assert study["matrix"]["tail"]["rows"] == tail["summary"]
    assert {row["method"] for row in study["matrix"]["clean"]["rows"]} == {"full", "rs2"}
    assert json.loads((tmp_path / "study.json").read_text()) == study
    with pytest.raises(ValueError, match=r"Unknown comparison 'tails'. Did you mean 'tail'"):
        run_study(LINE, changes, load, tmp_path, only=["tails"])
    only = run_study(LINE, changes | {"device": "cpu"}, load, tmp_path, only=["tail"], resume=True)
    assert set(only["matrix"]) == {"tail"}


def test_every_table_and_figure_that_is_built_has_its_preset():
    data_sets, nets = ("cifar10", "cifar100", "imagenet"), ("resnet18", "resnet50", "mobilenetv2")
    wanted = {f"table-a1/{where}-{net}" for where in data_sets for net in nets}
    wanted |= {"sensitivity/adonis", "sensitivity/ids", "conditions", "cached-grad-match"}
    wanted |= {"trajectories", "selectivity", "demo"}
    wanted |= {f"grad-match/{table}" for table in ("lr", "optimizer", "architecture")}
    wanted |= {f"kakurenbo/{run}" for run in ("wrn-28-10-cifar100", "resnet50-imagenet", "efficientnet-b3-imagenet")}
    assert set(presets.names()) == wanted
    with pytest.raises(ValueError, match=r"Unknown preset 'table-a1/cifar10'. Did you mean 'table-a1/cifar10-resnet"):
        presets.load("table-a1/cifar10")


@pytest.mark.parametrize(
    ("name", "row", "printed"),
    [
        ("table-a1/cifar10-resnet18", "ids+adonis eta 3", (1.29, 1.81, 4.99)),
        ("table-a1/cifar100-resnet18", "sb", (2.43, 0.92, 2.84)),
        ("table-a1/cifar100-mobilenetv2", "adonis eta 1", (1.90, 1.54, 1.94)),
        ("table-a1/imagenet-resnet50", "adonis eta 3", (2.45, 1.82, 2.37)),
        ("table-a1/imagenet-mobilenetv2", "ssp", (0.33, 1.24, 2.85)),
        ("sensitivity/adonis", "theta 0.7", (23.64, 1.79)),
        ("sensitivity/ids", "alpha 0.5", (6.29, 1.36)),
        ("kakurenbo/wrn-28-10-cifar100", "forget", (1.35,)),
        ("kakurenbo/resnet50-imagenet", "kakurenbo", (-0.26,)),
    ],
)
def test_printed_figures(name, row, printed):
    found = next(table for table in presets.load(name).tables if row in table.printed)
    assert tuple(found.printed[row][column] for column in found.figures) == printed


def test_a_part_of_a_preset_has_only_what_its_table_needs():
    part = presets.load("grad-match/lr")
    assert set(part.comparisons) == {"base", "lr-0.001", "lr-0.003"}
    assert set(part.recordings) == {"resnet"}
    assert set(part.comparisons["base"]["methods"]) == {"full", "random-pb", "grad-match", "replay@resnet"}
    assert set(presets.load("grad-match/architecture").recordings) == {"mobilenet", "mobilenet-warm"}
    assert part.here == presets.load("cached-grad-match").here | {"seeds": [0, 1, 2, 3, 4]}


def test_a_share_shrinks_images_epochs_and_width():
    preset = presets.load("cached-grad-match")
    changes, said = scaled(preset, "0.1", {"data": "digits"})
    assert changes["epochs"] == 20
    assert changes["limit"] == 5000
    assert changes["width"] == 6
    assert changes["settings"]["grad-match"]["select_every"] == 2
    assert "epochs 200 to 20; limit 50000 to 5000; width as by default to 6" in said
    assert "grad-match.select_every 20 to 2" in said
    mine, told = scaled(preset, "0.1", {"epochs": 7, "settings": {"grad-match": {"select_every": 3}}})
    assert mine["epochs"] == 7
    assert "epochs 200 to 7;" in told
    assert mine["settings"]["grad-match"] == {"select_every": 3}
    for wrong in ("0", "1.5", "tiny"):
        with pytest.raises(ValueError, match=r"--scale .* must be 'here' or a share in \(0, 1\]"):
            scaled(preset, wrong, {})


@pytest.mark.parametrize("name", ["kakurenbo/wrn-28-10-cifar100", "kakurenbo/resnet50-imagenet"])
@pytest.mark.parametrize("scale", ["here", "0.1"])
def test_the_probe_shrinks_with_the_training(name, scale):
    """FORGET's twenty epochs of a probe beside twelve of training would be most of the time."""
    changes, _ = scaled(presets.load(name), scale, {})
    assert changes["settings"]["forget"]["probe_epochs"] == 2


@pytest.mark.parametrize("name", PAPERS)
def test_at_the_scale_of_two_cores_a_preset_still_fits_together(name, tmp_path):
    preset = presets.load(name)
    changes, said = scaled(preset, "here", {"data": "digits"})
    note = {"note": said}
    for config in configs(preset, changes | note, tmp_path).values():
        assert config.epochs <= 20
        assert config.limit
        assert config.limit <= 12100
        for method in config.methods:
            if not method.startswith("replay@"):
                method_inputs.check(config, [method])  # no extractor that would have to be fetched


def test_what_is_left_out_at_a_smaller_scale_is_said():
    changes, said = scaled(presets.load("sensitivity/ids"), "here", {})
    assert "without ids@phi-resnet18, ids@phi-swav, ids@phi-dinov2" in said
    assert not {"ids@phi-resnet18", "ids@phi-swav", "ids@phi-dinov2"} & set(changes["methods"])
    assert "seeds 0, 1 to 3, 4;" in scaled(presets.load("sensitivity/ids"), "here", {"seeds": ["3", "4"]})[1]


def test_figures_of_a_summary_stand_beside_the_printed_ones(digits, tmp_path):
    preset = Preset(
        source="a test",
        data="digits",
        base={"limit": 150, "epochs": 2, "width": 4, "batch_size": 16, "methods": ("infobatch",), "device": "cpu"},
        recordings={},
        comparisons={"all": {}},
        tables=(
            Table(
                "one",
                {"ours": "infobatch", "left out": "sb"},
                comparison="all",
                figures={"drop": "accuracy_drop_pp", "boost": "boost"},
                printed={"ours": {"drop": 1.5}},
            ),
        ),
    )
    study = run_study(preset, {"data": "digits"}, lambda _: digits, tmp_path)
    summary = json.loads((tmp_path / "all" / "results.json").read_text())["summary"][1]
    row = study["tables"][0]["rows"]["ours"]
    assert row["figures"] == {"drop": summary["accuracy_drop_pp"], "boost": summary["boost"]}
    assert row["printed"] == {"drop": 1.5, "boost": None}
    assert set(study["tables"][0]["rows"]) == {"ours"}
    text = Console(width=120, file=io.StringIO())
    text.print(tables(study)[0])
    assert f"{summary['accuracy_drop_pp']:.2f} / 1.50" in text.file.getvalue()
