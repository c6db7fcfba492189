"""Colours of depth, checked against the published colour table and the definition of inverse depth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depthsr.io import colourise, depth_range, read_rgb, side_by_side, write_picture
from depthsr.types import UserError


def test_the_ends_are_spectral_red_and_blue_and_no_value_is_black():
    depth_m = np.array([[1.0, 4.0, np.inf], [np.nan, 0.0, -2.0]], np.float32)
    colours = colourise(depth_m, (1.0, 4.0))
    np.testing.assert_array_equal(colours[0], [(0x9E, 0x01, 0x42), (0x5E, 0x4F, 0xA2), (0x5E, 0x4F, 0xA2)])
    np.testing.assert_array_equal(colours[1], np.zeros((3, 3)))


def test_the_middle_colour_is_at_the_middle_of_inverse_depth():
    near_m, far_m = 0.7, 9.0
    middle_m = 2 / (1 / near_m + 1 / far_m)
    np.testing.assert_array_equal(colourise(np.array([[middle_m]]), (near_m, far_m))[0, 0], (0xFF, 0xFF, 0xBF))


def test_range_ignores_wild_pixels_sky_and_holes():
    depth_m = np.random.default_rng(0).uniform(2.0, 5.0, (60, 70))
    expected = np.percentile(depth_m, (2, 98))
    wild = np.concatenate([depth_m.ravel(), [1e6, 1e-6], np.full(99, np.inf), np.full(99, np.nan), np.zeros(9)])
    assert depth_range(wild) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("depth_m", [np.full((3, 4), np.nan), np.full((3, 4), np.inf), np.full((3, 4), 2.0)])
def test_degenerate_maps_have_a_picture(depth_m):
    colours = colourise(depth_m)
    assert (colours.max(axis=2) > 0).sum() == (depth_m > 0).sum()


def test_side_by_side_keeps_the_pixels_under_the_labels(tmp_path):
    random = np.random.default_rng(1)
    large = random.integers(0, 256, (48, 64, 3), np.uint8)
    small = random.integers(0, 256, (12, 16, 3), np.uint8)
    row = side_by_side({"large": large, "small": small})
    np.testing.assert_array_equal(row[-48:, :64], large)
    np.testing.assert_array_equal(row[-48:, 64:], np.kron(small, np.ones((4, 4, 1), np.uint8)))
    bars = row[:-48]
    assert bars.max() == 255
    assert (bars[:, :64] < 128).any()
    assert (bars[:, 64:] < 128).any()
    write_picture(tmp_path / "row.png", row)
    np.testing.assert_array_equal(read_rgb(tmp_path / "row.png"), row)


def test_a_large_picture_is_reduced_to_a_size_that_opens_anywhere():
    wide = np.full((1000, 2560, 3), 90, np.uint8)
    row = side_by_side({"a": wide, "b": wide})
    assert row.shape[1] == 2 * 1280
    assert (row[-500:] == 90).all()
    assert cv2.cvtColor(row[:-500], cv2.COLOR_RGB2GRAY).min() < 128


@pytest.mark.parametrize("name", ["worst", "worst.foo"])
def test_a_picture_of_no_known_format_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=rf"cannot write a picture as .*{name}; end its name with \.png"):
        write_picture(tmp_path / name, np.full((4, 6, 3), 7, np.uint8))
    assert list(tmp_path.iterdir()) == []
