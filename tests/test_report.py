"""The table and the file hold the numbers of the evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from depthsr.report import markdown_table, write_json, write_markdown


def result(**changes) -> dict:
    values = {"abs_rel": 0.0123, "delta1": 0.98, "boundary_f1": 0.25, "edge_rmse": None, "rmse_border6": 1.5}
    near_far = {"rmse_under_16m": 0.5, "rmse_from_16m": 3.25}
    return {
        "protocol": "ais",
        "frames": 3,
        "split": "val",
        "seed": 0,
        "relative": None,
        "downsampling": None,
        "unit": "m",
        "ranges_m": [16.0],
        "input": "simulated",
        "interval": {"level": 0.95, "resamples": 2000, "unit": "scene", "units": 5},
        "best_baseline": {"rmse": "nearest", "mae": "nearest"},
        "rows": [
            {
                **{"method": "edge", "rmse": 1.25, "mae": 0.5, **values, **near_far, "time_ms": 12.34},
                "expected_mae": 0.4,
                "ause": 0.125,
                "ci": {"rmse": [1.1, 1.4], "mae": None, "rmse_border6": [1, 2]},
                "ratio": {"rmse": {"value": 0.5, "ci": [0.4, 0.65]}, "mae": None},
            },
            {
                **{"method": "nearest", "rmse": 2.5, "mae": 0.5, **values, **near_far, "time_ms": 1.0},
                "expected_mae": None,
                "ause": None,
                "ci": {"rmse": [2.0, 3.0], "mae": [0.4, 0.6], "rmse_border6": None},
                "ratio": {"rmse": {"value": 1.0, "ci": [1.0, 1.0]}, "mae": None},
            },
        ],
        "published": [],
        "per_frame": [{"method": "edge", "rmse": [1.0, None]}, {"method": "nearest", "rmse": [2.0, 3.0]}],
        **changes,
    }


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table() -> None:
    lines = markdown_table(result()).splitlines()
    assert lines[0] == (
        "ais: 3 frames, split val, seed 0; in brackets 95 % intervals, bootstrap of 5 scenes"
    )  # fmt: skip
    table = dict(zip(cells(lines[2]), cells(lines[4]), strict=True))
    assert table == {
        "method": "edge",
        "RMSE (m)": "**1.250** [1.100, 1.400]",
        "MAE (m)": "**0.500**",
        "RMSE / nearest": "0.500 [0.400, 0.650]",
        "MAE / nearest": "–",
        "AbsRel (%)": "**1.23**",
        "δ1 (%)": "**98.00**",
        "RMSE under 16 m (m)": "**0.500**",
        "RMSE from 16 m (m)": "**3.250**",
        "edge RMSE (m)": "–",
        "boundary F1 (%)": "**25.00**",
        "MAE it expects (m)": "0.400",
        "AUSE": "**0.125**",
        "time (ms)": "12.3",
    }
    other = dict(zip(cells(lines[2]), cells(lines[5]), strict=True))
    assert other["RMSE (m)"] == "2.500 [2.000, 3.000]"
    assert other["MAE (m)"] == "**0.500** [0.400, 0.600]"
    assert other["time (ms)"] == "**1.0**"
    assert other["MAE it expects (m)"] == "–"
    assert cells(lines[3]) == ["---", *["---:"] * 13]


def test_papers_stand_below_ours_and_are_marked() -> None:
    published = [{"method": "SGNet", "rmse_border6": 0.0244}]
    lines = markdown_table(result(protocol="gdsr-x8", published=published, best_baseline={})).splitlines()
    headings = cells(lines[2])
    assert len(lines) == 7
    theirs = dict(zip(headings, cells(lines[6]), strict=True))
    assert theirs.pop("method") == "SGNet (published)"
    assert theirs.pop("RMSE inside a border of 6 (cm)") == "2.44"
    assert set(theirs.values()) == {"–"}
    assert dict(zip(headings, cells(lines[4]), strict=True))["RMSE inside a border of 6 (cm)"] == (
        "**150.00** [100.00, 200.00]"
    )


def test_grey_levels_stay_as_they_are() -> None:
    lines = markdown_table(result(protocol="gdsr-x8", unit="grey levels", ranges_m=[])).splitlines()
    table = dict(zip(cells(lines[2]), cells(lines[4]), strict=True))
    assert table["RMSE inside a border of 6 (grey levels)"] == "**1.50** [1.00, 2.00]"
    assert table["RMSE (grey levels)"] == "**1.250** [1.100, 1.400]"
    assert not any(heading.endswith("(m)") for heading in table)


def test_a_given_input_is_told() -> None:
    assert "low-resolution input: own" in markdown_table(result(input="own")).splitlines()[0]


def test_json_is_the_result_a_line_for_each_method(tmp_path: Path) -> None:
    write_json(result(), tmp_path / "deep" / "scores.json")
    text = (tmp_path / "deep" / "scores.json").read_text()
    assert json.loads(text) == result()
    assert sum(line.startswith('{"method": "edge"') for line in text.splitlines()) == 2
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.json"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(result(seed=float("nan")), tmp_path / "bad.json")
    assert not (tmp_path / "bad.json").exists()


def test_markdown_file_is_the_table(tmp_path: Path) -> None:
    write_markdown(result(), tmp_path / "table.md")
    assert (tmp_path / "table.md").read_text() == markdown_table(result()) + "\n"
