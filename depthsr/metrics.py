"""How far a depth map is from the truth. numpy; metres; pixels where the truth is NaN are not scored.

Every metric takes `depth_m` (H×W, finite where scored) and `truth_m` (H×W, positive or NaN) and gives one number for
one frame, NaN where it is not defined (nothing scored, no edges). p = prediction, t = truth, N = scored pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

#: A pixel lies on a surface, away from edges, when the truth of its 3×3 neighbourhood spans less than this share of it.
FLAT_SPAN = 0.02
#: Neighbours are on two sides of a depth edge when they differ by more than this share of the nearer one.
EDGE_STEP = 0.1
#: Pixels within this (Chebyshev) distance of a pixel at a depth edge count for edge_rmse.
EDGE_RADIUS_PX = 2
#: Ratios at which boundary_f1 looks for boundaries: 5 % to 25 % in ten steps (Depth Pro, section 3.4).
BOUNDARY_RATIOS = np.linspace(1.05, 1.25, 10)
#: Papers on guided depth super-resolution leave out this many pixels at each side of the frame.
BORDER_PX = 6


def rmse(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Root mean square error, √(Σ (p - t)² / N), metres."""
    return float(np.sqrt(_mean(np.square(_error(depth_m, truth_m)))))


def mae(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean absolute error, Σ |p - t| / N, metres."""
    return _mean(np.abs(_error(depth_m, truth_m)))


def abs_rel(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean absolute relative error, Σ (|p - t| / t) / N, no unit."""
    return _mean(np.abs(_error(depth_m, truth_m)) / _scored(truth_m, truth_m))


def median_rel(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Median of |p - t| / t, no unit: of a clean input, how much the usual pixel is changed."""
    relative = np.abs(_error(depth_m, truth_m)) / _scored(truth_m, truth_m)
    return float(np.median(relative)) if relative.size else float("nan")


def bias_rel(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Median of (p - t) / t on surfaces, no unit: > 0 where they come to lie too far, < 0 too near.

    On surfaces: max - min < FLAT_SPAN · t of the truth over the pixel's 3×3 neighbourhood, all of it scored.
    """
    with np.errstate(invalid="ignore"):
        flat = _over_3x3(np.maximum, truth_m) - _over_3x3(np.minimum, truth_m) < FLAT_SPAN * truth_m
    surface_m = np.where(flat, truth_m, np.nan)
    relative = _error(depth_m, surface_m) / _scored(surface_m, surface_m)
    return float(np.median(relative)) if relative.size else float("nan")


def delta1(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Share of the pixels with max(p / t, t / p) < 1.25, in [0, 1]; a prediction <= 0 is never among them."""
    depth, truth = _scored(depth_m, truth_m), _scored(truth_m, truth_m)
    return _mean((depth < 1.25 * truth) & (truth < 1.25 * depth))


def rmse_border6(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """RMSE without the outermost BORDER_PX pixels, metres. NaN for a frame of nothing but border.

    Times 100 it is the "RMSE in cm" of NYUv2 and RGB-D-D in papers on guided depth super-resolution. On maps that hold
    grey levels of disparity (Middlebury, Lu) it is in grey levels as it stands.
    """
    inside = (slice(BORDER_PX, -BORDER_PX),) * 2
    return rmse(depth_m[inside], truth_m[inside])


def rmse_by_range(depth_m: np.ndarray, truth_m: np.ndarray, limits_m: Sequence[float]) -> dict[str, float]:
    """RMSE, metres, of the pixels whose true depth lies between two neighbouring limits; named by `range_names`.

    limits_m   ascending; a range holds its lower limit and not its upper one. Without limits there are no ranges.
    """
    bounds_m = (0.0, *limits_m, np.inf) if limits_m else ()
    with np.errstate(invalid="ignore"):
        return {
            name: rmse(depth_m, np.where((truth_m >= nearest_m) & (truth_m < farthest_m), truth_m, np.nan))
            for name, (nearest_m, farthest_m) in zip(range_names(limits_m), pairwise(bounds_m), strict=True)
        }


def range_names(limits_m: Sequence[float]) -> list[str]:
    """For limits 5 and 20: rmse_under_5m, rmse_5_to_20m, rmse_from_20m. None without limits."""
    if not limits_m:
        return []
    between = [f"rmse_{a:g}_to_{b:g}m" for a, b in pairwise(limits_m)]
    return [f"rmse_under_{limits_m[0]:g}m", *between, f"rmse_from_{limits_m[-1]:g}m"]


def edge_rmse(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """RMSE, metres, over the scored pixels within EDGE_RADIUS_PX of a depth edge of the truth.

    Both pixels of a horizontal or vertical pair are at an edge when |t_i - t_j| > EDGE_STEP · min(t_i, t_j); pairs
    with an unscored pixel make no edge. "Within": in the (2 radius + 1)² square around such a pixel.
    """
    return rmse(depth_m, np.where(edge_zone(truth_m), truth_m, np.nan))


def edge_zone(truth_m: np.ndarray) -> np.ndarray:
    """H×W bool: the pixels that edge_rmse counts (see there)."""
    zone: np.ndarray = np.zeros(truth_m.shape, bool)
    for first, second in _neighbours():
        with np.errstate(invalid="ignore"):
            a, b = truth_m[first], truth_m[second]
            edge = np.abs(a - b) > EDGE_STEP * np.minimum(a, b)  # False where either is NaN
        zone[first] |= edge
        zone[second] |= edge
    for axis in (0, 1):
        padding = [(EDGE_RADIUS_PX, EDGE_RADIUS_PX) if i == axis else (0, 0) for i in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(zone, padding), 2 * EDGE_RADIUS_PX + 1, axis)
        zone = np.any(windows, axis=-1)
    return zone


def boundary_f1(depth_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Boundary F1 of Depth Pro (Bochkovskii et al. 2024, section 3.4), in [0, 1], free of scale.

    An ordered pair of 4-neighbours (i, j) is an occluding boundary at ratio r when d_j / d_i > r. Precision and recall
    compare the boundaries of prediction and truth pair by pair; F1 is averaged over BOUNDARY_RATIOS with weights
    proportional to the ratios. Ratios at which the truth has no boundary are left out.
    """
    truth_i, truth_j, depth_i, depth_j = _pairs_with_boundaries(depth_m, truth_m)
    scores, weights = [], []
    for ratio in BOUNDARY_RATIOS:
        truth, depth = truth_j > ratio * truth_i, depth_j > ratio * depth_i
        if truth.any():
            scores.append(2 * (truth & depth).sum() / (truth.sum() + depth.sum()))  # = 2PR / (P + R)
            weights.append(ratio)
    return float(np.average(scores, weights=weights)) if scores else float("nan")


def _pairs_with_boundaries(depth_m: np.ndarray, truth_m: np.ndarray) -> list[np.ndarray]:
    """truth_i, truth_j, depth_i, depth_j of the scored pairs with a boundary in either at the smallest ratio.

    The other pairs, nearly all, have none at any ratio: looking at them once and not ten times saves most of the time.
    """
    found: list[list[np.ndarray]] = [[], [], [], []]
    for first, second in _neighbours():
        for i, j in ((first, second), (second, first)):
            pair = truth_m[i], truth_m[j], depth_m[i], depth_m[j]
            with np.errstate(invalid="ignore"):
                boundary = (pair[1] > BOUNDARY_RATIOS[0] * pair[0]) | (pair[3] > BOUNDARY_RATIOS[0] * pair[2])
                chosen = boundary & np.isfinite(pair[0] + pair[1])
            for values, of in zip(found, pair, strict=True):
                values.append(of[chosen])
    return [np.concatenate(values) for values in found]


def expected_mae(error_m: np.ndarray, truth_m: np.ndarray) -> float:
    """The MAE that a method expects of itself: the mean of its error_m over the scored pixels, to be put beside `mae`.

    NaN for a method that estimates none.
    """
    return _mean(_scored(error_m, truth_m))


def ause(depth_m: np.ndarray, error_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Does `error_m` know where the depth is wrong? 0: in the true order, 1: no better than chance, more: worse.

    Area under the sparsification error (Ilg et al. 2018, "Uncertainty estimates and multi-hypotheses networks for
    optical flow", section 4.3): the MAE of the n pixels with the least expected error, less that of the n with the
    least real one, averaged over n; here divided by what it is where the order says nothing, so that it is free of
    scale. NaN for a method that estimates no error, and where one order is as good as another.
    """
    expected, real = _scored(error_m, truth_m), np.abs(_error(depth_m, truth_m))
    if np.isnan(expected).any() or not real.size:
        return float("nan")
    kept = np.arange(1, real.size + 1)
    area, least = (float((real[np.argsort(by, kind="stable")].cumsum() / kept).mean()) for by in (expected, real))
    chance = float(real.mean()) - least
    return (area - least) / chance if chance > 0 else float("nan")


METRICS = {
    metric.__name__: metric
    for metric in (rmse, mae, abs_rel, median_rel, bias_rel, delta1, edge_rmse, boundary_f1, rmse_border6)
}  # fmt: skip


def score(depth_m: np.ndarray, truth_m: np.ndarray) -> dict[str, float]:
    """Every metric of one frame. Raises ValueError for different sizes or a prediction that is not finite."""
    if depth_m.shape != truth_m.shape:
        raise ValueError(f"the prediction is of shape {depth_m.shape} and the truth of {truth_m.shape}")
    if not np.isfinite(_scored(depth_m, truth_m)).all():
        raise ValueError("the prediction is not finite where it is scored")
    return {name: metric(depth_m, truth_m) for name, metric in METRICS.items()}


def mean_over_frames(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the frames for which it is defined; NaN where it is for none."""
    frames = list(scores)
    means = {}
    for name in frames[0]:
        values = [frame[name] for frame in frames if not np.isnan(frame[name])]
        means[name] = float(np.mean(values)) if values else float("nan")
    return means


def _scored(values_HW: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    return values_HW[~np.isnan(truth_m)].astype(np.float64)


def _error(depth_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    return _scored(depth_m, truth_m) - _scored(truth_m, truth_m)


def _over_3x3(extremum: np.ufunc, values_HW: np.ndarray) -> np.ndarray:
    """np.maximum or np.minimum of each pixel's 3×3 neighbourhood; NaN where that holds one or leaves the map."""
    height, width = values_HW.shape
    padded = np.pad(values_HW, 1, constant_values=np.nan)
    columns = extremum.reduce([padded[row : row + height] for row in range(3)])
    return extremum.reduce([columns[:, column : column + width] for column in range(3)])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _neighbours() -> tuple[tuple[tuple[slice, slice], tuple[slice, slice]], ...]:
    """Index pairs of all horizontal and of all vertical neighbours of a map."""
    everything, but_last, but_first = slice(None), slice(None, -1), slice(1, None)
    return ((everything, but_last), (everything, but_first)), ((but_last, everything), (but_first, everything))
