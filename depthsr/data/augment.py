"""Random crops, flips and colour changes of an RGB-D frame. numpy only; the caller's generator draws everything."""

from __future__ import annotations

import numpy as np

#: A crop must hold this share of pixels with a depth (the sky does not count), or another one is drawn.
MINIMUM_VALID = 0.1


def random_crop(
    rgb_HW3: np.ndarray, depth_m_HW: np.ndarray, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A square of `side` pixels (the frame's own height or width where that is less)."""
    height, width = min(side, depth_m_HW.shape[0]), min(side, depth_m_HW.shape[1])
    for _ in range(10):
        top = rng.integers(depth_m_HW.shape[0] - height + 1)
        left = rng.integers(depth_m_HW.shape[1] - width + 1)
        window = slice(top, top + height), slice(left, left + width)
        if np.isfinite(depth_m_HW[window]).mean() >= MINIMUM_VALID:
            break
    return rgb_HW3[window], depth_m_HW[window]


def random_flip(rgb_HW3: np.ndarray, depth_m_HW: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left to right, half of the time. Not upside down: the ground being below is worth knowing."""
    if rng.random() < 0.5:
        return rgb_HW3[:, ::-1], depth_m_HW[:, ::-1]
    return rgb_HW3, depth_m_HW


def random_colour(rgb_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 -> float32 [0, 1] with random gain a channel, gamma, saturation, now and then grey or noisy."""
    rgb = rgb_HW3.astype(np.float32) / 255
    rgb = rgb ** np.float32(np.exp(rng.uniform(-0.35, 0.35)))
    rgb = rgb * np.exp(rng.uniform(-0.3, 0.3) + rng.uniform(-0.1, 0.1, 3)).astype(np.float32)
    grey = rgb.mean(2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.6, 1.4)
    rgb = grey + np.float32(saturation) * (rgb - grey)
    if rng.random() < 0.2:
        rgb = rgb + np.float32(rng.uniform(0, 0.04)) * rng.standard_normal(rgb.shape, dtype=np.float32)
    return np.clip(rgb, 0, 1)
