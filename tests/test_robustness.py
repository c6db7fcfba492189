"""The robustness curves: each point is the law at that point, on the same noise, drawn as measured."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from depthsr import metrics
from depthsr.data.degrade import degrade_ais, ground_truth
from depthsr.models.baselines import BASELINES
from depthsr.robustness import SWEEPS, check_figure, draw, figure_of, measure, table
from depthsr.types import UserError


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    for name in ("a_1", "a_2", "b_1"):
        assert cv2.imwrite(str(tmp_path / f"rgb/{name}.png"), rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        depth_m = np.exp(cv2.GaussianBlur(rng.normal(3.5, 9, (48, 64)), (0, 0), 5)).astype(np.float32)
        depth_m[:6] = np.inf
        np.save(tmp_path / f"depth/{name}.npy", depth_m)
    return tmp_path


def test_every_point_is_the_law_at_that_point(pairs: Path) -> None:
    curves = measure(pairs, ["nearest", "bilinear"], baselines=False, seed=5)
    assert (curves["frames"], curves["interval"]["unit"], curves["interval"]["units"]) == (3, "frame", 3)
    assert [(sweep["varied"], sweep["method"]) for sweep in curves["sweeps"]] == [
        (varied, method) for varied in SWEEPS for method in ("nearest", "bilinear")
    ]
    for sweep in curves["sweeps"]:
        for value, measured, (low, high) in zip(sweep["values"], sweep["rmse"], sweep["ci"], strict=True):
            errors = []
            for i, name in enumerate(("a_1", "a_2", "b_1")):
                depth_m = np.load(pairs / f"depth/{name}.npy")
                poor = degrade_ais(depth_m, seed=5 + i, **{sweep["varied"]: value})
                rgb = np.zeros((48, 64, 3), np.float32)  # these two methods do not look at it
                result_m = BASELINES[sweep["method"]](rgb, poor.depth_m)
                errors.append(metrics.rmse(np.clip(result_m, 0, 300), ground_truth(depth_m, "ais")))
            assert measured == pytest.approx(np.mean(errors), rel=1e-4)
            assert low == pytest.approx(min(errors), rel=1e-4)  # three frames: one drawn thrice is in the interval
            assert high == pytest.approx(max(errors), rel=1e-4)


def test_the_challenges_own_setting_is_on_every_curve(pairs: Path) -> None:
    curves = measure(pairs, ["nearest"], baselines=False, limit=1)
    own = {"noise": 1, "dropped_bits": 4, "factor": 8}
    points = {sweep["rmse"][sweep["values"].index(own[sweep["varied"]])] for sweep in curves["sweeps"]}
    assert len(points) == 1
    assert all(bound is None for bound in curves["sweeps"][0]["ci"])


def test_table_holds_the_curves(pairs: Path) -> None:
    curves = measure(pairs, ["nearest"], baselines=False, limit=1)
    lines = table(curves).splitlines()
    assert lines[0] == "RMSE (m) on 1 frames, split all, seed 0"
    assert "| noise, times the challenge's | 0 | 1 | 2 | 4 | 8 | 16 |" in lines
    for sweep in curves["sweeps"]:
        assert "| nearest | " + " | ".join(f"{rmse:.2f}" for rmse in sweep["rmse"]) + " |" in lines


def test_figure_draws_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(1)
    sweeps = []
    for varied, (_, values) in SWEEPS.items():
        for method in ("edge", "bilinear"):
            rmse_m = rng.uniform(1, 20, len(values)).tolist()
            bounds = [[value - 0.5, value + 0.75] for value in rmse_m]
            sweeps.append({"varied": varied, "values": list(values), "method": method, "rmse": rmse_m, "ci": bounds})
    figure = figure_of({"sweeps": sweeps})
    for axes, (varied, (title, values)) in zip(figure.axes, SWEEPS.items(), strict=True):
        assert axes.get_xlabel() == title
        lines = {line.get_label(): line for line in axes.lines}
        for sweep in sweeps:
            if sweep["varied"] == varied:
                np.testing.assert_array_equal(lines[sweep["method"]].get_xdata(), values)
                np.testing.assert_array_equal(lines[sweep["method"]].get_ydata(), sweep["rmse"])
        (band,) = axes.collections  # the model's alone
        model = next(sweep for sweep in sweeps if (sweep["varied"], sweep["method"]) == (varied, "edge"))
        corners = band.get_paths()[0].vertices
        assert corners[:, 1].min() == pytest.approx(min(model["rmse"]) - 0.5)
        assert corners[:, 1].max() == pytest.approx(max(model["rmse"]) + 0.75)
    draw({"sweeps": sweeps}, tmp_path / "figure.png")
    assert cv2.imread(str(tmp_path / "figure.png")).std() > 10


def test_a_figure_that_cannot_be_written_is_told_before_the_work() -> None:
    with pytest.raises(UserError, match=r"figure\.bmp.*\.png"):
        check_figure("figure.bmp")


def test_nothing_to_score(pairs: Path) -> None:
    for name in ("a_1", "a_2", "b_1"):
        np.save(pairs / f"depth/{name}.npy", np.zeros((48, 64), np.float32))
    with pytest.raises(UserError, match="no frame with depth"):
        measure(pairs, ["nearest"], baselines=False)
