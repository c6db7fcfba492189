"""score_tables: the documents' tables say what the files of scores say."""

from __future__ import annotations

import json

import pytest

from score_tables import DOCUMENTS, TABLES, Scores, with_tables


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(path.parents[2])))
def test_documents_hold_the_tables_of_the_committed_scores(document):
    text = document.read_text(encoding="utf-8")
    assert "<!-- scores: " in text
    assert text == with_tables(text), "run python bench/score_tables.py"


def test_every_table_stands_in_a_document():
    texts = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert [name for name in TABLES if f"<!-- scores: {name} -->" not in texts] == []


@pytest.fixture
def scores(tmp_path):
    """A model that is best, and two baselines of which each is best in one metric."""
    interval = {"value": 0.25, "ci": [0.125, 0.5]}
    rows = [
        {"method": "edge", "rmse": 1, "mae": 0.25, "boundary_f1": 0.9, "expected_mae": 0.5,
         "ratio": {"rmse": interval, "mae": {"value": 0.5, "ci": None}}},
        {"method": "bilinear", "rmse": 4, "mae": 0.75, "boundary_f1": 0.25},
        {"method": "guided_filter", "rmse": 5, "mae": 0.5, "boundary_f1": 0.75},
    ]  # fmt: skip
    (tmp_path / "scores.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    return Scores(tmp_path / "scores.json")


def test_the_best_baseline_is_the_best_of_the_baselines_in_each_metric(scores):
    assert [scores.best_baseline(metric) for metric in ("rmse", "mae", "boundary_f1")] == [4, 0.5, 0.75]
    assert scores.best_errors(unit=100, digits=0) == "400 / 50"


def test_a_cell_has_its_unit_and_its_interval_where_there_is_one(scores):
    assert scores.errors("edge", unit=100, digits=1) == "100.0 / 25.0"
    assert scores.ratio("edge") == "0.25 [0.12, 0.50] / 0.50"
    assert scores.expected_over_real("edge") == "2.00"


def test_what_stands_around_a_table_stays():
    text = "before\n<!-- scores: clean -->\nstale\n<!-- end of scores -->\nafter\n"
    made = with_tables(text)
    assert made.startswith("before\n<!-- scores: clean -->\n| ")
    assert made.endswith(" |\n<!-- end of scores -->\nafter\n")
    assert "stale" not in made


def test_an_unknown_table_is_no_table():
    with pytest.raises(KeyError, match="speed"):
        with_tables("<!-- scores: speed -->\n<!-- end of scores -->\n")
