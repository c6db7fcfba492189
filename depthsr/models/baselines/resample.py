"""Interpolation of a low-resolution depth map: nearest, bilinear, bicubic; holes filled from the nearest measurement or
from behind; the median of what was measured around a pixel.

Both grids cover the same field of view, so pixel i of n lies at (i + 0.5) / n of the side (half-pixel convention).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

#: Weight of a value that was filled in beside a measured one: it counts only where nothing measured is in reach.
FILLED_CONFIDENCE = 1e-6


def has_value(depth_m_hw: np.ndarray) -> np.ndarray:
    """h×w bool: False where depth is NaN, inf or <= 0."""
    return np.isfinite(depth_m_hw) & (depth_m_hw > 0)


def fill_from_nearest(depth_m_hw: np.ndarray) -> np.ndarray:
    """Every pixel without a value (NaN, inf or <= 0) takes that of the nearest pixel with one. Float32 metres.

    Raises ValueError when no pixel has a value.
    """
    valid_hw = has_value(depth_m_hw)
    if valid_hw.all():
        return depth_m_hw.astype(np.float32, copy=False)
    if not valid_hw.any():
        raise ValueError("the depth map holds no measurement at all")
    _, label_hw = cv2.distanceTransformWithLabels(
        (~valid_hw).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of_label = np.zeros(label_hw.max() + 1, np.float32)
    value_of_label[label_hw[valid_hw]] = depth_m_hw[valid_hw]
    return value_of_label[label_hw]


def source_coordinates(size: int, source_size: int) -> np.ndarray:
    """Where the centres of `size` pixels fall on a grid of `source_size`, in source pixels (-0.5 = its left border)."""
    return (np.arange(size) + 0.5) * source_size / size - 0.5


def source_pixels(size: tuple[int, int], source_size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Index (as of numpy.ix_) of the pixel of the large frame in which the centre of each small pixel falls."""
    rows, columns = (
        ((np.arange(small) + 0.5) * large / small).astype(int) for large, small in zip(size, source_size, strict=True)
    )
    return np.ix_(rows, columns)


def low_resolution_guide(rgb_HW3: np.ndarray, size: tuple[int, int], guide: str) -> np.ndarray:
    """h×w×3 RGB of the low-resolution pixels: the "mean" over their areas, or the RGB pixel at their "centre"."""
    if guide == "centre":
        return rgb_HW3[source_pixels(rgb_HW3.shape[:2], size)]
    if guide == "mean":
        return cv2.resize(rgb_HW3, size[::-1], interpolation=cv2.INTER_AREA)
    raise ValueError(f'the guide is taken as "mean" or "centre", not {guide!r}')


def nearest(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> np.ndarray:
    """Nearest-neighbour interpolation to the RGB's size; H×W float32 metres."""
    rows, columns = (
        np.clip(np.floor(source_coordinates(size, source_size) + 0.5).astype(int), 0, source_size - 1)
        for size, source_size in zip(rgb_HW3.shape[:2], depth_m_hw.shape, strict=True)
    )
    return fill_from_nearest(depth_m_hw)[np.ix_(rows, columns)]


def bilinear(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> np.ndarray:
    """Bilinear interpolation to the RGB's size; H×W float32 metres."""
    return interpolate(fill_from_nearest(depth_m_hw), rgb_HW3.shape[:2])


def bicubic(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> np.ndarray:
    """Cubic convolution (Keys 1981, a = -1/2) to the RGB's size, kept within the input's range; H×W float32 metres."""
    filled = fill_from_nearest(depth_m_hw)
    return np.clip(_separable(filled, rgb_HW3.shape[:2], _keys, support=2), filled.min(), filled.max())


def median_of_measured(depth_m_hw: np.ndarray) -> np.ndarray:
    """Each measurement becomes the median of those in the 3×3 pixels around it; h×w float32, NaN = no value.

    Pixels without a value get none, and of an even number of measurements the median is the mean of the middle two.
    """
    valid_hw = has_value(depth_m_hw)
    padded = np.pad(np.where(valid_hw, depth_m_hw, np.inf).astype(np.float32), 1, constant_values=np.inf)
    windows_hw9 = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*depth_m_hw.shape, 9)
    sorted_n9 = np.sort(windows_hw9[valid_hw], axis=-1)  # inf, where nothing was measured, comes last
    measured = np.isfinite(sorted_n9).sum(-1)
    middle = np.stack(((measured - 1) // 2, measured // 2), axis=-1)
    median_hw = np.full(depth_m_hw.shape, np.nan, np.float32)
    median_hw[valid_hw] = np.take_along_axis(sorted_n9, middle, axis=-1).mean(-1)
    return median_hw


def fill_from_behind(depth_m_hw: np.ndarray) -> np.ndarray:
    """Holes take the farther of the next measurements to their left and right; h×w float32, NaN in rows without one.

    The usual way to fill what one camera of a stereo pair does not see, as it lies behind what hides it.
    """
    valid_hw = has_value(depth_m_hw)
    width = depth_m_hw.shape[1]
    column = np.arange(width)
    last = np.maximum.accumulate(np.where(valid_hw, column, -1), axis=1)
    following = np.minimum.accumulate(np.where(valid_hw, column, width)[:, ::-1], axis=1)[:, ::-1]
    # One more column at either end for where there is none: -1 is the last of them.
    padded = np.full((depth_m_hw.shape[0], width + 1), -np.inf, np.float32)
    padded[:, :width] = depth_m_hw
    behind = np.maximum(np.take_along_axis(padded, last, 1), np.take_along_axis(padded, following, 1))
    return np.where(valid_hw, depth_m_hw, np.where(np.isfinite(behind), behind, np.nan)).astype(np.float32)


def interpolate(values_hw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation of any finite values to `size`; H×W float32."""
    return _separable(values_hw, size, _triangle, support=1)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _keys(distance: np.ndarray) -> np.ndarray:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def _separable(
    values_hw: np.ndarray, size: tuple[int, int], kernel: Callable[[np.ndarray], np.ndarray], support: int
) -> np.ndarray:
    """Interpolate rows, then columns, each by one matrix; beyond the border the edge value repeats."""
    down, across = (
        _matrix(target, source, kernel, support) for target, source in zip(size, values_hw.shape, strict=True)
    )
    return (down @ values_hw.astype(np.float64) @ across.T).astype(np.float32)


def _matrix(size: int, source_size: int, kernel: Callable[[np.ndarray], np.ndarray], support: int) -> np.ndarray:
    coordinate = source_coordinates(size, source_size)
    matrix = np.zeros((size, source_size))
    first = np.floor(coordinate).astype(int)
    for tap in range(1 - support, support + 1):
        index = first + tap
        np.add.at(matrix, (np.arange(size), np.clip(index, 0, source_size - 1)), kernel(np.abs(coordinate - index)))
    return matrix
