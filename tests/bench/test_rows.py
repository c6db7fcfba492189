"""Rows and their file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from measurements import relative_error
from rows import provenance, write


def test_a_failed_write_leaves_the_last_file(tmp_path):
    path = tmp_path / "rows.json"
    write(path, {"rows": [{"median_ms": 1.5, "contender": "×"}]})
    with pytest.raises(TypeError):
        write(path, {"rows": [object()]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"rows": [{"median_ms": 1.5, "contender": "×"}]}
    assert list(tmp_path.iterdir()) == [path]


def test_provenance_names_the_threads_in_use(one_thread):
    origin = provenance()
    assert origin["threads"] == 1
    assert origin["torch"] == torch.__version__
    assert json.loads(json.dumps(origin)) == origin


def test_relative_error_is_the_worst_output_s():
    expected = [np.array([3.0, 4.0]), np.array([[0.0, 2.0]])]
    found = [np.array([3.0, 4.5]), np.array([[0.0, 2.5]])]
    assert relative_error(expected, expected) == 0
    assert relative_error(found, expected) == pytest.approx(0.25)  # of 0.5 / 5 and 0.5 / 2
    nan = np.array([np.nan, 4.0])
    assert np.isnan(relative_error([nan, found[1]], expected))
    assert np.isnan(relative_error([found[1], nan], expected[::-1]))


def test_the_commit_of_a_tree_without_its_repository_is_told(monkeypatch):
    monkeypatch.setenv("BENCH_COMMIT", "abc1234")
    assert provenance()["commit"] == "abc1234"
