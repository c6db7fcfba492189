"""real_frames: the two real frames' files become depth as their data sets mean it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depthsr.data.layouts import open_dataset
from real_frames import aloe, main, motorcycle

SHIFT_PX = 40


@pytest.fixture
def downloads(tmp_path):
    """Pictures in the two sources' names and formats, random but for one unknown disparity each.

    In the right ones the left ones are seen 40 pixels further left.
    """
    rng = np.random.default_rng(0)
    left = rng.integers(0, 256, (24, 300, 3), np.uint8)
    disparity_px = rng.uniform(10, 60, left.shape[:2]).astype(np.float32)
    disparity_px[4, 5] = np.inf
    cv2.imwrite(str(tmp_path / "motorcycle_left.png"), left)
    np.savez(tmp_path / "motorcycle_disp.npz", disparity_px)
    levels = rng.integers(43, 211, left.shape[:2], np.uint8)
    levels[2, 3] = 0
    for name in ("motorcycle_right.png", "aloeR.jpg"):
        cv2.imwrite(str(tmp_path / name), np.roll(left, -SHIFT_PX, 1))
    cv2.imwrite(str(tmp_path / "aloeL.jpg"), left)
    cv2.imwrite(str(tmp_path / "aloeGT.png"), levels)
    return tmp_path, left, disparity_px, levels


def test_depth_is_what_the_disparity_and_the_calibration_say(downloads):
    folder, left, disparity_px, levels = downloads
    rgb, depth_m = motorcycle(folder)
    np.testing.assert_array_equal(rgb, left[..., ::-1])
    known = np.isfinite(disparity_px)
    np.testing.assert_array_equal(np.isfinite(depth_m), known)
    assert known.sum() == known.size - 1
    # disparity = focal length · baseline / depth - the distance of the principal points
    np.testing.assert_allclose(994.978 * 0.193001 / depth_m[known] - 31.086, disparity_px[known], rtol=1e-6)
    _, disparity = aloe(folder)
    assert np.isnan(disparity[2, 3])
    np.testing.assert_array_equal(np.nan_to_num(disparity), levels)


@pytest.fixture
def out(downloads, monkeypatch):
    """Where the script wrote what it makes of them."""
    folder, out = downloads[0], downloads[0] / "real"
    monkeypatch.setattr("sys.argv", ["x", "--motorcycle", str(folder), "--aloe", str(folder), "--out", str(out)])
    main()
    return out


def test_the_folders_are_read_by_eval(downloads, out):
    folder, left, _, levels = downloads
    frame = open_dataset(out / "motorcycle").read("motorcycle_0000")
    np.testing.assert_array_equal(frame.rgb, left[..., ::-1])
    np.testing.assert_allclose(frame.depth_m, motorcycle(folder)[1], rtol=1e-6)
    np.testing.assert_array_equal(np.nan_to_num(open_dataset(out / "aloe").read("aloe_0000").depth_m), levels)
    assert frame.lr is None


def test_the_stereo_folders_hold_what_is_matched(downloads, out):
    folder, _, _, levels = downloads
    frame = open_dataset(out / "motorcycle-stereo").read("motorcycle_0000")
    np.testing.assert_allclose(frame.depth_m, motorcycle(folder)[1], rtol=1e-6)
    matched = np.isfinite(frame.lr)
    assert matched[:, 100:290].mean() > 0.9
    np.testing.assert_allclose(994.978 * 0.193001 / frame.lr[matched] - 31.086, SHIFT_PX, atol=0.5)
    frame = open_dataset(out / "aloe-stereo").read("aloe_0000")
    known = levels > 0
    np.testing.assert_allclose(100 / frame.depth_m[known], levels[known], rtol=1e-6)
    matched = np.isfinite(frame.lr)
    assert matched[:, 245:290].mean() > 0.5  # JPEG
    np.testing.assert_allclose(100 / frame.lr[matched], SHIFT_PX, atol=0.5)


@pytest.mark.parametrize(("of", "name"), [("motorcycle", "motorcycle_disp.npz"), ("aloe", "aloeGT.png")])
def test_a_missing_file_is_told_in_a_sentence(tmp_path, monkeypatch, capsys, of, name):
    monkeypatch.setattr("sys.argv", ["x", f"--{of}", str(tmp_path), "--out", str(tmp_path / "real")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert (
        f"{tmp_path / name} does not exist; check the path. See --help for where to get it." in capsys.readouterr().err
    )
    assert not (tmp_path / "real").exists()
