"""Never worse than doing nothing: the shipped models leave depth that is already clean and full-sized as it is.

Measured as `depthsr eval --protocol clean` does, by metrics.median_rel, on frames of several kinds.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import depthsr
from depthsr import metrics
from depthsr.data.degrade import degrade, ground_truth
from depthsr.io import read_depth, read_rgb

#: Largest median change, as a share of the depth.
LARGEST_CHANGE = 0.005
SAMPLE = Path(depthsr.__file__).parent / "assets" / "demo"


@pytest.fixture(scope="module", params=["edge", "edge-s"])
def shipped(request) -> depthsr.Predictor:
    return depthsr.load(request.param, device="cpu")


def texture(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """H×W×3 float32 in [0, 1]: stains and grain that say nothing about the depth."""
    stains = cv2.GaussianBlur(rng.random((*size, 3), dtype=np.float32), (0, 0), 8)
    stains = (stains - stains.min()) / np.ptp(stains)
    return np.clip(stains + rng.normal(0, 0.05, stains.shape), 0, 1).astype(np.float32)


def room(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A slanted floor up to a wall, boxes of one colour and plain depth before them; 0.6 to 4 m, odd size."""
    height, width = 187, 251
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    depth_m = np.minimum(4.0, 0.9 / np.maximum(rows, 0.05)) * np.ones((1, width), np.float32)
    rgb = texture((height, width), rng)
    for _ in range(12):
        top, left = rng.integers(0, height - 30), rng.integers(0, width - 30)
        box = slice(top, top + rng.integers(6, 60)), slice(left, left + rng.integers(3, 60))
        depth_m[box] = rng.uniform(0.6, 3.5)
        rgb[box] = 0.7 * rng.random(3) + 0.3 * rgb[box]
    return rgb, depth_m


def hills(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Smooth ground from 2 to 200 m under a texture that crosses every change of depth."""
    size = (160, 224)
    surface = cv2.GaussianBlur(rng.normal(0, 1, size), (0, 0), 12)
    depth_m = np.exp(np.interp(surface, (surface.min(), surface.max()), np.log((2, 200))))
    return texture(size, rng), depth_m.astype(np.float32)


def posts(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Posts of two to four pixels before a far wall, with holes: much of the frame lies at an edge."""
    size = (144, 192)
    rgb, depth_m = texture(size, rng), np.full(size, 12.0, np.float32)
    for left in range(8, size[1] - 8, 23):
        post = slice(None), slice(left, left + int(rng.integers(2, 5)))
        depth_m[post] = rng.uniform(1.5, 8)
        rgb[post] = rng.random(3)
    depth_m[rng.random(size) < 0.02] = np.nan
    return rgb, depth_m


def demo_sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The rendered frame of `depthsr demo`, with its sky; not among the training frames."""
    part = slice(100, 340), slice(120, 440)
    return read_rgb(SAMPLE / "rgb.webp")[part], read_depth(SAMPLE / "depth.exr")[part]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("make", [room, hills, posts, demo_sample])
def test_clean_depth_is_left_alone(shipped: depthsr.Predictor, make) -> None:
    rgb, depth_m = make(np.random.default_rng(17))
    clean_m = degrade(depth_m, "clean", seed=0).depth_m
    result_m = shipped(rgb, clean_m).depth_m
    assert metrics.median_rel(result_m, ground_truth(depth_m, "clean")) < LARGEST_CHANGE
    # the check itself can fail: the same map at a sixteenth of the size and noisy is not left alone
    poor_m = degrade(depth_m, "gdsr-x16-noisy", seed=0).depth_m
    assert metrics.median_rel(shipped(rgb, poor_m).depth_m, ground_truth(depth_m, "clean")) > LARGEST_CHANGE
