"""Putting things together: materials shared by a scene, pieces set down without overlap, surfaces joined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from depthsr.data.render import textures
from depthsr.data.render.scene import Material, Surface
from depthsr.data.render.shapes import moved

#: How often a thing takes the material of what is behind it: depth edges without an edge in colour, or in a pattern
#: that goes on across them.
CAMOUFLAGE = 0.25


class Palette:
    """The few materials of one scene, so that near and far things share them."""

    def __init__(self, rng: np.random.Generator, count: int = 9) -> None:
        self._rng = rng
        self.materials = [self._new(textures.PATTERNS[rng.integers(len(textures.PATTERNS))]) for _ in range(count)]
        self.leaf = Material(textures.foliage(rng), 1.5)
        self.metal = Material(textures.flat(rng), 1.0, roughness=rng.uniform(0.15, 0.4))

    def _new(self, pattern: Callable[[np.random.Generator], np.ndarray]) -> Material:
        roughness = self._rng.uniform(0.1, 0.5) if self._rng.random() < 0.2 else None
        return Material(pattern(self._rng), self._rng.uniform(0.4, 2.5), roughness)

    def any(self, behind: Material | None = None) -> Material:
        """One of them; sometimes the one that is behind the thing it is for."""
        if behind is not None and self._rng.random() < CAMOUFLAGE:
            return behind
        return self.materials[self._rng.integers(len(self.materials))]

    def some(self) -> list[Material]:
        return [self.any() for _ in range(3)]


class Ground:
    """A level rectangle on which pieces are set down, none upon another."""

    def __init__(self, low_m: ArrayLike, high_m: ArrayLike) -> None:
        self._low, self._high = np.asarray(low_m, np.float64), np.asarray(high_m, np.float64)
        self._taken: list[tuple[float, float, float]] = []

    def take(self, x_m: float, y_m: float, radius_m: float) -> None:
        self._taken.append((float(x_m), float(y_m), float(radius_m)))

    def put(self, surfaces: list[Surface], rng: np.random.Generator, yaw_rad: float | None = None) -> list[Surface]:
        """The piece somewhere free, turned anyhow unless told; nothing when thirty places were all taken."""
        reach = max(np.hypot(*surface.quads_m[..., :2].reshape(-1, 2).T).max() for surface in surfaces)
        turn = rng.uniform(0, 2 * np.pi) if yaw_rad is None else yaw_rad
        low, high = self._low + reach, self._high - reach
        if (low >= high).any():
            return []
        for _ in range(30):
            x, y = rng.uniform(low, high)
            if all(np.hypot(x - a, y - b) > reach + r for a, b, r in self._taken):
                self.take(x, y, reach)
                return placed(surfaces, (x, y, 0), turn)
        return []

    def obstacles(self) -> np.ndarray:
        """N×3: x, y, radius of what was taken, for Scene."""
        return np.array(self._taken, np.float64).reshape(-1, 3)


def placed(surfaces: list[Surface], to_m: tuple[float, float, float], yaw_rad: float = 0.0) -> list[Surface]:
    return [Surface(moved(surface.quads_m, to_m, yaw_rad), surface.material) for surface in surfaces]


def joined(surfaces: list[Surface]) -> list[Surface]:
    """One surface a material, in the order of their first use."""
    by_material: dict[int, list[Surface]] = {}
    for surface in surfaces:
        by_material.setdefault(id(surface.material), []).append(surface)
    return [Surface(np.concatenate([s.quads_m for s in same]), same[0].material) for same in by_material.values()]
