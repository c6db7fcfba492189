"""Stereo's law against geometry: who sees what, where errors are and how large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depthsr.data.stereo import SLANT_PX, StereoCamera, fattened, random_camera_pair, reach_m, shadows, stereo

#: Measures exactly.
IDEAL = StereoCamera(
    nearest_px=20, window_px=1, noise_px=0, step_px=1e-4, untextured=0, mismatched=0, margin_px=0, least_px=0.1
)


def plate(height=40, width=160, near_m=2.0, far_m=8.0) -> np.ndarray:
    """A plate in columns 80 to 119, in front of a wall."""
    depth_m = np.full((height, width), far_m, np.float32)
    depth_m[:, 80:120] = near_m
    return depth_m


def hills(height=48, width=96, seed=0) -> np.ndarray:
    """Depths of 2 to 6 m that change slowly."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    phase = np.random.default_rng(seed).uniform(0, 6, 2)
    return (4 + np.sin(x / 19 + phase[0]) + np.sin(y / 13 + phase[1])).astype(np.float32)


def test_the_shadow_is_as_wide_as_the_difference_of_disparities():
    depth_m = plate()  # disparities of 20 and 5: the plate hides 15 columns of the wall, on its left
    measured_m = stereo(depth_m, depth_m.shape, IDEAL, np.random.default_rng(0))
    lost = np.flatnonzero(np.isnan(measured_m[7]))
    beside, border = lost[lost >= 40], lost[lost < 40]
    np.testing.assert_array_equal(border, np.arange(5))  # left of the second camera's frame
    assert beside.max() == 79
    assert 0 <= 15 - len(beside) <= 1 + SLANT_PX
    np.testing.assert_array_equal(np.isnan(measured_m), np.tile(np.isnan(measured_m[7]), (40, 1)))


def test_shadows_are_what_a_search_of_every_pair_of_columns_finds():
    rng = np.random.default_rng(1)
    disparity = np.repeat(rng.uniform(1, 30, (6, 20)), 4, 1).astype(np.float32)
    expected = np.zeros(disparity.shape, bool)
    for row in range(disparity.shape[0]):
        for x in range(disparity.shape[1]):
            place = x - disparity[row, x]
            hides = [x2 - disparity[row, x2] < place - 1 for x2 in range(x + 1, disparity.shape[1])]
            expected[row, x] = any(hides) or place < 0
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(shadows(disparity), expected)


def test_what_changes_slowly_casts_no_shadow():
    disparity = np.cumsum(np.random.default_rng(2).uniform(-0.9, 0.9, (20, 80)), 1).astype(np.float32) + 60
    assert not shadows(disparity)[:, 80:].any()
    assert not shadows(disparity - disparity.max() - 1).any()  # nothing is left of the frame


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_ideal_camera_measures_what_both_see(mirrored):
    depth_m = hills()
    measured_m = stereo(depth_m, depth_m.shape, replace(IDEAL, mirrored=mirrored), np.random.default_rng(0))
    seen = np.isfinite(measured_m)
    assert seen[:, :: -1 if mirrored else 1][:, 25:].all()
    np.testing.assert_allclose(measured_m[seen], depth_m[seen], rtol=1e-4)


def test_the_other_camera_on_the_other_side_sees_the_mirror_image():
    depth_m = np.where(np.random.default_rng(5).random((48, 96)) < 0.02, np.nan, hills())
    camera = StereoCamera(nearest_px=20)
    left_m = stereo(depth_m, depth_m.shape, camera, np.random.default_rng(3))
    right_m = stereo(depth_m[:, ::-1], depth_m.shape, replace(camera, mirrored=True), np.random.default_rng(3))
    np.testing.assert_array_equal(right_m[:, ::-1], left_m)


def test_errors_grow_with_the_square_of_the_depth():
    noise_px = 0.1
    spread_m = {}
    for far_m in (4.0, 8.0):
        depth_m = np.full((120, 160), far_m, np.float32)
        depth_m[:, 120:] = 2.0  # the nearest, with a disparity of 20 px
        camera = replace(IDEAL, noise_px=noise_px)
        measured_m = stereo(depth_m, depth_m.shape, camera, np.random.default_rng(4))[:, 30:60]
        spread_m[far_m] = np.std(measured_m)
        # depth = 40 / disparity, so that it changes by depth² / 40 a pixel
        assert spread_m[far_m] == pytest.approx(far_m**2 / 40 * noise_px, rel=0.2)
    assert 3 < spread_m[8.0] / spread_m[4.0] < 5


def test_steps_are_of_disparity():
    depth_m = hills()
    measured_m = stereo(depth_m, depth_m.shape, replace(IDEAL, step_px=0.25), np.random.default_rng(0))
    of_1m = 20 * np.quantile(depth_m, 0.02)
    steps = of_1m / measured_m[np.isfinite(measured_m)] / 0.25
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    exact = of_1m / depth_m[np.isfinite(measured_m)] / 0.25
    assert np.abs(steps - exact).max() <= 0.501


def test_windows_add_half_of_themselves_to_what_is_near():
    depth_m = plate()
    fat = fattened(40 / depth_m, 7)
    np.testing.assert_array_equal(np.flatnonzero(fat[5] == 20), np.arange(77, 123))
    np.testing.assert_array_equal(fattened(40 / depth_m, 1), 40 / depth_m)


def test_a_slanted_surface_is_measured_where_it_is():
    """A ground plane: without noise what is measured is nowhere off by more than the rounding to steps."""
    disparity_px = np.linspace(5, 40, 240, dtype=np.float32)[:, None].repeat(200, 1)  # 0.15 a row
    np.testing.assert_array_equal(fattened(disparity_px, 9), disparity_px)
    depth_m = 100 / disparity_px
    camera = replace(IDEAL, nearest_px=float(100 / np.quantile(depth_m, 0.02)), window_px=9)
    measured_m = stereo(depth_m, depth_m.shape, camera, np.random.default_rng(0))
    seen = np.isfinite(measured_m)
    np.testing.assert_allclose(measured_m[seen], depth_m[seen], rtol=1e-4)


@pytest.mark.parametrize("margin_px", [0, 2])
def test_holes_are_as_many_as_are_asked_for_and_grow_by_the_margin(margin_px):
    depth_m = np.full((100, 200), 5, np.float32)
    camera = replace(IDEAL, nearest_px=1, untextured=0.3, margin_px=margin_px)
    hole = np.isnan(stereo(depth_m, depth_m.shape, camera, np.random.default_rng(6)))
    if margin_px == 0:
        assert hole[:, 1:].mean() == pytest.approx(0.3, abs=0.01)
    else:
        bare = np.isnan(stereo(depth_m, depth_m.shape, replace(camera, margin_px=0), np.random.default_rng(6)))
        near_a_hole = np.zeros_like(bare)
        for down in range(-2, 3):
            for right in range(-2, 3):
                moved = np.pad(bare, 2)[2 + down : 102 + down, 2 + right : 202 + right]
                near_a_hole |= moved
        np.testing.assert_array_equal(hole, near_a_hole)


def test_what_is_too_far_or_unknown_has_no_value():
    depth_m = plate(far_m=80)  # a disparity of 0.5
    depth_m[:10] = np.nan
    camera = replace(IDEAL, least_px=0.6)
    assert reach_m(depth_m, camera) == pytest.approx(20 / 0.6 * 2)
    measured_m = stereo(depth_m, depth_m.shape, camera, np.random.default_rng(0))
    assert np.isnan(measured_m[:10]).all()
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(measured_m[20])), np.arange(80, 120))
    nothing = stereo(np.full((8, 9), np.nan, np.float32), (4, 3), IDEAL, np.random.default_rng(0))
    assert nothing.shape == (4, 3)
    assert reach_m(np.full((8, 9), np.nan), IDEAL) == 0
    assert np.isnan(nothing).all()


def test_mismatches_are_depths_of_elsewhere():
    depth_m = plate(far_m=4.0)
    depth_m[:, :40] = 3.0
    measured_m = stereo(depth_m, depth_m.shape, replace(IDEAL, mismatched=0.2), np.random.default_rng(7))
    seen = np.isfinite(measured_m)
    wrong = np.abs(measured_m - depth_m)[seen] > 0.01
    assert 0.02 < wrong.mean() < 0.25
    found = measured_m[seen][wrong]
    assert (np.abs(found[:, None] - [2, 3, 4]).min(1) < 1e-3).all()


def test_the_cameras_of_training_differ_and_measure_something():
    cameras = [random_camera_pair(192, np.random.default_rng(seed)) for seed in range(60)]
    assert len({camera.window_px for camera in cameras}) == 5
    assert len({camera.mirrored for camera in cameras}) == 2
    assert 6 <= min(camera.nearest_px for camera in cameras) < 8
    assert 30 < max(camera.nearest_px for camera in cameras) < 0.2 * 192
    for seed, camera in enumerate(cameras):
        measured_m = stereo(hills(96, 96, seed), (48, 48), camera, np.random.default_rng(seed))
        seen = np.isfinite(measured_m)
        assert measured_m.dtype == np.float32
        assert seen.mean() > 0.05
        assert (measured_m[seen] > 0).all()
