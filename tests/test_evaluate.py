"""Evaluation: the numbers are those of the definition, of the right frames, from the right input."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from depthsr import metrics
from depthsr.bootstrap import bootstrap
from depthsr.config import EDGE
from depthsr.data.degrade import PROTOCOLS, degrade, dequantise_ais, ground_truth
from depthsr.evaluate import evaluate
from depthsr.infer import load
from depthsr.models.baselines import BASELINES
from depthsr.types import UserError


def random_depth(rng: np.random.Generator) -> np.ndarray:
    """48×96 metres with surfaces, a sky and a few pixels without a value."""
    surface = cv2.GaussianBlur(rng.uniform(-1, 1, (48, 96)), (0, 0), 6)
    depth_m = (np.exp(12 * surface) * 20).astype(np.float32)
    depth_m[:8, :20] = np.inf
    depth_m[30:33, 40:42] = np.nan
    return depth_m


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(11)
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    for name in ("hall_1", "hall_2", "kitchen_1", "yard_1", "yard_2"):
        rgb = cv2.GaussianBlur(rng.integers(0, 256, (48, 96, 3), dtype=np.uint8), (0, 0), 2)
        assert cv2.imwrite(str(tmp_path / f"rgb/{name}.png"), rgb)
        np.save(tmp_path / f"depth/{name}.npy", random_depth(rng))
    return tmp_path


def read_pair(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    rgb = cv2.imread(str(folder / f"rgb/{name}.png"))[..., ::-1]
    return rgb.astype(np.float32) / 255, np.load(folder / f"depth/{name}.npy")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_are_those_of_the_definition(pairs: Path, protocol: str) -> None:
    result = evaluate(pairs, protocol, ["bicubic"], seed=7)
    assert (result["protocol"], result["frames"], result["split"], result["seed"]) == (protocol, 5, "all", 7)
    assert [row["method"] for row in result["rows"]] == ["bicubic", *(name for name in BASELINES if name != "bicubic")]
    expected: dict[str, list] = {name: [] for name in BASELINES}
    for i, name in enumerate(["hall_1", "hall_2", "kitchen_1", "yard_1", "yard_2"]):
        rgb, depth_m = read_pair(pairs, name)
        degraded = degrade(depth_m, protocol, seed=7 + i, rgb_HW3=np.rint(rgb * 255).astype(np.uint8))
        truth_m = ground_truth(depth_m, protocol)
        for method, baseline in BASELINES.items():
            depth = baseline(rgb, degraded.depth_m, protocol)
            expected[method].append(metrics.score(np.clip(depth, 0, degraded.max_depth_m), truth_m))
    for row in result["rows"]:
        for metric in metrics.METRICS:
            of_frames = [frame[metric] for frame in expected[row["method"]]]
            assert row[metric] == pytest.approx(np.mean(of_frames), rel=1e-4, abs=1e-9), (row["method"], metric)
        assert row["time_ms"] > 0
    assert [row["method"] for row in result["per_frame"]] == [row["method"] for row in result["rows"]]
    for row in result["per_frame"]:
        for metric in metrics.METRICS:
            of_frames = [frame[metric] for frame in expected[row["method"]]]
            assert row[metric] == pytest.approx(of_frames, rel=1e-4, abs=1e-9), (row["method"], metric)
    assert result["frame_names"] == ["hall_1", "hall_2", "kitchen_1", "yard_1", "yard_2"]
    assert result["scenes"] == ["hall", "hall", "kitchen", "yard", "yard"]
    assert (result["input"], result["unit"], result["published"]) == ("simulated", "m", [])


def test_ranges_are_scored_apart(pairs: Path) -> None:
    """The challenge's first level ends at 16 m; elsewhere the limits are 5 and 20 m."""
    np.save(pairs / "depth/hall_1.npy", np.random.default_rng(6).uniform(1, 60, (48, 96)).astype(np.float32))
    for protocol, limits_m in (("ais", (16,)), ("gdsr-x4", (5, 20))):
        result = evaluate(pairs, protocol, ["nearest"], baselines=False, limit=1)
        rgb, depth_m = read_pair(pairs, "hall_1")
        degraded = degrade(depth_m, protocol, seed=0)
        depth_m, truth_m = BASELINES["nearest"](rgb, degraded.depth_m), ground_truth(depth_m, protocol)
        assert result["ranges_m"] == list(limits_m)
        bounds_m = [0, *limits_m, 301]
        for name, low_m, high_m in zip(metrics.range_names(limits_m), bounds_m[:-1], bounds_m[1:], strict=True):
            within = (truth_m >= low_m) & (truth_m < high_m)
            expected = np.sqrt(np.mean((depth_m[within] - truth_m[within]) ** 2))
            assert result["rows"][0][name] == pytest.approx(expected, rel=1e-5)


def test_intervals_and_ratios_are_those_of_the_frames(pairs: Path) -> None:
    result = evaluate(pairs, "gdsr-x8", ["bicubic"], seed=3)
    rmse = {row["method"]: row["rmse"] for row in result["per_frame"]}
    best = min(rmse, key=lambda method: np.mean(rmse[method]))
    assert result["best_baseline"]["rmse"] == best
    drawn = bootstrap(["hall", "hall", "kitchen", "yard", "yard"], seed=3)
    assert result["interval"] == {"level": 0.95, "resamples": 2000, "unit": "frame", "units": 5}
    for row in result["rows"]:
        of_frames = rmse[row["method"]]
        assert row["ci"]["rmse"] == pytest.approx(drawn.interval(of_frames), rel=1e-4)
        assert row["ci"]["rmse"][0] < row["rmse"] < row["ci"]["rmse"][1]
        assert row["ratio"]["rmse"]["value"] == pytest.approx(sum(of_frames) / sum(rmse[best]), rel=1e-4)
        assert row["ratio"]["rmse"]["ci"] == pytest.approx(drawn.ratio_interval(of_frames, rmse[best]), rel=1e-4)
    alone = evaluate(pairs, "gdsr-x8", ["bicubic"], baselines=False, limit=1)
    assert alone["rows"][0]["ci"]["rmse"] is None
    (pairs / "scenes.json").write_text(
        json.dumps(dict(zip(("hall_1", "hall_2", "kitchen_1", "yard_1", "yard_2"), "abcde", strict=True)))
    )
    assert evaluate(pairs, "gdsr-x8", ["nearest"], baselines=False)["interval"]["unit"] == "scene"


def test_a_clean_map_is_kept_by_interpolation(pairs: Path) -> None:
    """Nothing to restore: nearest and bilinear change nothing, and no ratio to them is told."""
    result = evaluate(pairs, "clean", ["nearest", "bilinear"])
    for row in result["rows"]:
        kept = row["method"] in ("nearest", "bilinear", "bicubic")
        assert (row["median_rel"] == row["rmse"] == 0) == kept, row["method"]
    assert all(row["ratio"] == {"rmse": None, "mae": None} for row in result["rows"])


def test_the_largest_output_is_told(pairs: Path) -> None:
    """Interpolation stays within its input; the share is over the input's largest value, not the truth's."""
    row = evaluate(pairs, "gdsr-x4", ["nearest"], baselines=False)["rows"][0]
    assert row["max_over_input"] == 1


def test_a_benchmark_brings_its_unit_and_the_papers_that_ran_the_protocol(pairs: Path) -> None:
    grey = evaluate(pairs, "gdsr-x8", ["bicubic"], baselines=False, benchmark="middlebury")
    assert (grey["unit"], grey["ranges_m"], grey["benchmark"]) == ("grey levels", [], "middlebury")
    assert {row["method"]: row["rmse_border6"] for row in grey["published"]} == {
        "bicubic": 3.98,
        "DCTNet": 2.05,
        "SGNet": 1.64,
    }
    assert evaluate(pairs, "tof", ["bicubic"], baselines=False, benchmark="nyuv2")["published"] == []
    with pytest.raises(UserError, match="kitti"):
        evaluate(pairs, "gdsr-x8", ["bicubic"], benchmark="kitti")


def test_given_low_resolution_depth_is_used(pairs: Path) -> None:
    """Metres as float or millimetres as uint16, with holes; levels under ais."""
    rng = np.random.default_rng(5)
    (pairs / "lr").mkdir()
    truth, low = {}, {}
    for i, name in enumerate(["hall_1", "hall_2", "kitchen_1", "yard_1", "yard_2"]):
        truth[name] = read_pair(pairs, name)[1]
        low[name] = rng.integers(0, 19, (6, 8)).astype(np.float32)
        if i % 2:
            with_sky = low[name].copy()
            with_sky[0, :2] = [65504, np.inf]  # neither measured, in metres
            low[name][0, :2] = 0
            np.save(pairs / f"lr/{name}.npy", with_sky)
        else:
            assert cv2.imwrite(str(pairs / f"lr/{name}.png"), (1000 * low[name]).astype(np.uint16))
    millimetres = (1000 * low["hall_1"]).astype(np.uint16)
    millimetres[0, 0], millimetres[3, 3] = 0, 65535  # both: no value
    low["hall_1"][0, 0] = low["hall_1"][3, 3] = 0
    assert cv2.imwrite(str(pairs / "lr/hall_1.png"), millimetres)
    result = evaluate(pairs, "gdsr-x8", ["nearest"], baselines=False)
    assert result["input"] == "own"
    row = result["rows"][0]
    errors = [
        metrics.mae(BASELINES["nearest"](read_pair(pairs, name)[0], low[name]), ground_truth(truth[name], "gdsr-x8"))
        for name in truth
    ]
    assert row["mae"] == pytest.approx(np.mean(errors), rel=1e-5)

    assert cv2.imwrite(str(pairs / "lr/hall_1.png"), low["hall_1"].astype(np.uint8))
    with pytest.raises(UserError, match="depth of hall_1 holds uint8 numbers"):
        evaluate(pairs, "gdsr-x8", ["nearest"], baselines=False)
    for name in truth:
        (pairs / f"lr/{name}.png").unlink(missing_ok=True)
        np.save(pairs / f"lr/{name}.npy", low[name])
    row = evaluate(pairs, "ais", ["nearest"], baselines=False)["rows"][0]
    errors = [
        metrics.mae(
            BASELINES["nearest"](read_pair(pairs, name)[0], dequantise_ais(low[name])),
            ground_truth(truth[name], "ais"),
        )
        for name in truth
    ]
    assert row["mae"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_noise_of_a_frame_depends_on_neither_split_nor_limit(pairs: Path) -> None:
    """The 2nd of 5 frames keeps its seed when it is the only one left."""
    whole = evaluate(pairs, "gdsr-x4-noisy", ["bilinear"], baselines=False)
    scenes = {"hall_1": "a", "hall_2": "b", "kitchen_1": "a", "yard_1": "a", "yard_2": "a"}
    for part in ("train", "val"):
        (pairs / "scenes.json").write_text(json.dumps(scenes))
        result = evaluate(pairs, "gdsr-x4-noisy", ["bilinear"], baselines=False, split=part)
        if result["frames"] == 1:
            rgb, depth_m = read_pair(pairs, "hall_2")
            low_m = degrade(depth_m, "gdsr-x4-noisy", seed=1).depth_m
            expected = metrics.rmse(BASELINES["bilinear"](rgb, low_m), ground_truth(depth_m, "gdsr-x4-noisy"))
            assert result["rows"][0]["rmse"] == pytest.approx(expected, rel=1e-5)
            single = result["rows"][0]["rmse"]
        else:
            others = result["rows"][0]["rmse"]
    assert (4 * others + single) / 5 == pytest.approx(whole["rows"][0]["rmse"], rel=1e-6)


def test_limit_spreads_over_the_split(pairs: Path) -> None:
    result = evaluate(pairs, "gdsr-x4", ["nearest"], baselines=False, limit=2)
    expected = []
    for i, name in ((0, "hall_1"), (2, "kitchen_1")):
        rgb, depth_m = read_pair(pairs, name)
        low_m = degrade(depth_m, "gdsr-x4", seed=i).depth_m
        expected.append(metrics.rmse(BASELINES["nearest"](rgb, low_m), ground_truth(depth_m, "gdsr-x4")))
    assert result["frames"] == 2
    assert result["rows"][0]["rmse"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_network_gets_what_the_protocol_knows(pairs: Path, tmp_path: Path) -> None:
    """An untrained network, saved and loaded: the row equals the network run by hand on the same input."""
    from depthsr.infer import load
    from depthsr.models.network import DepthSR

    torch.manual_seed(3)
    DepthSR(EDGE).save_pretrained(tmp_path / "net")
    model = str(tmp_path / "net")
    row = evaluate(pairs, "ais", [model], baselines=False, device="cpu", limit=2)["rows"][0]
    assert row["method"] == model
    predictor, expected = load(model, device="cpu"), []
    for i, name in ((0, "hall_1"), (2, "kitchen_1")):
        rgb, depth_m = read_pair(pairs, name)
        prediction = predictor(rgb, degrade(depth_m, "ais", seed=i).raw, protocol="ais")
        expected.append(metrics.mae(prediction.depth_m, ground_truth(depth_m, "ais")))
    assert row["mae"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_frames_without_depth_are_left_out_and_said(pairs: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(pairs / "depth/hall_2.npy", np.full((48, 96), np.nan, np.float32))
    np.save(pairs / "depth/yard_1.npy", np.full((48, 96), np.inf, np.float32))  # all sky: nothing for a ToF camera
    result = evaluate(pairs, "tof", ["bilinear"], baselines=False)
    assert result["frames"] == 3
    assert "hall_2 is left out" in caplog.text
    assert "yard_1 is left out" in caplog.text
    for name in ("hall_1", "kitchen_1", "yard_2"):
        np.save(pairs / f"depth/{name}.npy", np.zeros((48, 96), np.float32))
    with pytest.raises(UserError, match="no frame"):
        evaluate(pairs, "tof", ["bilinear"], baselines=False)


@pytest.mark.parametrize(
    ("protocol", "downsampling"), [("gdsr-x8", "bicubic"), ("gdsr-x4-noisy", "bicubic"), ("tof", "box")]
)
def test_methods_are_told_how_depth_was_made_smaller(pairs: Path, protocol: str, downsampling: str) -> None:
    result = evaluate(pairs, protocol, ["bilinear"], baselines=False, limit=1, tell_downsampling=True)
    rgb, depth_m = read_pair(pairs, "hall_1")
    degraded, truth_m = degrade(depth_m, protocol, seed=0), ground_truth(depth_m, protocol)
    told = load("bilinear")(rgb, degraded.depth_m, downsampling=downsampling)
    assert result["downsampling"] == downsampling
    assert result["rows"][0]["rmse"] == pytest.approx(metrics.score(told.depth_m, truth_m)["rmse"])
    silent = evaluate(pairs, protocol, ["bilinear"], baselines=False, limit=1)
    assert silent["downsampling"] is None
    assert silent["rows"][0]["rmse"] != pytest.approx(result["rows"][0]["rmse"])


def test_mistakes(pairs: Path) -> None:
    with pytest.raises(UserError, match="nyu"):
        evaluate(pairs, "nyu", ["bilinear"])
    with pytest.raises(UserError, match="test"):
        evaluate(pairs, "ais", ["bilinear"], split="test")
    with pytest.raises(UserError, match="at least 1"):
        evaluate(pairs, "ais", ["bilinear"], limit=0)
    with pytest.raises(UserError, match="nowhere"):
        evaluate(pairs, "ais", [str(pairs / "nowhere")])
    with pytest.raises(UserError, match="5 frames"):
        evaluate(pairs, "ais", ["bilinear"], split="last100")
    cv2.imwrite(str(pairs / "rgb/yard_3.png"), np.zeros((4, 6, 3), np.uint8))
    np.save(pairs / "depth/yard_3.npy", np.ones((4, 6), np.float32))
    with pytest.raises(UserError, match=r"^yard_3 of .*: a depth map of 6x4 is too small"):
        evaluate(pairs, "ais", ["bilinear"], baselines=False)
    for nothing_to_tell in ("ais", "clean"):
        with pytest.raises(UserError, match=f"{nothing_to_tell} keeps pixels as they are"):
            evaluate(pairs, nothing_to_tell, ["bilinear"], tell_downsampling=True)
