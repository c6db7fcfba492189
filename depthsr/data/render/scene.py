"""What a scene is, for any renderer: surfaces, lights, sky, and where a camera may stand. Metres, z up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Material:
    """A repeating texture.

    texture_HW3   linear reflectance in [0, 1], float32.
    size_m        what one repeat of it spans.
    roughness     None: matt. Else of a varnish on it, in (0, 1].
    """

    texture_HW3: np.ndarray
    size_m: float = 1.0
    roughness: float | None = None


@dataclass(frozen=True, eq=False)
class Surface:
    """Quadrilaterals (N×4×3 corners in metres) of one material, seen from both sides."""

    quads_m: np.ndarray
    material: Material


@dataclass(frozen=True, eq=False)
class Sun:
    """Parallel light. direction: 3, the way it travels; irradiance: RGB on a surface that faces it."""

    direction: np.ndarray
    irradiance: np.ndarray


@dataclass(frozen=True, eq=False)
class Lamp:
    """Light from a point. intensity: RGB, irradiance at a distance of one metre."""

    position_m: np.ndarray
    intensity: np.ndarray


@dataclass(frozen=True, eq=False)
class Sky:
    """What is seen where nothing is: a gradient with clouds, and the haze of far things.

    zenith, horizon   RGB radiance.
    clouds_SS         cover in [0, 1], repeating; seen on a level plane overhead.
    visibility_m      distance at which haze hides 63 % of a surface's contrast; inf: none.
    """

    zenith: np.ndarray
    horizon: np.ndarray
    clouds_SS: np.ndarray
    visibility_m: float = np.inf

    def radiance(self, directions_HW3: np.ndarray) -> np.ndarray:
        """H×W×3 RGB radiance along directions, which may be of any length."""
        unit = directions_HW3 / np.linalg.norm(directions_HW3, axis=2, keepdims=True)
        up = np.clip(unit[..., 2:], 0, 1)
        clear = self.horizon + (self.zenith - self.horizon) * up**0.5
        side = len(self.clouds_SS)
        cell = (unit[..., :2] / (up + 0.15) * (side / 4)).astype(int) % side
        cover = self.clouds_SS[cell[..., 0], cell[..., 1], None] * np.minimum(4 * up, 1)
        return clear + (1.1 * self.horizon.max() - clear) * cover


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that is rendered, and where cameras may be.

    stand_m, look_m   low and high corner of the boxes in which cameras stand and at which they look.
    obstacles_m       N×3: x, y and radius of circles on the ground in which none stands.
    """

    kind: str
    surfaces: list[Surface]
    lights: list[Sun | Lamp]
    sky: Sky
    stand_m: tuple[np.ndarray, np.ndarray]
    look_m: tuple[np.ndarray, np.ndarray]
    obstacles_m: np.ndarray
