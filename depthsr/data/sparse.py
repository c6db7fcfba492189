"""Sparse depth: single pixels with a value and nothing between them. Its laws, and its way onto a coarser grid.

What a scanning lidar or structure from motion delivers is drawn into a map of the picture's size that is nearly all
holes. A network that upsamples has seen coarse maps full of values. On a grid as coarse as the points lie apart the two
are alike (`gathered`).
"""

from __future__ import annotations

import numpy as np

#: Nothing farther is measured in protocols `points` and `lidar`, or scored: what a car's lidar reaches.
REACH_M = 80.0

#: Pixels are joined as long as so much of the values get one of their own.
KEPT = 0.8

#: To more than so many pixels a side they are joined only while a smaller share than FILLED has a value: what is gained
#: in fullness is lost in place, as a value is moved to the centre of its pixel.
FINE_PX = 4
FILLED = 0.08

#: No side of a map gets smaller than this.
LEAST_SIDE_PX = 8


def single_points(depth_m: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """H×W: that many of the map's values at random, as in Ma & Karaman, "Sparse-to-Dense" (ICRA 2018); else NaN."""
    known = np.flatnonzero(np.isfinite(depth_m))
    chosen = rng.choice(known, min(count, known.size), replace=False)
    points_m = np.full(depth_m.shape, np.nan, np.float32)
    points_m.flat[chosen] = depth_m.flat[chosen]
    return points_m


def scan_lines(
    depth_m: np.ndarray, spacing_px: float, step_px: int, rng: np.random.Generator, view_deg: float = 70.0
) -> np.ndarray:
    """H×W: what a lidar at the camera's place measures; else NaN.

    Its beams turn at fixed elevations, `spacing_px` apart in the middle of the picture, and so lie on hyperbolas in it;
    every `step_px`-th column is measured.

    view_deg  horizontal field of view of the picture.
    """
    height, width = depth_m.shape
    focal_px = width / 2 / np.tan(np.radians(view_deg / 2))
    x = np.arange(width) + 0.5 - width / 2
    y = np.arange(height + 1)[:, None] - height / 2
    beam = np.floor(np.arctan2(y, np.hypot(x, focal_px)) * focal_px / spacing_px + rng.uniform())
    measured = np.diff(beam, axis=0) > 0
    measured &= (np.arange(width) + rng.integers(step_px)) % step_px == 0
    return np.where(measured, depth_m, np.nan).astype(np.float32)


def gathered(depth_m_hw: np.ndarray) -> np.ndarray:
    """Sparse depth on a coarser grid over the same view: float32 metres, NaN = no value. Any other map as it is.

    Pixels are joined in pairs along one axis, then the other, within KEPT, FINE_PX and FILLED: never in dense depth,
    holes or not; along the columns alone where there are full lines. Of the values that share a pixel of the coarser
    grid the one nearest its centre stays.
    """
    valid_hw = np.isfinite(depth_m_hw)
    size = _size_gathered(valid_hw)
    if size == depth_m_hw.shape:  # nearly every frame: nothing is to be sorted
        return depth_m_hw
    cells, pixels = _kept(valid_hw, size)
    depth_m = np.full(size, np.nan, np.float32)
    depth_m.flat[cells] = depth_m_hw.flat[pixels]
    return depth_m


def kept_values(depth_m_hw: np.ndarray) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """What `gathered` keeps: the size of its grid, and of each value the pixel there and here, counted row by row."""
    valid_hw = np.isfinite(depth_m_hw)
    size = _size_gathered(valid_hw)
    return size, *_kept(valid_hw, size)


def _kept(valid_hw: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    places = np.nonzero(valid_hw)
    rows, rows_off = _cells(places[0], valid_hw.shape[0], size[0])
    columns, columns_off = _cells(places[1], valid_hw.shape[1], size[1])
    nearest_first = np.argsort(rows_off**2 + columns_off**2, kind="stable")
    cells, first = np.unique((rows * size[1] + columns)[nearest_first], return_index=True)
    return cells, np.flatnonzero(valid_hw)[nearest_first[first]]


def _cells(place: np.ndarray, side: int, coarser: int) -> tuple[np.ndarray, np.ndarray]:
    """Of pixels along one axis: the coarser pixel that holds their centre, and how far off its own centre that is."""
    cell, within = np.divmod((2 * place + 1) * coarser, 2 * side)
    return cell, (within - side) / (2 * coarser)


def _size_gathered(valid_hw: np.ndarray) -> tuple[int, int]:
    needed = KEPT * valid_hw.sum()
    side_px = [1, 1]
    axis, refused = 0, 0
    while refused < 2:
        joined_hw = _pairs_joined(valid_hw, axis)
        worth = 2 * side_px[axis] <= FINE_PX or valid_hw.mean() < FILLED
        if worth and min(joined_hw.shape) >= LEAST_SIDE_PX and joined_hw.sum() >= needed:
            valid_hw, refused = joined_hw, 0
            side_px[axis] *= 2
        else:
            refused += 1
        axis = 1 - axis
    return valid_hw.shape


def _pairs_joined(valid_hw: np.ndarray, axis: int) -> np.ndarray:
    """Half as many pixels along the axis, rounded up, each valid where one of its two is."""
    along = np.moveaxis(valid_hw, axis, 0)
    joined = along[::2].copy()
    joined[: len(along) // 2] |= along[1::2]
    return np.moveaxis(joined, 0, axis)
