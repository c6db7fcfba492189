"""The picture sheet: the right frames, and pictures that show what they say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from depthsr.evaluate import evaluate
from depthsr.io.picture import colourise, depth_range
from depthsr.sheet import PANEL_PX, choose_cases, write_sheet


def scored(*rmse: float) -> dict:
    return {"per_frame": [{"method": "edge", "rmse": list(rmse)}], "frame_names": [f"f{i}" for i in range(len(rmse))]}


def test_worst_and_median_frames() -> None:
    cases = choose_cases(scored(1.0, 5.0, 3.0, 2.0, 4.0))
    assert cases == {"f1": "worst", "f4": "worst 2", "f2": "median"}
    assert list(cases) == ["f1", "f4", "f2"]
    assert choose_cases(scored(1.0, 5.0, 3.0, 2.0)) == {"f1": "worst", "f2": "median"}
    assert choose_cases(scored(7.0)) == {"f0": "median"}


def test_a_sheet_shows_depth_and_error(tmp_path: Path) -> None:
    """One frame, 320×240 as the panels are: truth and error can be read from the file's pixels."""
    rng = np.random.default_rng(0)
    (tmp_path / "rgb").mkdir()
    (tmp_path / "depth").mkdir()
    rgb = rng.integers(0, 256, (240, PANEL_PX, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "rgb/a_1.png"), rgb)
    truth_m = cv2.GaussianBlur(rng.uniform(2, 40, (240, PANEL_PX)), (0, 0), 4).astype(np.float32)
    truth_m[:30, :50] = np.nan
    np.save(tmp_path / "depth/a_1.npy", truth_m)
    result = evaluate(tmp_path, "gdsr-x8", ["nearest", "bilinear"], baselines=False)
    assert write_sheet(tmp_path / "sheet.png", result, tmp_path) == {"a_1": "median"}

    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    columns = np.split(sheet, 5, axis=1)
    bar = sheet.shape[0] // 2 - 240
    depth_row = [column[bar : bar + 240] for column in columns]
    error_row = [column[-240:] for column in columns]
    np.testing.assert_array_equal(depth_row[0], rgb[..., ::-1])
    np.testing.assert_array_equal(depth_row[4], colourise(truth_m, depth_range(truth_m)))
    errors_m = []
    from depthsr.data.degrade import degrade
    from depthsr.models.baselines import BASELINES

    low_m = degrade(truth_m, "gdsr-x8", seed=0).depth_m
    for method in ("nearest", "bilinear"):
        errors_m.append(np.abs(BASELINES[method](rgb, low_m) - truth_m))
    white_m = max(np.nanpercentile(error, 95) for error in errors_m)
    for picture, error_m in zip(error_row[2:4], errors_m, strict=True):
        assert (picture[:30, :50] == 0).all()
        expected = 255 * np.clip(np.nan_to_num(error_m) / white_m, 0, 1)
        assert np.abs(picture - expected[..., None]).max() <= 0.51
    assert error_row[2].mean() > error_row[3].mean()
