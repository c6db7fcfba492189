"""Sparse depth: its laws, and the coarser grid it is gathered on."""

from __future__ import annotations

import numpy as np
import pytest

from depthsr.data.sparse import FILLED, FINE_PX, KEPT, LEAST_SIDE_PX, gathered, scan_lines, single_points


def depths(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 50, shape).astype(np.float32)


def sparse(shape, share, seed=0) -> np.ndarray:
    depth_m = depths(shape, seed)
    depth_m[np.random.default_rng(seed + 1).random(shape) >= share] = np.nan
    return depth_m


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (4, 2), (1, 4), (8, 8), (16, 1), (24, 24)])
def test_a_regular_grid_of_points_is_gathered_on_a_grid_no_coarser_than_needed(rows, columns):
    """Up to FINE_PX apart it becomes a map without holes; farther apart points keep their places to half of that."""
    low_m = depths((12, 20))
    sparse_m = np.full((12 * rows, 20 * columns), np.nan, np.float32)
    sparse_m[rows // 2 :: rows, columns // 2 :: columns] = low_m
    grid_m = gathered(sparse_m)
    valid = np.isfinite(grid_m)
    np.testing.assert_array_equal(grid_m[valid].reshape(low_m.shape), low_m)
    if max(rows, columns) <= FINE_PX:
        assert valid.all()
    elif rows * columns <= FINE_PX**2 / FILLED:  # so full that no pixel need be larger
        assert grid_m.shape == (sparse_m.shape[0] // min(rows, FINE_PX), sparse_m.shape[1] // min(columns, FINE_PX))
    else:
        assert FILLED <= valid.mean() < 2 * FILLED


@pytest.mark.parametrize("hole_share", [0, 0.1, 0.5, 0.7])
@pytest.mark.parametrize("shape", [(40, 60), (33, 57)])
def test_a_dense_map_stays_as_it_is_whatever_holes_it_has(hole_share, shape):
    depth_m = depths(shape)
    depth_m[: int(hole_share * shape[0])] = np.nan
    assert gathered(depth_m) is depth_m


@pytest.mark.parametrize("share", [0.003, 0.02, 0.1])
@pytest.mark.parametrize("shape", [(96, 128), (97, 131), (200, 61)])
def test_of_the_values_in_a_pixel_of_the_grid_the_one_nearest_its_centre_stays(share, shape):
    sparse_m = sparse(shape, share)
    grid_m = gathered(sparse_m)
    size = grid_m.shape
    assert size < shape
    expected_m = np.full(size, np.nan, np.float32)
    least = np.full(size, np.inf)
    for y, x in np.argwhere(np.isfinite(sparse_m)):
        place = (y + 0.5) * size[0] / shape[0], (x + 0.5) * size[1] / shape[1]
        cell = int(place[0]), int(place[1])
        # in pixels of the sparse map
        off = ((place[0] % 1 - 0.5) * shape[0] / size[0]) ** 2 + ((place[1] % 1 - 0.5) * shape[1] / size[1]) ** 2
        if off < least[cell] - 1e-9:
            least[cell], expected_m[cell] = off, sparse_m[y, x]
    np.testing.assert_array_equal(grid_m, expected_m)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
def test_hardly_a_value_is_lost(share):
    sparse_m = sparse((240, 320), share)
    values = np.isfinite(sparse_m).sum()
    grid_m = gathered(sparse_m)
    assert 0.95 * KEPT * values <= np.isfinite(grid_m).sum() <= values  # pairs are counted, shares of the view gathered
    assert np.isfinite(grid_m).mean() >= 0.9 * FILLED


def test_lines_are_gathered_along_the_columns_alone():
    depth_m = np.full((90, 64), np.nan, np.float32)
    lines_m = depths((9, 64))
    depth_m[5::10] = lines_m
    grid_m = gathered(depth_m)
    assert grid_m.shape[1] == 64
    rows = np.isfinite(grid_m).all(1)
    np.testing.assert_array_equal(grid_m[rows], lines_m)
    assert np.isnan(grid_m[~rows]).all()


def test_a_single_value_stays():
    depth_m = np.full((480, 640), np.nan, np.float32)
    depth_m[123, 456] = 7.5
    grid_m = gathered(depth_m)
    assert min(grid_m.shape) >= LEAST_SIDE_PX
    ((y, x),) = np.argwhere(np.isfinite(grid_m))
    assert grid_m[y, x] == np.float32(7.5)
    assert (y, x) == (int(123.5 * grid_m.shape[0] / 480), int(456.5 * grid_m.shape[1] / 640))


def test_single_points_are_so_many_values_of_the_map():
    depth_m = sparse((50, 70), 0.5)
    points_m = single_points(depth_m, 100, np.random.default_rng(0))
    valid = np.isfinite(points_m)
    assert valid.sum() == 100
    np.testing.assert_array_equal(points_m[valid], depth_m[valid])
    few_m = single_points(depth_m, 10**6, np.random.default_rng(0))
    np.testing.assert_array_equal(few_m, depth_m)


@pytest.mark.parametrize(("spacing_px", "step_px"), [(15, 2), (4, 1), (7.5, 5)])
def test_scan_lines_are_of_fixed_elevations(spacing_px, step_px):
    """Beams that are so many pixels apart in the middle: the tangent of their elevation is y over the distance to x."""
    shape, view_deg = (240, 321), 90.0
    depth_m = depths(shape)
    lines_m = scan_lines(depth_m, spacing_px, step_px, np.random.default_rng(3), view_deg)
    valid = np.isfinite(lines_m)
    np.testing.assert_array_equal(lines_m[valid], depth_m[valid])
    columns = np.flatnonzero(valid.any(0))
    assert (np.diff(columns) == step_px).all()
    focal_px = shape[1] / 2  # of 90 degrees
    y, x = np.nonzero(valid)
    elevation = np.arctan2(y + 0.5 - shape[0] / 2, np.hypot(x + 0.5 - shape[1] / 2, focal_px)) * focal_px / spacing_px
    # Each is within half a pixel of a beam; a pixel is 1 / spacing_px of the way from a beam to the next.
    phase = np.angle(np.exp(2j * np.pi * elevation).sum()) / (2 * np.pi)
    off = np.abs((elevation - phase + 0.5) % 1 - 0.5)
    assert off.max() <= 1 / spacing_px
    of_a_column = elevation[x == columns[len(columns) // 2]]
    np.testing.assert_allclose(np.diff(of_a_column), 1, atol=1 / spacing_px)
