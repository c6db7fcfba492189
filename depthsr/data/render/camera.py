"""A pinhole camera, and random ones in a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from depthsr.data.render.scene import Scene

FIELD_OF_VIEW_DEG = (50.0, 90.0)

#: A view is taken when nothing is nearer than this, sky is at most this share, and so many horizontal neighbours in the
#: probe differ by a tenth in depth: something stands before something.
NEAREST_M, LARGEST_SKY, LEAST_EDGES = 0.3, 0.6, 0.06
PROBE_SIZE = (64, 48)
TRIES = 500


@dataclass(frozen=True, eq=False)
class Camera:
    """position_m: 3. axes: 3×3, rows = the image's right, its down, the optical axis; orthonormal. Square pixels."""

    position_m: np.ndarray
    axes: np.ndarray
    field_of_view_deg: float
    width: int
    height: int

    def rays(self) -> np.ndarray:
        """H×W×3 through the pixels' centres, one metre long along the optical axis: position_m + depth_m · ray."""
        half = np.tan(np.radians(self.field_of_view_deg) / 2)
        x = ((np.arange(self.width) + 0.5) / self.width * 2 - 1) * half
        y = ((np.arange(self.height) + 0.5) * 2 - self.height) / self.width * half
        return x[None, :, None] * self.axes[0] + y[:, None, None] * self.axes[1] + self.axes[2]

    def resized(self, width: int, height: int) -> Camera:
        """The same view in other pixels."""
        return Camera(self.position_m, self.axes, self.field_of_view_deg, width, height)


def looking(
    position_m: np.ndarray, at_m: np.ndarray, field_of_view_deg: float, width: int, height: int, roll_rad: float = 0.0
) -> Camera:
    """A camera that looks at a point, level but for the roll. The horizontal field of view is given."""
    forward = np.asarray(at_m, np.float64) - position_m
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    axes = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
    return Camera(np.asarray(position_m, np.float64), axes, field_of_view_deg, width, height)


def random_camera(
    scene: Scene, width: int, height: int, rng: np.random.Generator, depth_m: Callable[[Camera], np.ndarray]
) -> Camera:
    """A camera that stands in the scene's box and sees something; depth_m renders a probe (inf = sky)."""
    for _ in range(TRIES):
        position, target = rng.uniform(*scene.stand_m), rng.uniform(*scene.look_m)
        x, y, radius = scene.obstacles_m.T
        if np.linalg.norm((target - position)[:2]) < 0.5 or (np.hypot(x - position[0], y - position[1]) < radius).any():
            continue
        camera = looking(position, target, rng.uniform(*FIELD_OF_VIEW_DEG), width, height, rng.normal(0, 0.03))
        if _sees_enough(depth_m(camera.resized(*PROBE_SIZE))):
            return camera
    raise RuntimeError(f"no view of a scene of kind {scene.kind} in {TRIES} tries")


def _sees_enough(depth_m: np.ndarray) -> bool:
    seen = depth_m[np.isfinite(depth_m)]
    if len(seen) < (1 - LARGEST_SKY) * depth_m.size or seen.min() < NEAREST_M:
        return False
    left, right = depth_m[:, :-1], depth_m[:, 1:]
    return (np.maximum(left, right) > 1.1 * np.minimum(left, right)).mean() >= LEAST_EDGES
