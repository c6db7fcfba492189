"""Make a restored map agree with its measurement, where it is known how the measurement was made smaller.

A network only learns that the depth, made smaller, should give the measurement; somebody who made it smaller himself
(an encoder, a benchmark) can demand it. numpy only: the same for every runtime.
"""

from __future__ import annotations

import numpy as np

from depthsr.data.resample import resample_matrix

#: Errors to this power weigh where the correction goes: 2 for errors that know nothing of their neighbours, 0 for the
#: same everywhere. Neighbours' errors are alike; with `edge` on 15 training frames 1.5 was best in noise, and within
#: 1 % of the best (1) without.
POWER = 1.5
#: The share of a measurement that is noise is estimated where it is most consistent already: at this quantile of the
#: residuals, which is NOISE_QUANTILE_OF_NORMAL of a normal distribution's standard deviation.
NOISE_QUANTILE = 0.1
NOISE_QUANTILE_OF_NORMAL = 0.1257
#: Of conjugate gradients; 4 and 20 differ by 1e-4 of the RMSE.
STEPS = 6


def consistent_with(
    measured_m_hw: np.ndarray, depth_m_HW: np.ndarray, error_m_HW: np.ndarray | None, downsampling: str
) -> np.ndarray:
    """H×W float32 metres: the map nearest to `depth_m` that is consistent with the measurement.

    measured_m_hw  metres, NaN = no value.
    depth_m_HW     metres, finite.
    error_m_HW     the error expected in depth_m, metres: the correction goes where it is large. None: everywhere alike,
                   as large as the disagreement with the measurement.
    downsampling   of depthsr.data.resample.KERNELS: what makes h×w of H×W, antialiased.

    With w = error^POWER, D the downsampling, y the measurement and v = (its noise)^POWER, the correction c is the least
    of Σ c²/w + Σ (D(depth + c) - y)²/v: a Kalman update, w Dᵀ (D w Dᵀ + v)⁻¹ (y - D depth). The noise is estimated as
    a share of the measured depth; a map that is off by much nearly everywhere cannot be told from noise, and stays. A
    measurement without noise, of a map that is right somewhere, is met exactly, to the precision of STEPS.
    """
    rows = resample_matrix(depth_m_HW.shape[0], measured_m_hw.shape[0], downsampling)
    columns = resample_matrix(depth_m_HW.shape[1], measured_m_hw.shape[1], downsampling)
    valid_hw = np.isfinite(measured_m_hw)
    residual_m = np.where(valid_hw, measured_m_hw - rows @ depth_m_HW @ columns.T, 0).astype(np.float32)
    noise_m = np.where(valid_hw, measured_m_hw, 0) * _noise_share(residual_m[valid_hw], measured_m_hw[valid_hw])
    if error_m_HW is None:
        error_m_HW = np.full_like(depth_m_HW, np.sqrt(np.mean(residual_m[valid_hw] ** 2)))
    # No error is 0, or nothing could be corrected there.
    weight_HW = np.maximum(error_m_HW, np.float32(1e-6) * np.nanmax(measured_m_hw)) ** POWER
    variance_hw = (noise_m**POWER).astype(np.float32)

    # Scaled so that the diagonal is 1; pixels without a measurement become rows of zeros, whose unknowns stay 0.
    diagonal_hw = rows**2 @ weight_HW @ (columns**2).T + variance_hw
    scale_hw = np.where(valid_hw, 1 / np.sqrt(diagonal_hw), 0).astype(np.float32)

    def normal(unknown_hw: np.ndarray) -> np.ndarray:
        scaled_hw = scale_hw * unknown_hw
        spread_HW = weight_HW * (rows.T @ scaled_hw @ columns)
        return scale_hw * (rows @ spread_HW @ columns.T + variance_hw * scaled_hw)

    solution_hw = scale_hw * _conjugate_gradients(normal, scale_hw * residual_m)
    return depth_m_HW + weight_HW * (rows.T @ solution_hw @ columns)


def _noise_share(residual_m_N: np.ndarray, measured_m_N: np.ndarray) -> float:
    """Standard deviation of the measurement's noise as a share of the depth."""
    return float(np.quantile(np.abs(residual_m_N) / measured_m_N, NOISE_QUANTILE)) / NOISE_QUANTILE_OF_NORMAL


def _conjugate_gradients(matrix, right: np.ndarray) -> np.ndarray:
    """x of matrix(x) = right after STEPS steps from 0 (Hestenes and Stiefel 1952); matrix: linear, symmetric, >= 0."""
    solution = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    square = np.vdot(residual, residual)
    enough = np.finfo(np.float32).eps ** 2 * square
    for _ in range(STEPS):
        if square <= enough:
            break
        image = matrix(direction)
        length = square / np.vdot(direction, image)
        solution += length * direction
        residual -= length * image
        square, before = np.vdot(residual, residual), square
        direction = residual + square / before * direction
    return solution
