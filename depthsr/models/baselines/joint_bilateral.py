"""Joint bilateral upsampling (Kopf, Cohen, Lischinski, Uyttendaele, SIGGRAPH 2007)."""

from __future__ import annotations

import math

import numpy as np

from depthsr.models.baselines.resample import (
    FILLED_CONFIDENCE,
    fill_from_nearest,
    has_value,
    low_resolution_guide,
    source_coordinates,
)

#: Weight left to a neighbour of a wholly different colour: where no neighbour is similar, nearness alone decides.
_COLOUR_FLOOR = 1e-6


def joint_bilateral(
    rgb_HW3: np.ndarray, depth_m_hw: np.ndarray, *, sigma_colour: float, sigma_space_px: float, guide: str = "mean"
) -> np.ndarray:
    """Mean of the measurements around a pixel, weighted by nearness and by likeness of colour; H×W float32 metres.

    S_p = Σ_q S_q f(|p - q|) g(|I_p - I_q|) / Σ_q f g, q over the low-resolution pixels, f and g Gaussian (section 3).

    sigma_colour     of the sum over channels of absolute differences of RGB in [0, 255].
    sigma_space_px   in pixels of the low-resolution depth; the window reaches 2.5 of them.
    guide            RGB of a low-resolution pixel: "mean" over its area, or the pixel at its "centre".
    """
    height, width = rgb_HW3.shape[:2]
    h, w = depth_m_hw.shape
    source = fill_from_nearest(depth_m_hw)
    confidence = np.where(has_value(depth_m_hw), np.float32(1), np.float32(FILLED_CONFIDENCE))
    rgb = _channels_first(rgb_HW3)
    guide_3hw = _channels_first(low_resolution_guide(rgb_HW3, (h, w), guide))

    y, x = source_coordinates(height, h), source_coordinates(width, w)
    radius = math.ceil(2.5 * sigma_space_px)
    total = np.zeros((height, width), np.float32)
    weights = np.zeros((height, width), np.float32)
    for dy in range(-radius, radius + 1):
        row, near_y = _neighbour(y, h, dy, sigma_space_px)
        guide_3Hw, source_Hw, confidence_Hw = guide_3hw[:, row], source[row], confidence[row]
        for dx in range(-radius, radius + 1):
            column, near_x = _neighbour(x, w, dx, sigma_space_px)
            difference = np.take(guide_3Hw, column, axis=2)
            difference -= rgb
            colour = np.abs(difference, out=difference).sum(axis=0)
            weight = np.exp(np.square(colour) * np.float32(-0.5 / sigma_colour**2))
            weight += np.float32(_COLOUR_FLOOR)
            weight *= near_y[:, None]
            weight *= near_x
            weight *= np.take(confidence_Hw, column, axis=1)
            weights += weight
            weight *= np.take(source_Hw, column, axis=1)
            total += weight
    return total / weights


def _channels_first(rgb_HW3: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(rgb_HW3, -1, 0), dtype=np.float32) * 255


def _neighbour(coordinate: np.ndarray, source_size: int, offset: int, sigma_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Index of the source pixel `offset` away from the one nearest to each coordinate, and its Gaussian weight.

    Outside the frame the weight is 0.
    """
    index = np.floor(coordinate + 0.5).astype(int) + offset
    weight = np.exp(-0.5 * ((index - coordinate) / sigma_px) ** 2)
    weight[(index < 0) | (index >= source_size)] = 0
    return np.clip(index, 0, source_size - 1), weight.astype(np.float32)
