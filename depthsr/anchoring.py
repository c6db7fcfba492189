"""What is restored from sparse depth is drawn to the points that it was restored from.

A network that is given points gathered on a coarser grid (depthsr.data.sparse) passes near them, not through them. What
it misses them by says by how much it is off around them. These residuals, in the logarithm of the depth, are spread by
a joint bilateral filter over the surface that they lie on, as far as they confirm each other: each is compared with
what its neighbours say of it. The noise of one point says nothing of the next, so it is left to the network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from depthsr import config
from depthsr.compiled import why_no_module
from depthsr.data.sparse import kept_values
from depthsr.once import warn_once

log = logging.getLogger(__name__)

Spread = Callable[..., np.ndarray]

#: A point is heard as far as so many cells of the grid that points are gathered on, with a Gaussian's weight.
REACH_CELLS = 2
SIGMA_CELLS = 1.5
#: Two depths whose logarithms are so far apart most likely lie on two surfaces.
SIGMA_LOG = 0.05
#: A result that is farther from a point took it for another surface's.
LARGEST_RESIDUAL_LOG = 0.2
#: Weight of no residual at all, beside 1 for a point at the very pixel.
PRIOR_WEIGHT = 0.1

#: Logarithm of a depth that is near no other.
_NOWHERE = np.float32(1e4)


@dataclass(frozen=True, eq=False)
class Anchors:
    """Residuals of points, one a cell of a grid over the frame, with REACH_CELLS empty cells around them.

    residual_hw  logarithm of the point less that of the result there; 0 where there is none.
    log_m_hw     logarithm of the result there; _NOWHERE where there is none.
    sigma_cells  of the Gaussian, down and across: round in the frame, however long and narrow the cells.
    """

    residual_hw: np.ndarray
    log_m_hw: np.ndarray
    sigma_cells: tuple[float, float]


def anchored(depth_m_HW: np.ndarray, points_m_hw: np.ndarray) -> np.ndarray:
    """H×W float32 metres, drawn to h×w sparse metres (NaN = no value) of the same view.

    depth_m_HW  metres above 0 that were restored from these points.
    """
    log_m_HW = np.log(depth_m_HW)
    anchors = _anchors(log_m_HW, points_m_hw)
    spread = _fastest_spread()
    confirmed = _confirmed_share(anchors, spread)
    if confirmed == 0:
        return depth_m_HW
    log_m_HW += np.float32(confirmed) * spread(log_m_HW, anchors)
    return np.exp(log_m_HW, out=log_m_HW)


def _fastest_spread() -> Spread:
    if config.backend() == "reference":
        return spread_residuals
    if reason := why_no_module("_native"):
        warn_once(log, "anchoring", "numpy draws results to sparse points, which takes longer: %s.", reason)
        return spread_residuals
    return spread_residuals_native


def _anchors(log_m_HW: np.ndarray, points_m_hw: np.ndarray) -> Anchors:
    size, cells, pixels = kept_values(points_m_hw)
    at = [
        ((place + 0.5) * to / side).astype(int)
        for place, to, side in zip(
            np.unravel_index(pixels, points_m_hw.shape), log_m_HW.shape, points_m_hw.shape, strict=True
        )
    ]
    log_m_n = log_m_HW[at[0], at[1]]
    residual_n = np.log(points_m_hw.flat[pixels]) - log_m_n
    near = np.abs(residual_n) < LARGEST_RESIDUAL_LOG
    residual_hw, log_m_hw = np.zeros(size, np.float32), np.full(size, _NOWHERE)
    residual_hw.flat[cells[near]], log_m_hw.flat[cells[near]] = residual_n[near], log_m_n[near]
    down_px, across_px = (side / cells_along for side, cells_along in zip(log_m_HW.shape, size, strict=True))
    sigma_cells = SIGMA_CELLS * (across_px / down_px) ** 0.5, SIGMA_CELLS * (down_px / across_px) ** 0.5
    return Anchors(
        np.pad(residual_hw, REACH_CELLS), np.pad(log_m_hw, REACH_CELLS, constant_values=_NOWHERE), sigma_cells
    )


def _confirmed_share(anchors: Anchors, spread: Spread) -> float:
    """How much of what is said of points by those around them is true of them: least squares, within [0, 1]."""
    inner = slice(REACH_CELLS, -REACH_CELLS)
    log_m_hw, residual_hw = anchors.log_m_hw[inner, inner], anchors.residual_hw[inner, inner]
    said_hw = spread(log_m_hw, anchors, own=False)
    there = log_m_hw != _NOWHERE
    said, true = said_hw[there].astype(np.float64), residual_hw[there].astype(np.float64)
    return float(np.clip((said @ true) / max(said @ said, np.finfo(np.float32).tiny), 0, 1))


def spread_residuals(log_m_HW: np.ndarray, anchors: Anchors, *, own: bool = True) -> np.ndarray:
    """H×W float32: the weighted mean of the residuals around each pixel, and of PRIOR_WEIGHT of none.

    log_m_HW  logarithm of the result, over the frame that the anchors' cells cover.
    own       whether the cell that a pixel lies in is heard.
    """
    total_HW, weight_HW = np.zeros(log_m_HW.shape, np.float32), np.full(log_m_HW.shape, PRIOR_WEIGHT, np.float32)
    cells = [side - 2 * REACH_CELLS for side in anchors.log_m_hw.shape]
    rows, columns = ((np.arange(n) + 0.5) * k / n for n, k in zip(log_m_HW.shape, cells, strict=True))
    row, column = rows.astype(int), columns.astype(int)
    reach = range(-REACH_CELLS, REACH_CELLS + 1)
    for down in reach:
        near_H1 = _gaussian((rows - (row + down + 0.5)) / anchors.sigma_cells[0])[:, None]
        for across in reach:
            if down == across == 0 and not own:
                continue
            cell = np.ix_(row + down + REACH_CELLS, column + across + REACH_CELLS)
            weight = _gaussian((log_m_HW - anchors.log_m_hw[cell]) / np.float32(SIGMA_LOG))
            weight *= near_H1
            weight *= _gaussian((columns - (column + across + 0.5)) / anchors.sigma_cells[1])
            weight_HW += weight
            weight *= anchors.residual_hw[cell]
            total_HW += weight
    total_HW /= weight_HW
    return total_HW


def _gaussian(x: np.ndarray) -> np.ndarray:
    return np.exp(np.float32(-0.5) * np.square(x, dtype=np.float32))


def spread_residuals_native(log_m_HW: np.ndarray, anchors: Anchors, *, own: bool = True) -> np.ndarray:
    """As `spread_residuals`, by csrc/cpu/spread_residuals.cpp. depthsr._native must be there."""
    from depthsr import _native

    return _native.spread_residuals(
        log_m_HW,
        anchors.residual_hw,
        anchors.log_m_hw,
        reach=REACH_CELLS,
        sigma_cells=anchors.sigma_cells,
        sigma_log=SIGMA_LOG,
        prior_weight=PRIOR_WEIGHT,
        own=own,
    )
