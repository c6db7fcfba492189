"""Shapes made of quadrilaterals: N×4×3 float64 arrays of corners in metres, in order around each, z up.

No corner is shared, so every quadrilateral is flat shaded and shapes are joined with np.concatenate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

#: Corners of the six sides of the cube [-1, 1]³: bottom, top, and round the walls.
CUBE = np.array(
    [
        [[-1, -1, -1], [-1, 1, -1], [1, 1, -1], [1, -1, -1]],
        [[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]],
        [[-1, -1, -1], [1, -1, -1], [1, -1, 1], [-1, -1, 1]],
        [[1, -1, -1], [1, 1, -1], [1, 1, 1], [1, -1, 1]],
        [[1, 1, -1], [-1, 1, -1], [-1, 1, 1], [1, 1, 1]],
        [[-1, 1, -1], [-1, -1, -1], [-1, -1, 1], [-1, 1, 1]],
    ],
    np.float64,
)


def quad(*corners_m: ArrayLike) -> np.ndarray:
    """1×4×3: one quadrilateral from its four corners."""
    return np.array([corners_m], np.float64).reshape(1, 4, 3)


def box(size_m: ArrayLike, at_m: ArrayLike = (0, 0, 0)) -> np.ndarray:
    """6×4×3: a box of size (x, y, z) that stands on the point at_m, the centre of its bottom."""
    half = np.asarray(size_m, np.float64) / 2
    return CUBE * half + np.asarray(at_m, np.float64) + [0, 0, half[2]]


def tube(points_m: ArrayLike, radius_m: ArrayLike, sides: int = 6) -> np.ndarray:
    """(K-1)·sides×4×3: an open tube along K points, of one radius or K.

    The cross-section is a regular polygon inside the circle, so nothing is thicker than 2·radius_m.
    """
    points = np.asarray(points_m, np.float64)
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    across = np.eye(3)[np.argmin(np.abs(points[-1] - points[0]))]  # the axis least along the tube: never parallel to it
    u = np.cross(tangents, across)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(tangents, u)
    angle = np.arange(sides) * (2 * np.pi / sides)
    radius = np.broadcast_to(np.asarray(radius_m, np.float64), len(points))[:, None, None]
    rings = points[:, None] + radius * (np.cos(angle)[:, None] * u[:, None] + np.sin(angle)[:, None] * v[:, None])
    after = np.roll(rings, -1, axis=1)
    return np.stack([rings[:-1], after[:-1], after[1:], rings[1:]], axis=2).reshape(-1, 4, 3)


def disc(radius_m: float, at_m: ArrayLike = (0, 0, 0), sides: int = 12) -> np.ndarray:
    """sides/2×4×3: a horizontal polygon inside a circle."""
    angle = np.arange(sides + 1) * (2 * np.pi / sides)
    rim = radius_m * np.stack([np.cos(angle), np.sin(angle), np.zeros(sides + 1)], axis=1)
    quads = np.stack([np.zeros((sides // 2, 3)), rim[:-1:2], rim[1::2], rim[2::2]], axis=1)
    return quads + np.asarray(at_m, np.float64)


def cylinder(radius_m: float, height_m: float, at_m: ArrayLike = (0, 0, 0), sides: int = 12) -> np.ndarray:
    """A standing cylinder with a lid."""
    x, y, z = np.asarray(at_m, np.float64)
    return np.concatenate(
        [tube([(x, y, z), (x, y, z + height_m)], radius_m, sides), disc(radius_m, (x, y, z + height_m), sides)]
    )


def leaves(centres_m: np.ndarray, length_m: float, rng: np.random.Generator) -> np.ndarray:
    """N×4×3: a flat rhombus at each centre, facing anywhere, length_m long and a third to two thirds as wide."""
    count = len(centres_m)
    along = rng.normal(size=(count, 3))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(along, rng.normal(size=(count, 3)))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    length = length_m * rng.uniform(0.6, 1, (count, 1)) / 2
    width = length * rng.uniform(0.33, 0.67, (count, 1))
    return centres_m[:, None] + np.stack([-length * along, -width * across, length * along, width * across], axis=1)


def terrain(heights_m: np.ndarray, side_m: float) -> np.ndarray:
    """(n-1)²×4×3: a square of ground around the origin through n×n heights."""
    axis = np.linspace(-side_m / 2, side_m / 2, len(heights_m))
    grid = np.stack([*np.meshgrid(axis, axis, indexing="ij"), heights_m], axis=2)
    return np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2).reshape(-1, 4, 3)


def moved(quads_m: np.ndarray, to_m: ArrayLike = (0, 0, 0), yaw_rad: float = 0.0) -> np.ndarray:
    """The shape turned about the vertical axis through the origin, then shifted."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return quads_m @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + np.asarray(to_m, np.float64)


def texture_coordinates(quads_m: np.ndarray) -> np.ndarray:
    """N×4×2 metres: where the corners lie in the plane of their quadrilateral, measured from the world's origin.

    Level faces take (x, y); others a horizontal axis and one up the slope. So a texture goes on across faces that are
    parallel, also from a thing to what is behind it.
    """
    normal = np.cross(quads_m[:, 2] - quads_m[:, 0], quads_m[:, 3] - quads_m[:, 1])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)  # a degenerate face shows nothing
    normal *= np.where(normal[:, 2:] < 0, -1, 1)
    level = normal[:, 2] > 0.99
    u = np.stack([-normal[:, 1], normal[:, 0], np.zeros(len(normal))], axis=1)
    u = np.where(level[:, None], [1.0, 0, 0], u / np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-30))
    v = np.cross(normal, u)
    return np.stack([np.einsum("nkc,nc->nk", quads_m, u), np.einsum("nkc,nc->nk", quads_m, v)], axis=2)
