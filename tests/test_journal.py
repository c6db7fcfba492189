"""The journal's lines: means between lines, none from a future that did not happen."""

from __future__ import annotations

import json

import pytest
import torch

from depthsr.journal import Journal


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_training_figures_are_means_since_the_last_line(tmp_path):
    journal = Journal(tmp_path, 0)
    for step in range(1, 2 * Journal.EVERY_STEPS + 10):
        journal.add(step, {"loss": torch.tensor(float(step)), "norm": torch.tensor(2.0)}, 0.5)
    journal.close()
    first, second = lines(tmp_path)
    half = (Journal.EVERY_STEPS + 1) / 2
    assert first == {"step": Journal.EVERY_STEPS, "loss": half, "norm": 2.0, "learning_rate": 0.5}
    assert second == {
        "step": 2 * Journal.EVERY_STEPS,
        "loss": half + Journal.EVERY_STEPS,
        "norm": 2.0,
        "learning_rate": 0.5,
    }


def test_a_resumed_run_drops_the_lines_beyond_its_checkpoint(tmp_path):
    journal = Journal(tmp_path, 0)
    for step in (10, 20, 30):
        journal.write(step, {"rmse": float(step)})
    journal.close()
    journal = Journal(tmp_path, 20)
    journal.write(25, {"rmse": 1.0})
    journal.close()
    assert [(line["step"], line["rmse"]) for line in lines(tmp_path)] == [(10, 10.0), (20, 20.0), (25, 1.0)]


@pytest.mark.parametrize("half", ['{"step": 15, "rm', "\0\0\0"])
def test_a_half_written_last_line_is_dropped_and_told(tmp_path, caplog, half):
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "rmse": 1.0}\n' + half)
    journal = Journal(tmp_path, 20)
    journal.write(20, {"rmse": 2.0})
    journal.close()
    assert [(line["step"], line["rmse"]) for line in lines(tmp_path)] == [(10, 1.0), (20, 2.0)]
    assert [record.getMessage() for record in caplog.records] == [
        f"the last line of {tmp_path / 'metrics.jsonl'} is half written; it is dropped."
    ]


def test_what_is_no_number_is_no_line(tmp_path):
    """JSON has none, and what reads the file would stumble over it."""
    journal = Journal(tmp_path, 0)
    journal.write(1, {"rmse": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.write(2, {"rmse": float("nan")})
    journal.close()
    assert lines(tmp_path) == [{"step": 1, "rmse": 1.5}]
