"""A short comparison on real CIFAR-10, where it is at hand."""

import os
from pathlib import Path

import pytest

from leantrain import data
from leantrain.compare import CompareConfig, compare
from leantrain.report import write

FOLDER = Path(os.environ.get("LEANTRAIN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "cifar10"


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.exists(), reason=f"no CIFAR-10 in {FOLDER}; LEANTRAIN_DATA names the folder")
def test_a_short_comparison_on_cifar10(tmp_path):
    config = CompareConfig(
        data=f"parquet:{FOLDER}",
        limit=2000,
        model="tiny-resnet",
        epochs=3,
        methods=("infobatch", "ids+sb", "stale-sb"),
        precision="bf16",
        channels_last=True,
    )
    pictures = data.load(config.data, limit=config.limit)
    results = compare(config, pictures, tmp_path / "out").content()
    accuracy = {run["method"]: run["accuracy"] for run in results["runs"] if run["control_for"] is None}
    assert accuracy["full"] > 0.25  # ten classes
    for row in results["summary"][1:]:
        assert row["work_ratio"] < 1
    report = write(tmp_path / "out", lambda index: pictures.train[index][0].permute(1, 2, 0).numpy())
    assert "data:image/png;base64" in report.read_text()
