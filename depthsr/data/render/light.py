"""Daylight and lamps. Every scene has LIGHTS of them, as the renderer spends one sample of a pixel on each."""

from __future__ import annotations

import numpy as np

from depthsr.data.render.scene import Lamp, Sky, Sun
from depthsr.data.render.textures import noise

LIGHTS = 8


def random_sky(rng: np.random.Generator) -> Sky:
    """Blue to grey, clear to overcast."""
    clear = rng.uniform(0, 1)
    zenith = (1 - clear) * np.array([0.35, 0.38, 0.43]) + clear * np.array([0.1, 0.2, 0.45])
    horizon = np.array([0.75, 0.8, 0.88]) * rng.uniform(0.5, 0.8)
    clouds = np.clip(0.5 * noise(rng, 256, 1.7) + rng.uniform(-0.6, 0.6), 0, 1)
    return Sky(zenith, horizon, clouds, visibility_m=10 ** rng.uniform(2.5, 3.6))


def daylight(rng: np.random.Generator) -> list[Sun | Lamp]:
    """The sun, and skylight as seven weak suns all over the sky, so that shade is darker where less sky is seen."""
    elevation, azimuth = np.radians(rng.uniform(15, 70)), rng.uniform(0, 2 * np.pi)
    strength = rng.uniform(2.5, 4.5) if rng.random() < 0.75 else rng.uniform(0, 0.6)
    warmth = np.array([1, 0.94, 0.8]) ** rng.uniform(0.3, 1.8)
    lights: list[Sun | Lamp] = [Sun(-_towards(elevation, azimuth), strength * warmth)]
    turn = rng.uniform(0, 2 * np.pi)
    count = LIGHTS - 1
    sky = np.array([0.8, 0.95, 1.2]) * rng.uniform(0.7, 1.6) * 2 / count
    for i in range(count):  # sines of the elevation in equal steps: equal parts of the hemisphere
        direction = _towards(np.arcsin((i + 0.5) / count), turn + 2.399963 * i)  # the golden angle
        lights.append(Sun(-direction, sky))
    return lights


def lamps(low_m: np.ndarray, high_m: np.ndarray, count: int, rng: np.random.Generator) -> list[Sun | Lamp]:
    """Lamps of a room between two corners: one bright below the ceiling, the others weaker, in place of what the walls
    give back."""
    size = high_m - low_m
    warmth = np.array([1, 0.88, 0.7]) ** rng.uniform(0, 1.5)
    total = 0.5 * (size[0] * size[1]) ** 0.5 * rng.uniform(2, 4)
    spots = low_m + size * np.concatenate(
        [
            rng.uniform([0.35, 0.35, 0.9], [0.65, 0.65, 0.93], (1, 3)),
            rng.uniform([0.12, 0.12, 0.4], [0.88, 0.88, 0.9], (count - 1, 3)),
        ]
    )
    shares = np.concatenate([[rng.uniform(0.25, 0.5)], rng.uniform(0.5, 1, count - 1)])
    shares[1:] *= (1 - shares[0]) / shares[1:].sum()
    return [Lamp(spot, total * share * warmth) for spot, share in zip(spots, shares, strict=True)]


def _towards(elevation_rad: float, azimuth_rad: float) -> np.ndarray:
    level = np.cos(elevation_rad)
    return np.array([level * np.cos(azimuth_rad), level * np.sin(azimuth_rad), np.sin(elevation_rad)])
