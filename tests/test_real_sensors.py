"""The shipped model on frames of real sensors, where the machine has them (DEPTHSR_SHARED, or ../shared).

There is no ground truth: what is checked is that the result agrees with the measurement in metres, that holes are
filled, and that a sequence of a still camera stays still.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from depthsr.data.resample import centre_sample
from depthsr.frames import Settings
from depthsr.infer import load
from depthsr.infer_files import Results, infer_files
from depthsr.io import pair_inputs, read_depth, read_rgb

SAMPLES = Path(os.environ.get("DEPTHSR_SHARED", Path(__file__).parents[2] / "shared")) / "samples"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no real sensor frames at {SAMPLES}")

#: Pattern of RGB, pattern of depth, largest median difference to the measurement (share of its value) pixel by pixel
#: (None: the sensor's noise, which is to be removed, is more than that) and of local means, metres a unit.
FRAMES = {
    "lidar-phone-a": ("rgb.jpg", "depth_mm.png", 0.01, 0.001, None),
    "lidar-phone-b": ("rgb.jpg", "depth_m.tiff", 0.01, 0.001, None),
    "sensor-a": ("rgb.png", "depth_mm.png", 0.01, 0.01, None),
    "sensor-b": ("rgb.jpg", "depth_mm.png", 0.01, 0.005, None),
    "sensor-c": ("rgb.jpg", "depth_mm.png", 0.02, 0.01, None),
    "stereo-d435": ("rgb.png", "depth.png", None, 0.01, 0.0001),
    "kinect-sequence": ("rgb_*.jpg", "depth_mm_*.png", 0.01, 0.002, None),
}


@pytest.fixture(scope="module", params=["edge", "edge-s"])
def shipped(request):
    return load(request.param)


def differences(result_m: np.ndarray, depth_m: np.ndarray) -> tuple[float, float]:
    """How far the result lies from the measurement, in shares of it: pixel by pixel, and in means over windows as wide
    as a twentieth of the frame, in which the sensor's noise averages out. Medians over what is measured.
    """
    measured = np.isfinite(depth_m)
    share = np.where(measured, centre_sample(result_m, depth_m.shape) / depth_m - 1, 0.0)
    side = (depth_m.shape[1] // 20) | 1
    total, count = (cv2.blur(values, (side, side)) for values in (share, measured.astype(np.float64)))
    local = total[measured] / count[measured]
    return float(np.median(np.abs(share[measured]))), float(np.median(np.abs(local)))


@pytest.mark.parametrize("name", FRAMES)
def test_the_result_agrees_with_the_sensor(name, shipped, tmp_path):
    rgb, depth, largest, largest_local, scale = FRAMES[name]
    frames = pair_inputs(str(SAMPLES / name / rgb), str(SAMPLES / name / depth))
    assert len(frames) == (5 if "*" in rgb else 1)
    written = infer_files(shipped, frames, tmp_path, Settings(scale), Results("tiff"))
    for frame, path in zip(frames, written, strict=True):
        result_m, depth_m = read_depth(path), read_depth(frame.depth, scale)
        assert result_m.shape == read_rgb(frame.rgb).shape[:2]
        assert np.isfinite(result_m).all()
        assert result_m.min() > 0
        difference, local_difference = differences(result_m, depth_m)
        assert largest is None or difference < largest
        assert local_difference < largest_local
        assert result_m.max() <= 1.05 * np.nanmax(depth_m) * (1 + 1e-6)


def test_a_still_camera_gives_still_depth(shipped):
    """Five Kinect frames: the result flickers no more than the sensor does."""
    folder = SAMPLES / "kinect-sequence"
    inputs = [read_depth(folder / f"depth_mm_{i}.png") for i in range(5)]
    results = [shipped(read_rgb(folder / f"rgb_{i}.jpg"), inputs[i]).depth_m for i in range(5)]
    measured = np.isfinite(inputs).all(axis=0)
    flicker_of_sensor = np.median(np.std(inputs, axis=0)[measured])
    flicker_of_result = np.median(np.std(results, axis=0)[measured])
    assert flicker_of_result <= 1.1 * flicker_of_sensor
