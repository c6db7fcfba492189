"""Matching: second views against geometry, and that matching two views gives back the depth they were made of."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from depthsr.data.matching import SEMI_GLOBAL_MODES, Matcher, match, matched_stereo, random_matcher, second_view
from depthsr.data.stereo import StereoCamera, disparity_of_1m_px, random_camera_pair

CAMERA = StereoCamera(nearest_px=20, least_px=1)
#: Both pictures alike.
FAITHFUL = Matcher(range_px=32, noise=0.0)


def picture(height=64, width=160, seed=0) -> np.ndarray:
    """uint8 RGB with texture everywhere."""
    noise = np.random.default_rng(seed).random((height, width, 3), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.0)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def plate(height=64, width=160) -> np.ndarray:
    """A plate in columns 80 to 119, 2 m away, in front of a wall at 8 m: disparities of 20 and 5."""
    depth_m = np.full((height, width), 8.0, np.float32)
    depth_m[:, 80:120] = 2.0
    return depth_m


def test_a_second_view_is_the_first_one_moved_by_the_disparity():
    rgb = picture().astype(np.float32)
    np.testing.assert_allclose(second_view(rgb, np.full((64, 160), 7, np.float32))[:, :-7], rgb[:, 7:], atol=1e-3)
    raised = second_view(rgb, np.zeros((64, 160), np.float32), raised_px=1.0)
    np.testing.assert_allclose(raised[:-1], rgb[1:], atol=1e-3)


def test_what_is_near_hides_what_is_behind_and_uncovers_what_the_first_view_does_not_show():
    rgb = picture().astype(np.float32)
    second = second_view(rgb, np.where(plate() < 4, 20, 5).astype(np.float32))
    np.testing.assert_allclose(second[:, 60:100], rgb[:, 80:120], atol=1e-3)  # the plate, whole
    np.testing.assert_allclose(second[:, :60], rgb[:, 5:65], atol=1e-3)  # the wall to its left; 65 to 79 are hidden
    np.testing.assert_allclose(second[:, 115:150], rgb[:, 120:155], atol=1e-3)  # and to its right
    np.testing.assert_array_equal(second[:, 100:115], np.rot90(rgb, 2)[:, 100:115])  # what nobody knows


def test_a_surface_that_turns_away_has_no_cracks():
    rgb = np.repeat(np.linspace(0, 1, 160, dtype=np.float32)[None, :, None], 3, 2) * np.ones((8, 1, 1), np.float32)
    disparity = np.linspace(40, 5, 160, dtype=np.float32)[None] * np.ones((8, 1), np.float32)
    places = np.arange(160) - disparity[0]
    second = second_view(rgb, disparity)
    inside = np.arange(0, int(places[-1]))
    expected = np.interp(inside, places, rgb[0, :, 0])
    np.testing.assert_allclose(second[3, inside, 0], expected, atol=0.5 / 159)


@pytest.mark.parametrize("mode", [*SEMI_GLOBAL_MODES, None])
@pytest.mark.parametrize("mirrored", [False, True])
def test_matching_finds_the_depth(mode, mirrored):
    matcher = replace(FAITHFUL, mode=mode, block_px=9 if mode is None else 5)
    camera = replace(CAMERA, mirrored=mirrored)
    depth_m = plate()[:, :: -1 if mirrored else 1]
    rgb = picture()[:, :: -1 if mirrored else 1]  # strides below zero, as of a flipped frame
    found_m = matched_stereo(rgb, depth_m, depth_m.shape, camera, matcher, np.random.default_rng(0))
    found_m = found_m[12:-12, :: -1 if mirrored else 1]
    for part, exact_m, exact_px in ((found_m[:, 34:60], 8.0, 5), (found_m[:, 86:114], 2.0, 20)):
        assert np.isfinite(part).mean() > 0.95
        np.testing.assert_allclose(np.nanmedian(part), exact_m, rtol=1 / 16 / exact_px)


def test_what_only_one_camera_sees_is_mostly_without_a_value():
    depth_m = plate()
    found_m = matched_stereo(picture(), depth_m, depth_m.shape, CAMERA, FAITHFUL, np.random.default_rng(0))
    assert np.isnan(found_m[:, :20]).all()  # left of the second camera's frame
    assert np.isnan(found_m[12:-12, 67:76]).mean() > 0.7  # the plate's shadow, 65 to 79


def test_without_texture_nothing_is_found_but_what_a_projector_shows():
    depth_m = plate()
    grey = np.full((64, 160, 3), 128, np.uint8)
    found = [
        np.isfinite(matched_stereo(grey, depth_m, (64, 160), CAMERA, matcher, np.random.default_rng(0)))[12:-12, 34:114]
        for matcher in (replace(FAITHFUL, mode=None, block_px=9), replace(FAITHFUL, mode=None, block_px=9, dots=0.3))
    ]
    assert found[0].mean() < 0.05
    assert found[1].mean() > 0.7


def test_what_is_too_far_or_unknown_has_no_value():
    depth_m = plate()
    depth_m[:20] = np.nan
    found_m = matched_stereo(
        picture(), depth_m, (32, 80), replace(CAMERA, least_px=6), FAITHFUL, np.random.default_rng(0)
    )
    assert found_m.shape == (32, 80)
    assert np.nanmax(found_m) <= disparity_of_1m_px(depth_m, CAMERA) / 6  # the wall has a disparity of 5
    sky = np.full((64, 160), np.nan, np.float32)
    assert np.isnan(matched_stereo(picture(), sky, (8, 8), CAMERA, FAITHFUL, np.random.default_rng(0))).all()


def test_disparities_are_steps_of_a_sixteenth():
    first, second = picture(), np.roll(picture(), -7, 1)
    found = match(first, second, FAITHFUL)
    np.testing.assert_array_equal(found[np.isfinite(found)] * 16 % 1, 0)
    assert np.nanmedian(found) == 7


@pytest.mark.parametrize("mode", [cv2.STEREO_SGBM_MODE_HH, None])
def test_no_disparity_is_less_than_the_first_that_is_looked_at(mode):
    matcher = replace(FAITHFUL, mode=mode, block_px=9, least_px=10)
    first = picture()
    for px, found in ((7, False), (17, True)):
        disparity = match(first, np.roll(first, -px, 1), matcher)[12:-12, 60:-30]
        assert (np.mean(np.abs(disparity - px) <= 1 / 8) > 0.9) == found
        assert not (disparity <= 10).any()


@pytest.mark.parametrize("mode", [cv2.STEREO_SGBM_MODE_HH, None])
def test_the_first_columns_have_no_value_nor_has_a_picture_of_nothing_else(mode):
    matcher = replace(FAITHFUL, mode=mode, block_px=9)
    first = picture()
    assert np.isnan(match(first, first, matcher)[:, :32]).all()
    for width in (16, 32, 37, 41):
        narrow = first[:, :width].copy()
        assert np.isnan(match(narrow, narrow, matcher)).all()


def test_where_nothing_matches_there_is_no_disparity():
    left, right = np.random.default_rng(1).integers(0, 256, (2, 24, 120, 3), np.uint8)
    assert np.isnan(match(left, right, Matcher(range_px=32))).mean() > 0.9


def test_a_seed_decides_everything_and_the_matchers_of_training_differ():
    rng = np.random.default_rng(3)
    camera = replace(random_camera_pair(160, rng), nearest_px=30)
    matchers = [random_matcher(camera, rng) for _ in range(60)]
    assert {matcher.mode for matcher in matchers} == {*SEMI_GLOBAL_MODES, None}
    assert len({matcher.range_px for matcher in matchers}) > 1
    assert all(matcher.range_px >= camera.nearest_px for matcher in matchers)
    for matcher in matchers[:8]:
        once, again = (
            matched_stereo(picture(), plate(), (32, 80), camera, matcher, np.random.default_rng(5)) for _ in range(2)
        )
        assert once.dtype == np.float32
        np.testing.assert_array_equal(once, again)
