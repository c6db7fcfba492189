"""A restored map is drawn to the points it was restored from, along surfaces, and not to their noise."""

from __future__ import annotations

import numpy as np
import pytest

from depthsr import anchoring, once
from depthsr.anchoring import anchored
from depthsr.data.sparse import kept_values, single_points
from depthsr.infer import BaselineRestorer, Predictor
from depthsr.models.baselines import BASELINES


def slope(shape: tuple[int, int]) -> np.ndarray:
    """Metres, in logarithms linear: 2 m at the bottom, some more at the top and to the right."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    return (2 * np.exp(0.1 * columns + 0.15 * (1 - rows))).astype(np.float32)


def by_definition(depth_m: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    """`anchored`, a point and a place at a time."""
    size, cells, pixels = kept_values(points_m)
    sides_px = [side / cell for side, cell in zip(depth_m.shape, size, strict=True)]
    sigma_px = anchoring.SIGMA_CELLS * np.sqrt(sides_px[0] * sides_px[1])
    anchors = []
    for cell, pixel in zip(cells, pixels, strict=True):
        place = zip(divmod(pixel, points_m.shape[1]), points_m.shape, depth_m.shape, strict=True)
        here_m = float(depth_m[tuple(int((p + 0.5) * to / side) for p, side, to in place)])
        residual = np.log(points_m.flat[pixel] / here_m)
        if abs(residual) < anchoring.LARGEST_RESIDUAL_LOG:
            anchors.append((divmod(cell, size[1]), np.log(here_m), residual))

    def said(place, log_m, without=None):
        """place in cells."""
        total, weights = 0.0, anchoring.PRIOR_WEIGHT
        for cell, other_log_m, residual in anchors:
            apart = [int(p) - c for p, c in zip(place, cell, strict=True)]
            if cell == without or max(map(abs, apart)) > anchoring.REACH_CELLS:
                continue
            off_px = np.hypot(*((p - c - 0.5) * side for p, c, side in zip(place, cell, sides_px, strict=True)))
            weight = np.exp(-((off_px / sigma_px) ** 2) / 2 - ((log_m - other_log_m) / anchoring.SIGMA_LOG) ** 2 / 2)
            total, weights = total + weight * residual, weights + weight
        return total / weights

    pairs = [(said((c[0] + 0.5, c[1] + 0.5), log_m, without=c), r) for c, log_m, r in anchors]
    share = np.clip(sum(s * r for s, r in pairs) / sum(s * s for s, _ in pairs), 0, 1)
    expected_m = np.empty(depth_m.shape)
    for y, x in np.ndindex(*depth_m.shape):
        place = [(p + 0.5) / side for p, side in zip((y, x), sides_px, strict=True)]
        expected_m[y, x] = depth_m[y, x] * np.exp(share * said(place, np.log(depth_m[y, x])))
    return expected_m


@pytest.fixture(params=["numpy", "native"])
def spread(request, monkeypatch):
    """`anchored` runs on each implementation of spread_residuals."""
    if request.param == "native":
        request.getfixturevalue("native_module")
    function = {"numpy": anchoring.spread_residuals, "native": anchoring.spread_residuals_native}[request.param]
    monkeypatch.setattr(anchoring, "_fastest_spread", lambda: function)
    return function


@pytest.mark.parametrize(("shape", "low"), [((41, 57), (41, 57)), ((48, 40), (31, 29))])
def test_it_is_what_its_definition_says(shape, low, spread):
    rng = np.random.default_rng(0)
    truth_m = slope(shape)
    truth_m[10:30, 5:25] = 0.7
    restored_m = (truth_m * np.exp(0.1 * np.sin(np.arange(shape[1]) / 9))).astype(np.float32)
    restored_m[12:16, 30:40] *= 1.5  # farther off than any residual that is heard
    rows, columns = (((np.arange(n) + 0.5) * to / n).astype(int) for n, to in zip(low, shape, strict=True))
    points_m = single_points(truth_m[np.ix_(rows, columns)], 120, rng)
    expected_m = by_definition(restored_m, points_m)
    assert np.abs(expected_m / restored_m - 1).max() > 0.03
    np.testing.assert_allclose(anchored(restored_m, points_m), expected_m, rtol=2e-6)


def test_what_is_off_everywhere_is_put_right_where_there_are_points(spread):
    truth_m = slope((96, 128))
    points_m = single_points(truth_m, 500, np.random.default_rng(1))
    restored_m = 1.04 * truth_m
    mean_error = np.abs(anchored(restored_m, points_m) / truth_m - 1).mean()
    assert mean_error < 0.04 * 0.15


def test_noise_in_the_points_is_not_taken_over(spread):
    """A twentieth of it at most in the mean: a third would be left of it if every residual were believed."""
    truth_m = slope((96, 128))
    errors = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        noise = (1 + 0.03 * rng.standard_normal(truth_m.shape)).astype(np.float32)
        points_m = single_points(truth_m, 1200, rng) * noise
        errors.append(np.abs(anchored(truth_m, points_m) / truth_m - 1).mean())
    assert np.mean(errors) < 0.03 / 20


def test_a_surface_is_not_moved_for_another_beside_it(spread):
    truth_m = slope((64, 96))
    truth_m[:, :40] = 1.0
    points_m = single_points(truth_m, 400, np.random.default_rng(3))
    restored_m = truth_m.copy()
    restored_m[:, :40] *= 1.05
    after_m = anchored(restored_m, points_m)
    np.testing.assert_allclose(after_m[:, 40:], truth_m[:, 40:], rtol=1e-5)
    assert np.abs(after_m[:, :40] - 1).mean() < 0.01


def test_a_point_that_no_other_confirms_changes_nothing(spread):
    points_m = np.full((64, 96), np.nan, np.float32)
    points_m[20, 30] = 2.5
    restored_m = slope((64, 96))
    np.testing.assert_array_equal(anchored(restored_m, points_m), restored_m)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (63, 65), (130, 17)])
@pytest.mark.parametrize("own", [True, False])
def test_the_native_kernel_equals_numpy(size, own, native_module):
    rng = np.random.default_rng(6)
    cells = tuple(1 + side // 5 for side in size)
    filled = rng.uniform(size=cells) > 0.3
    log_m = rng.choice([1.0, 1.1], cells) + 0.02 * rng.standard_normal(cells)
    residual = np.pad(np.where(filled, 0.05 * rng.standard_normal(cells), 0), 2).astype(np.float32)
    cell_log_m = np.pad(np.where(filled, log_m, 1e4), 2, constant_values=1e4).astype(np.float32)
    anchors = anchoring.Anchors(residual, cell_log_m, (1.1, 2.0))
    # every other column of a wider array: no row lies behind the one before
    log_m = (1 + 0.1 * rng.uniform(size=(size[0], 2 * size[1]))).astype(np.float32)[:, ::2]
    expected = anchoring.spread_residuals(log_m, anchors, own=own)
    got = anchoring.spread_residuals_native(log_m, anchors, own=own)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-8)


def test_the_native_kernel_refuses_what_does_not_fit(native_module):
    settings = {"sigma_cells": (1, 1), "sigma_log": 0.05, "prior_weight": 0.1, "own": True}
    map_hw, grid = np.ones((4, 6), np.float32), np.ones((5, 5), np.float32)
    for log_m, residual, cell_log_m, reach, message in [
        (map_hw[0], grid, grid, 2, "log_m must be H×W, residual h×w"),
        (map_hw, grid[0], grid, 2, "log_m must be H×W, residual h×w"),
        (map_hw, grid, map_hw, 2, "cell_log_m must have residual's shape"),
        (map_hw, grid, grid, 3, "residual must have cells beside the reach empty ones"),
    ]:
        with pytest.raises(ValueError, match=message):
            native_module.spread_residuals(log_m, residual, cell_log_m, reach, **settings)


def test_numpy_is_used_where_it_must_be_and_that_is_said_once(monkeypatch, caplog, native_module):
    monkeypatch.delenv("DEPTHSR_BACKEND", raising=False)
    assert anchoring._fastest_spread() is anchoring.spread_residuals_native
    monkeypatch.setenv("DEPTHSR_BACKEND", "reference")
    assert anchoring._fastest_spread() is anchoring.spread_residuals
    assert not caplog.records
    monkeypatch.delenv("DEPTHSR_BACKEND")
    monkeypatch.setattr(once, "_told", set())
    monkeypatch.setattr(anchoring, "why_no_module", lambda name: f"{name} is not there")
    for _ in range(2):
        assert anchoring._fastest_spread() is anchoring.spread_residuals
    assert [record.getMessage() for record in caplog.records] == [
        "numpy draws results to sparse points, which takes longer: _native is not there."
    ]


def test_a_predictor_draws_what_a_network_makes_of_points_to_them_and_nothing_else():
    class Network(BaselineRestorer):
        is_network = True

    truth_m = slope((96, 128))
    rgb = np.random.default_rng(4).integers(0, 256, (96, 128, 3), np.uint8)
    points_m = single_points(truth_m, 500, np.random.default_rng(5))
    off = Predictor("off", Network(lambda rgb, depth_m: 1.04 * truth_m))
    np.testing.assert_array_equal(off(rgb, points_m).depth_m, anchored(1.04 * truth_m, points_m))
    np.testing.assert_array_equal(off(rgb, truth_m).depth_m, 1.04 * truth_m)
    np.testing.assert_array_equal(off(rgb, points_m, max_depth_m=2.2).depth_m.max(), np.float32(2.2))
    classical = Predictor("classical", BaselineRestorer(BASELINES["nearest"]))
    np.testing.assert_array_equal(classical(rgb, points_m).depth_m, BASELINES["nearest"](rgb, points_m))
