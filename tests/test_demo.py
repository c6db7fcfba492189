"""The demo: its sample, the scores it prints, and the line it tells people to type."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from depthsr import cli, demo
from depthsr.io import read_depth, read_rgb
from depthsr.models.baselines import BASELINES


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """(folder, report) of a demo with the model that ships."""
    out = tmp_path_factory.mktemp("demo") / "a new folder"
    return out, demo.run(out)


def test_the_sample_is_small_and_names_its_authors():
    assert sum(path.stat().st_size for path in demo.SAMPLE.iterdir()) < 400_000
    attribution = (demo.SAMPLE / "ATTRIBUTION.md").read_text()
    assert "CC-BY-SA-4.0" in attribution
    assert "Jean-Manuel Clémençon" in attribution
    assert read_rgb(demo.SAMPLE / "rgb.webp").shape[:2] == read_depth(demo.SAMPLE / "depth.exr").shape == (480, 640)


def test_the_scores_are_those_of_the_files(result):
    out, report = result
    truth_m, result_m = read_depth(out / "sample_truth.exr"), read_depth(out / "sample.png")
    error = result_m.astype(np.float64) - truth_m
    rows = {line.split()[0]: line.split()[1:] for line in report.splitlines() if re.match(r"\w+ +\d+\.\d+ ", line)}
    assert set(rows) == {"edge", *BASELINES}
    assert float(rows["edge"][0]) == pytest.approx(np.sqrt(np.mean(error**2)), abs=5.1e-4)
    assert float(rows["edge"][1]) == pytest.approx(np.mean(np.abs(error)), abs=5.1e-4)
    stored = {row["method"]: row for row in json.loads((out / "scores.json").read_text())["rows"]}
    assert {name: f"{row['rmse']:.3f}" for name, row in stored.items()} == {name: row[0] for name, row in rows.items()}


def test_the_shipped_model_beats_every_baseline_on_it(result):
    rows = {line.split()[0]: line.split()[1:] for line in result[1].splitlines() if re.match(r"\w+ +\d+\.\d+ ", line)}
    for column in (0, 1):
        assert float(rows["edge"][column]) < min(float(rows[name][column]) for name in BASELINES)


def test_the_picture_shows_five_panels_with_one_range_of_colours(result):
    picture = read_rgb(result[0] / "comparison.png")
    assert picture.shape[1] == 5 * 640
    np.testing.assert_array_equal(picture[-480:, :640], read_rgb(result[0] / "sample_rgb.webp"))
    truth, restored = picture[-480:, 4 * 640 :].astype(int), picture[-480:, 3 * 640 : 4 * 640].astype(int)
    assert np.median(np.abs(truth - restored)) < 8


def test_the_line_it_prints_does_the_same_again(result):
    out, report = result
    line = next(line for line in report.splitlines() if "depthsr infer" in line and "sample_depth.png" in line)
    arguments = shlex.split(line)
    assert arguments[0] == "depthsr"
    done = CliRunner().invoke(cli.app, arguments[1:], catch_exceptions=False)
    assert done.exit_code == 0
    again = read_depth(out / "result" / "sample_rgb.png")
    np.testing.assert_array_equal(again, read_depth(out / "sample.png"))
