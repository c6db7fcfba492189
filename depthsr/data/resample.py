"""Resizing of depth maps with the kernels of the super-resolution literature, as exact matrices. numpy only."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from depthsr.config import DOWNSAMPLINGS


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -0.5, support 2 (Keys 1981): the "bicubic" of MATLAB's imresize and Pillow."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def box(x: np.ndarray) -> np.ndarray:
    """Support 0.5: the mean of the covered pixels."""
    return ((x >= -0.5) & (x < 0.5)).astype(np.float64)


def triangle(x: np.ndarray) -> np.ndarray:
    """Support 1: bilinear."""
    return np.maximum(1 - np.abs(x), 0)


#: Name -> function, support.
KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = dict(
    zip(DOWNSAMPLINGS, ((cubic, 2.0), (triangle, 1.0), (box, 0.5)), strict=True)
)


@lru_cache(maxsize=256)
def resample_matrix(source: int, target: int, kernel: str) -> np.ndarray:
    """target×source weights, rows summing to 1; stretched by the factor when shrinking, so that nothing aliases.

    Pixel centres lie at i + 0.5 (align_corners=False); beyond the border the weights are renormalised.
    """
    function, support = KERNELS[kernel]
    stretch = max(source / target, 1.0)
    centres = (np.arange(target) + 0.5) * source / target
    offsets = (np.arange(source)[None] + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(offsets) <= support, function(offsets), 0.0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def resample(depth_HW: np.ndarray, size: tuple[int, int], kernel: str = "bicubic") -> np.ndarray:
    """Resize a map without holes to size = (h, w)."""
    rows = resample_matrix(depth_HW.shape[0], size[0], kernel)
    columns = resample_matrix(depth_HW.shape[1], size[1], kernel)
    return rows @ depth_HW.astype(np.float32) @ columns.T


def resample_masked(depth_HW: np.ndarray, size: tuple[int, int], kernel: str = "bicubic") -> np.ndarray:
    """Resize a map with NaN = no value: the mean of what is valid; NaN where less than half of the weight is."""
    valid = np.isfinite(depth_HW)
    if valid.all():
        return resample(depth_HW, size, kernel)
    weight = resample(valid.astype(np.float32), size, kernel)
    total = resample(np.where(valid, depth_HW, 0.0), size, kernel)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weight > 0.5, total / weight, np.nan).astype(np.float32)


def centre_sample(depth_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixel that holds each target pixel's centre: for a factor of 8, HR[4::8, 4::8]."""
    rows = ((np.arange(size[0]) + 0.5) * depth_HW.shape[0] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * depth_HW.shape[1] / size[1]).astype(int)
    return depth_HW[rows[:, None], columns[None]]
