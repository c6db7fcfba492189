"""Thin structures, which coarse depth loses first: poles, wires, fences, ladders. N×4×3 corners in metres."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from depthsr.data.render.shapes import box, tube


def wire(start_m: ArrayLike, end_m: ArrayLike, sag_m: float, radius_m: float) -> np.ndarray:
    """A wire that hangs sag_m below the straight line in its middle (a parabola). No thicker than 2·radius_m."""
    t = np.linspace(0, 1, 17)[:, None]
    points = np.asarray(start_m) * (1 - t) + np.asarray(end_m) * t - [0, 0, 1] * (4 * sag_m * t * (1 - t))
    return tube(points, radius_m, sides=5)


def lamp_post(rng: np.random.Generator) -> np.ndarray:
    """A post with an arm and a lantern."""
    height, arm = rng.uniform(3, 8), rng.uniform(0.5, 2)
    radius = rng.uniform(0.03, 0.08)
    stem = tube(
        [(0, 0, 0), (0, 0, 0.8 * height), (0, 0, height), (arm, 0, height)], radius * np.array([1.3, 1, 0.8, 0.6])
    )
    return np.concatenate([stem, box((0.5, 0.2, 0.12), (arm, 0, height - 0.12))])


def bars(length_m: float, height_m: float, spacing_m: float, radius_m: float) -> np.ndarray:
    """A railing along x from 0: upright bars between two rails, posts at both ends."""
    count = max(2, round(length_m / spacing_m) + 1)
    upright = [tube([(x, 0, 0.08), (x, 0, height_m)], radius_m, 4) for x in np.linspace(0, length_m, count)]
    rails = [tube([(0, 0, z), (length_m, 0, z)], 1.5 * radius_m, 4) for z in (0.08, height_m)]
    posts = [tube([(x, 0, 0), (x, 0, height_m)], 2 * radius_m, 6) for x in (0, length_m)]
    return np.concatenate([*upright, *rails, *posts])


def pickets(length_m: float, height_m: float, width_m: float, gap_m: float) -> np.ndarray:
    """A wooden fence along x from 0: boards with gaps before two rails, and posts."""
    boards = [box((width_m, 0.02, height_m - 0.05), (x, 0, 0.05)) for x in np.arange(0, length_m, width_m + gap_m)]
    rails = [box((length_m, 0.04, 0.08), (length_m / 2, 0.03, z * height_m)) for z in (0.25, 0.8)]
    posts = [box((0.09, 0.09, height_m), (x, 0.06, 0)) for x in np.linspace(0, length_m, max(2, int(length_m / 2) + 1))]
    return np.concatenate([*boards, *rails, *posts])


def mesh_fence(length_m: float, height_m: float, cell_m: float, radius_m: float) -> np.ndarray:
    """A fence of welded wire along x from 0, between posts."""
    upright = [tube([(x, 0, 0), (x, 0, height_m)], radius_m, 4) for x in np.arange(0, length_m, cell_m)]
    level = [tube([(0, 0, z), (length_m, 0, z)], radius_m, 4) for z in np.arange(0.05, height_m, cell_m)]
    posts = [tube([(x, 0, 0), (x, 0, height_m)], 0.03) for x in np.linspace(0, length_m, int(length_m / 2.5) + 2)]
    return np.concatenate([*upright, *level, *posts])


def ladder(rng: np.random.Generator) -> np.ndarray:
    """A ladder that leans along +x."""
    length, lean = rng.uniform(1.8, 4), rng.uniform(0.15, 0.35)
    top = np.array([length * np.sin(lean), 0, length * np.cos(lean)])
    side = np.array([0, rng.uniform(0.18, 0.25), 0])
    rungs = [tube([t * top - side, t * top + side], 0.014, 5) for t in np.arange(0.25, length - 0.1, 0.28) / length]
    stiles = [tube([sign * side, top + sign * side], 0.022, 5) for sign in (-1, 1)]
    return np.concatenate([*rungs, *stiles])


def random_fence(length_m: float, rng: np.random.Generator) -> np.ndarray:
    """Any of the fences, along x from 0."""
    kind = rng.integers(3)
    if kind == 0:
        return bars(length_m, rng.uniform(0.9, 2), rng.uniform(0.09, 0.2), rng.uniform(0.005, 0.015))
    if kind == 1:
        return pickets(length_m, rng.uniform(0.8, 1.9), rng.uniform(0.05, 0.12), rng.uniform(0.02, 0.12))
    return mesh_fence(length_m, rng.uniform(1, 2.2), rng.uniform(0.07, 0.2), rng.uniform(0.0015, 0.004))
