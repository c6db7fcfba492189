"""Fast global smoother (Min, Choi, Lu, Ham, Sohn, Do, IEEE TIP 2014): separable weighted least squares."""

from __future__ import annotations

import numpy as np

from depthsr.models.baselines.resample import FILLED_CONFIDENCE, bilinear, fill_from_nearest, has_value, source_pixels

_ITERATIONS = 3  # the paper's T


def fast_global_smoother(
    rgb_HW3: np.ndarray, depth_m_hw: np.ndarray, *, smoothness: float, sigma_colour: float
) -> np.ndarray:
    """The measurements, put at their pixels of the frame, spread along the RGB; H×W float32 metres.

    Sparse interpolation of section IV: smooth(confidence · depth) / smooth(confidence), with confidence 1 at the
    measurements. Between them the bilinear interpolation stands with a negligible confidence, which decides only
    where the RGB's edges shut every measurement out.

    smoothness     λ of equation 1.
    sigma_colour   σ_c, of the Euclidean distance between neighbouring RGB in [0, 255].
    """
    filled = fill_from_nearest(depth_m_hw)
    depth_m = bilinear(rgb_HW3, filled).astype(np.float64)
    confidence = np.full(depth_m.shape, FILLED_CONFIDENCE)
    at_pixels = source_pixels(rgb_HW3.shape[:2], depth_m_hw.shape)
    depth_m[at_pixels] = filled
    confidence[at_pixels] = np.where(has_value(depth_m_hw), 1.0, FILLED_CONFIDENCE)
    numerator, denominator = smooth(
        rgb_HW3 * 255, np.stack((confidence * depth_m, confidence)), smoothness, sigma_colour
    )
    return (numerator / denominator).astype(np.float32)


def smooth(guide_HW3: np.ndarray, source_KHW: np.ndarray, smoothness: float, sigma_colour: float) -> np.ndarray:
    """K images smoothed along one guide; K×H×W float64.

    Alternates rows and columns T times with λ_t = (3/2) 4^(T-t) / (4^T - 1) λ (equation 9); each line solves
    (I + λ_t A) u = f, A the Laplacian with weights exp(-|I_p - I_q| / σ_c) (equations 4 to 6).
    """
    guide = guide_HW3.astype(np.float64)
    down, across = (np.exp(-np.linalg.norm(np.diff(guide, axis=axis), axis=-1) / sigma_colour) for axis in (0, 1))
    across = np.ascontiguousarray(across.T)
    result = source_KHW.astype(np.float64)
    for t in range(1, _ITERATIONS + 1):
        smoothness_t = 1.5 * 4 ** (_ITERATIONS - t) / (4**_ITERATIONS - 1) * smoothness
        # both solves run down the first axis, whose steps are contiguous lines
        result = _solve_lines(np.ascontiguousarray(result.transpose(0, 2, 1)), across, smoothness_t)
        result = _solve_lines(np.ascontiguousarray(result.transpose(0, 2, 1)), down, smoothness_t)
    return result


def _solve_lines(right_KHW: np.ndarray, weight_hW: np.ndarray, smoothness: float) -> np.ndarray:
    """Solve (I + λA) u = f down every column by Gaussian elimination of its tridiagonal matrix (equations 7 and 8).

    weight_hW   (H - 1)×W: of the link between a pixel and the one below it.
    """
    height = right_KHW.shape[1]
    link = np.zeros((height + 1, weight_hW.shape[1]))
    link[1:-1] = smoothness * weight_hW  # link[i] joins pixel i - 1 to pixel i; the outermost are 0
    carry = np.empty_like(link[:-1])
    solution = np.empty_like(right_KHW)
    for i in range(height):
        above = link[i] * carry[i - 1] if i else 0.0
        pivot = 1 + link[i] + link[i + 1] - above
        carry[i] = link[i + 1] / pivot
        solution[:, i] = right_KHW[:, i]
        if i:
            solution[:, i] += link[i] * solution[:, i - 1]
        solution[:, i] /= pivot
    for i in range(height - 2, -1, -1):
        solution[:, i] += carry[i] * solution[:, i + 1]
    return solution
