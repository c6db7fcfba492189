"""The whole-model benchmark: that what it times restores frames, on a CPU."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

import bench_gpu_models
from gpu_rows import ModelRow, append, model_table

ROW = ModelRow(
    commit="abc1234", date="2026-11-22", device="a GPU", torch="2.13.0", model="edge", weights="shipped",
    size="640x480", measured="80x60", dtype="float16", batch=8, path="host, batch", kernels="auto", ms=0.8,
    frames_s=1250.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def predictor():
    return bench_gpu_models.load("edge", "cpu", "fp32")


def test_on_the_device_the_first_frames_are_restored_together(predictor):
    frames = bench_gpu_models.frames_of(3, 32, 64)
    depth_m, _ = bench_gpu_models.calls(predictor, "device, eager", 2, frames)()
    assert depth_m.shape == (2, 1, 32, 64)
    for together, one in zip(depth_m.numpy(), frames, strict=False):
        np.testing.assert_allclose(together[0], predictor(*one).depth_m, rtol=1e-3)


def test_on_the_host_all_frames_are_restored(predictor):
    frames = bench_gpu_models.frames_of(3, 32, 64)
    assert bench_gpu_models.calls(predictor, "host, stream", 1, frames)() == 3
    groups = bench_gpu_models.calls(predictor, "host, batch", 2, frames)()
    assert [len(group) for group in groups] == [2, 1]
    np.testing.assert_allclose(groups[1][0].depth_m, predictor(*frames[2]).depth_m, rtol=1e-3)


def test_rows_of_models_have_a_file_and_a_table(tmp_path):
    file = tmp_path / "gpu-models.csv"
    append(file, ROW)
    append(file, dataclasses.replace(ROW, model="base", batch=1))
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["model"], row["batch"], row["path"]) for row in rows] == [
        ("edge", "8", "host, batch"),
        ("base", "1", "host, batch"),
    ]
    line = model_table([ROW]).splitlines()[1].split()
    assert line == ["edge", "640x480", "float16", "8", "host,", "batch", "auto", "0.800", "1250", "shipped"]
