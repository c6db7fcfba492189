"""Guided image filter (He, Sun, Tang, TPAMI 2013) with a colour guide, used as its fast form (He, Sun, arXiv 2015).

The linear coefficients are fitted where the measurements are, on the low-resolution grid, then interpolated and applied
to the full RGB. This is both faster and, on every degradation tried, more accurate than filtering a bilinearly
upsampled depth map.
"""

from __future__ import annotations

import cv2
import numpy as np

from depthsr.models.baselines.resample import fill_from_nearest, interpolate, low_resolution_guide


def guided_filter(
    rgb_HW3: np.ndarray, depth_m_hw: np.ndarray, *, radius_px: int, eps: float, guide: str = "mean"
) -> np.ndarray:
    """Depth as a locally linear function of the RGB; H×W float32 metres, within the input's range.

    radius_px   windows are (2 radius + 1)² pixels of the low-resolution depth.
    eps         regularisation, in squared units of RGB in [0, 1]: larger smooths more.
    guide       RGB of a low-resolution pixel: "mean" over its area, or the pixel at its "centre".
    """
    size = rgb_HW3.shape[:2]
    filled = fill_from_nearest(depth_m_hw)
    a, b = linear_coefficients(low_resolution_guide(rgb_HW3, filled.shape, guide), filled, radius_px, eps)
    depth_m = interpolate(b, size)
    for channel in range(3):
        depth_m += interpolate(a[..., channel], size) * rgb_HW3[..., channel]
    return np.clip(depth_m, filled.min(), filled.max())  # the linear model extrapolates at rare colours


def linear_coefficients(
    guide_HW3: np.ndarray, source_HW: np.ndarray, radius_px: int, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over all windows that hold a pixel of their a and b; H×W×3 and H×W float64.

    The guided filter's output is a·I + b (equation 21).
    """
    a, b = window_coefficients(guide_HW3, source_HW, radius_px, eps)
    return _box(a, radius_px), _box(b, radius_px)


def window_coefficients(
    guide_HW3: np.ndarray, source_HW: np.ndarray, radius_px: int, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """a = (Σ + eps U)^-1 cov(I, p) and b = mean p - a·mean I of the window around each pixel (equations 19 and 20)."""
    guide = guide_HW3.astype(np.float64)  # variances are differences of large means: float32 loses the small ones
    source = source_HW.astype(np.float64)
    mean_guide = _box(guide, radius_px)
    mean_source = _box(source, radius_px)
    covariance = _box(guide * source[..., None], radius_px) - mean_guide * mean_source[..., None]

    sigma = np.empty((*source.shape, 3, 3))
    for i in range(3):
        sigma[..., i, :] = _box(guide[..., i, None] * guide, radius_px) - mean_guide[..., i, None] * mean_guide
    sigma += eps * np.eye(3)
    a = np.linalg.solve(sigma, covariance[..., None])[..., 0]
    return a, mean_source - (a * mean_guide).sum(-1)


def _box(values: np.ndarray, radius_px: int) -> np.ndarray:
    side = 2 * radius_px + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)
