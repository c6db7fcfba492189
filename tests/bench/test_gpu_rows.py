"""What the GPU benchmarks write and count, without a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import weakref
from unittest.mock import MagicMock

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import bench_gpu
import gpu_report
from depthsr.ops import reference
from gpu_rows import Rates, Work, append, row, table

PROVENANCE = {"commit": "abc1234", "date": "2026-11-22", "device": "a GPU, with a comma", "torch": "2.13.0"}
CASE = {"op": "adain", "direction": "forward", "shape": "1x16x480x640", "dtype": "float16", "implementation": "cuda"}


def test_a_row_is_its_work_over_its_time():
    rates = Rates(copy_bytes_s=4e12, operations_s=5e13)
    one = row(PROVENANCE, CASE, 2e-3, Work(bytes=4_000_000_000, operations=10**10), rates)
    assert (one.ms, one.gb_s, one.share_of_copy) == (2.0, 2000.0, 0.5)
    assert (one.floor_bytes_ms, one.floor_operations_ms) == (1.0, 0.2)


def test_rows_are_appended_under_one_header(tmp_path):
    file = tmp_path / "results" / "gpu.csv"
    one = row(PROVENANCE, CASE, 2e-3, Work(10**6, 10**6), Rates(1e12, 1e12))
    append(file, one)
    append(file, dataclasses.replace(one, ms=7.0))
    header, first, second = file.read_text().splitlines()
    assert header.split(",")[:4] == ["commit", "date", "device", "torch"]
    assert '"a GPU, with a comma"' in first
    assert ",2.0," in first
    assert ",7.0," in second
    file.write_text("other,columns\n")
    with pytest.raises(ValueError, match=r"has the columns \['other', 'columns'\]"):
        append(file, one)


def test_the_table_is_sorted_by_time_within_an_op():
    rates, work = Rates(1e12, 1e12), Work(10**6, 10**6)
    slow, fast = (row(PROVENANCE, CASE, seconds, work, rates) for seconds in (3e-3, 1e-3))
    _, first, second = table([slow, fast]).splitlines()
    assert "1.0000" in first
    assert "3.0000" in second


def test_the_operations_of_a_block_are_those_that_torch_counts():
    shape = (2, 16, 6, 9)
    tensors, _ = bench_gpu.arguments_of("naf_block", shape, torch.float32, "meta")
    with FlopCounterMode(display=False) as counter:
        bench_gpu.results_of(reference, "naf_block", tensors)
    attention = 2 * shape[0] * shape[1] ** 2  # of one pixel a frame: left out
    work = bench_gpu.work_of("naf_block", shape, torch.float32, bench_gpu.FORWARD)
    assert work.operations + attention == counter.get_total_flops()


def test_what_is_replayed_holds_its_inputs(monkeypatch):
    """Where a graph reads, nothing else may be written while it is timed."""
    for name in ("Stream", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, contextlib.nullcontext)
    tensor = torch.rand(3)
    read = weakref.ref(tensor)
    replay = bench_gpu.captured([tensor.sum])
    del tensor
    assert read() is not None
    replay()
    torch.cuda.CUDAGraph().replay.assert_called_once_with()
    del replay
    assert read() is None


@pytest.mark.parametrize("op", [*bench_gpu.FLOORS, "naf_block"])
def test_every_case_can_be_computed_with_its_gradient(op):
    """By the reference on the CPU; and floors of bytes are at least the inputs and results."""
    shape = (1, 1, 16, 24) if op in bench_gpu.OF_DEPTH else (1, 4, 5, 6)
    tensors, images = bench_gpu.arguments_of(op, shape, torch.float32, "cpu")
    compute = bench_gpu.implementation_of("eager", op)
    if op not in bench_gpu.FORWARD_ONLY:
        gradients = bench_gpu.call_of(compute, tensors, bench_gpu.WITH_GRADIENT)()
        assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    results = bench_gpu.call_of(compute, tensors, bench_gpu.FORWARD)()
    assert not any(result.requires_grad for result in results)
    touched = 4 * (sum(t.numel() for t in tensors[:images]) + sum(r.numel() for r in results if r.dim() == 4))
    assert bench_gpu.work_of(op, shape, torch.float32, bench_gpu.FORWARD).bytes >= touched


def test_a_failed_step_fails_the_report(tmp_path, monkeypatch, capsys):
    file = tmp_path / "gpu-check.json"
    for steps, code in ((["build", "0", "61", "tests", "0", "9"], 0), (["build", "0", "61", "tests", "124", "90"], 1)):
        monkeypatch.setattr(sys, "argv", ["gpu_report.py", str(file), *steps])
        assert gpu_report.main() == code
        assert f'"passed": {str(code == 0).lower()}' in file.read_text()
    assert "tests: failed in 90 s" in capsys.readouterr().out
