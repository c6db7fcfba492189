"""Whole models on a GPU, 640×480 from an 80×60 measurement in float16: frames a second on the device and host to host.

    pytest bench/bench_gpu_models.py --benchmark-only   # appends to bench/results/gpu-models.csv; gpu_check.sh runs it

Medians. `base` has a Depth Anything with random weights: its own could not be fetched, and take the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import depthsr
from bench_gpu import captured, timed
from depthsr import ops
from gpu_rows import ModelRow, append, model_table
from rows import provenance

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")]

ROWS_FILE = Path(__file__).parent / "results" / "gpu-models.csv"
HEIGHT, WIDTH, UPSAMPLING = 480, 640, 8
ROUNDS = 20
#: Of the host: one round.
FRAMES = 96
WEIGHTS = {"edge": "shipped", "base": "U-Net shipped, Depth Anything random"}

Arrays = tuple[np.ndarray, np.ndarray]


@cache
def load(name: str, device: str = "cuda", dtype: str = "fp16") -> depthsr.Predictor:
    predictor = depthsr.load(name, device=device, dtype=dtype, runtime="torch")
    model = predictor.restorer.model
    if model.config.takes_relative:
        torch.manual_seed(0)
        model.add_depth_anything()
    return predictor


def frames_of(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[Arrays]:
    """uint8 RGB and metres, random."""
    rng = np.random.default_rng(0)
    low = (height // UPSAMPLING, width // UPSAMPLING)
    return [
        (rng.integers(0, 256, (height, width, 3), np.uint8), rng.uniform(5, 10, low).astype(np.float32))
        for _ in range(count)
    ]


def on_device(frames: list[Arrays], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors of DepthSR.infer."""
    rgb_B3HW = torch.from_numpy(np.stack([rgb for rgb, _ in frames])).to(device).permute(0, 3, 1, 2).float() / 255
    depth_m_B1hw = torch.from_numpy(np.stack([depth_m for _, depth_m in frames]))[:, None].to(device)
    return rgb_B3HW, depth_m_B1hw, torch.isfinite(depth_m_B1hw)


def calls(predictor: depthsr.Predictor, path: str, batch: int, frames: list[Arrays]) -> Callable[[], object]:
    """What is timed. On the device it restores the first `batch` frames, on the host all of them."""
    if path == "host, stream":
        return lambda: sum(1 for _ in predictor.stream(frames))
    if path == "host, batch":
        return lambda: [predictor.batch(frames[i : i + batch]) for i in range(0, len(frames), batch)]
    device = str(predictor.restorer.device)
    infer = partial(predictor.restorer.model.infer, *on_device(frames[:batch], device))
    return captured([infer]) if path == "device, graph" else infer


def host_timed(run: Callable[[], object]) -> Callable[[], float]:
    def sample() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return sample


@pytest.fixture(scope="module")
def collected(tables: list[str]) -> Iterator[list[ModelRow]]:
    rows: list[ModelRow] = []
    yield rows
    tables.append(model_table(rows))


@pytest.mark.parametrize(
    ("path", "batch", "kernels"),
    [
        *(
            (path, batch, kernels)
            for kernels in ("auto", "triton")
            for path in ("device, graph", "device, eager")
            for batch in (1, 8)
        ),
        ("host, stream", 1, "auto"),
        ("host, batch", 8, "auto"),
    ],
)
@pytest.mark.parametrize("name", ["base", "edge"])
def test_model(benchmark, name, path, batch, kernels, collected):
    predictor = load(name)
    frames = frames_of(FRAMES)
    on_host = path.startswith("host")
    # Three warm-up rounds: libraries load, graphs are captured, clocks rise.
    rounds = 5 if on_host else ROUNDS
    samples_s: list[float] = []
    with ops.backend(kernels):
        run = calls(predictor, path, batch, frames)
        sample = host_timed(run) if on_host else timed(run)
        benchmark.pedantic(lambda: samples_s.append(sample()), rounds=rounds, warmup_rounds=3)
    seconds = sorted(samples_s[-rounds:])[rounds // 2] / (len(frames) if on_host else batch)
    about = provenance() | {"device": torch.cuda.get_device_name()}
    new = ModelRow(
        **{name: str(about[name]) for name in ("commit", "date", "device", "torch")},
        model=name, weights=WEIGHTS[name], size=f"{WIDTH}x{HEIGHT}",
        measured=f"{WIDTH // UPSAMPLING}x{HEIGHT // UPSAMPLING}", dtype="float16", batch=batch, path=path,
        kernels=kernels, ms=round(1e3 * seconds, 4), frames_s=round(1 / seconds, 1),
    )  # fmt: skip
    benchmark.extra_info["frames a second"] = new.frames_s
    collected.append(new)
    append(ROWS_FILE, new)
