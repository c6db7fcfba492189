"""Time of one 640×480 frame for every baseline and the shipped model, from an 80×60 measurement.

pytest bench/bench_methods.py --benchmark-columns=median,iqr,rounds
"""

from __future__ import annotations

import numpy as np
import pytest

import depthsr
from depthsr.models.baselines import BASELINES


@pytest.fixture(scope="module")
def frame() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), 8, 0), 8, 1)
    return rgb, rng.uniform(0.5, 80, (60, 80)).astype(np.float32)


@pytest.mark.parametrize("method", ["edge", *BASELINES])
def test_one_frame(benchmark, frame: tuple[np.ndarray, np.ndarray], method: str) -> None:
    try:
        predictor = depthsr.load(method, device="auto")
    except depthsr.UserError as error:
        pytest.skip(str(error))
    prediction = benchmark.pedantic(predictor, args=frame, rounds=10, warmup_rounds=2)
    assert np.isfinite(prediction.depth_m).all()
