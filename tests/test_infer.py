"""The Predictor: units, sizes, holes, support, precision; on a network with random weights and on baselines."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch

from depthsr import precision
from depthsr.config import EDGE
from depthsr.frames import CheckedFrame
from depthsr.infer import BaselineRestorer, Predictor, load, supported
from depthsr.models.baselines import BASELINES
from depthsr.models.network import DepthSR
from depthsr.precision import Precision, choose_precision, resolve_device
from depthsr.types import UserError

SMALL = dataclasses.replace(EDGE, widths=(4, 8, 8, 8))


def frame(size=(48, 64), low=(12, 16), seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Random RGB and random smooth-ish depth between 1 and 3 m."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (*size, 3), np.uint8), random.uniform(1, 3, low).astype(np.float32)


@pytest.fixture(scope="module")
def saved_model(save_random_model) -> str:
    return save_random_model(SMALL)


@pytest.mark.parametrize(
    ("size", "low"), [((48, 64), (12, 16)), ((63, 65), (16, 16)), ((7, 5), (7, 5)), ((1, 1), (1, 1))]
)
@pytest.mark.parametrize("model", ["saved", "bilinear", "guided_filter"])
def test_result_has_the_size_of_the_rgb_and_stays_in_the_measured_range(saved_model, model, size, low):
    rgb, depth_m = frame(size, low)
    prediction = load(saved_model if model == "saved" else model)(rgb, depth_m)
    assert prediction.depth_m.shape == prediction.valid.shape == size
    assert prediction.depth_m.dtype == np.float32
    assert prediction.valid.dtype == bool
    assert prediction.depth_m.min() >= 0.5 * depth_m.min()
    assert prediction.depth_m.max() <= 1.05 * depth_m.max() * (1 + 1e-6)


def test_scale_turns_millimetres_into_metres(saved_model):
    rgb, depth_m = frame()
    depth_mm = np.rint(depth_m * 1000).astype(np.uint16)
    predictor = load(saved_model)
    expected = predictor(rgb, depth_mm / np.float32(1000))
    for actual in (predictor(rgb, depth_mm, scale=0.001), predictor(rgb, depth_mm)):
        np.testing.assert_allclose(actual.depth_m, expected.depth_m, rtol=1e-5)
        np.testing.assert_allclose(actual.error_m, expected.error_m, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("share", "warned"), [(0.45, False), (0.55, True)])
def test_a_measurement_of_kilometres_is_told_once(share, warned, caplog):
    rgb, depth_m = frame()
    depth_m[:2] = np.nan
    far = np.zeros(160, bool)
    far[: round(160 * share)] = True
    depth_m[2:] *= np.where(np.random.default_rng(2).permutation(far), 1000, 1).reshape(10, 16).astype(np.float32)
    list(load("nearest").stream([(rgb, depth_m)] * 3))
    said = f"the median measurement is {np.nanmedian(depth_m):.0f} m: is the scale right?"
    assert [record.message.startswith(said) for record in caplog.records] == [True] * warned


def test_a_step_without_a_level_that_was_measured():
    """The middle of the first level may be the only value; one beyond every value is of another unit."""
    rgb = frame()[0]
    predictor = load("nearest")
    assert (predictor(rgb, np.full((12, 16), 8.0), quantisation_step_m=16).depth_m == 8).all()
    with pytest.raises(UserError, match=r"the quantisation step is 16 m and the largest measurement 7.5 m.*in metres"):
        predictor(rgb, np.full((12, 16), 7.5), quantisation_step_m=16)


@pytest.mark.parametrize("no_value", [0, np.nan, np.inf, 65504])
def test_every_mark_of_a_hole_gives_the_same_result(saved_model, no_value):
    rgb, depth_m = frame()
    holes = np.random.default_rng(1).random(depth_m.shape) < 0.2
    predictor = load(saved_model)
    expected = predictor(rgb, np.where(holes, np.nan, depth_m))
    actual = predictor(rgb, np.where(holes, no_value, depth_m).astype(np.float32))
    np.testing.assert_array_equal(actual.depth_m, expected.depth_m)
    np.testing.assert_array_equal(actual.valid, expected.valid)
    assert not np.array_equal(actual.depth_m, predictor(rgb, depth_m).depth_m)


@pytest.mark.parametrize(("step_m", "lowest_m"), [(None, 0.75), (0.2, 0.55), (5.0, 0.0015)])
def test_no_result_is_0_or_far_below_the_nearest_measurement(step_m, lowest_m):
    """0 would read as "no value" from the file. Nearest measurement 1.5 m: half of it, less the step, is the floor."""
    rgb, depth_m = frame()
    depth_m[0, 0] = 1.5
    zero = Predictor("zero", BaselineRestorer(lambda rgb, depth_m: np.zeros(rgb.shape[:2], np.float32)))
    result_m = zero(rgb, np.maximum(depth_m, 1.5), quantisation_step_m=step_m).depth_m
    np.testing.assert_allclose(result_m, lowest_m, rtol=1e-6)


def test_uint8_and_floating_point_rgb_and_tensors_agree(saved_model):
    rgb, depth_m = frame()
    predictor = load(saved_model)
    expected = predictor(rgb, depth_m).depth_m
    np.testing.assert_array_equal(predictor(rgb.astype(np.float32) / 255, depth_m).depth_m, expected)
    tensors = predictor(torch.from_numpy(rgb), torch.from_numpy(depth_m))
    np.testing.assert_array_equal(tensors.depth_m, expected)


def test_known_range_clips_the_result(saved_model):
    rgb, depth_m = frame()
    predictor = load(saved_model)
    assert predictor(rgb, depth_m).depth_m.max() > 2.2
    assert predictor(rgb, depth_m, max_depth_m=2.2).depth_m.max() <= np.float32(2.2)


@pytest.mark.parametrize("model", ["saved", "nearest"])
@pytest.mark.parametrize(("step_m", "limit_m"), [(None, 3.15), (0.5, 3.4)])
def test_what_lies_beyond_the_known_range_is_no_measurement(saved_model, model, step_m, limit_m, caplog):
    """But for what noise (5 %) and rounding (half a step) can put there, which is clipped."""
    rgb, depth_m = frame()
    depth_m[3, 3:5], depth_m[7:10, 6:8] = limit_m - 0.01, limit_m + 0.01
    known = {"quantisation_step_m": step_m, "max_depth_m": 3.0}
    predictor = load(saved_model if model == "saved" else model)
    expected = predictor(rgb, np.where(depth_m > limit_m, np.nan, depth_m), **known)
    caplog.clear()
    for actual in (predictor(rgb, depth_m, **known), *predictor.batch([(rgb, depth_m)] * 2, **known)):
        np.testing.assert_allclose(actual.depth_m, expected.depth_m, rtol=1e-4)
        np.testing.assert_array_equal(actual.valid, expected.valid)
    said = "3.1 % of the measurements are farther than the largest depth there can be, 3 m: taken for holes."
    assert [record.message for record in caplog.records] == [said]
    assert (load("nearest")(rgb, depth_m, **known).depth_m[12:16, 12:20] == 3).all()


def test_a_range_that_ends_before_every_measurement():
    rgb, depth_m = frame()
    said = rf"no measurement is nearer than --max-depth \(max_depth_m\) 0.5 m.* {depth_m.min():g} m"
    with pytest.raises(UserError, match=said):
        load("nearest")(rgb, depth_m, max_depth_m=0.5)


def test_confidence_follows_its_definition(saved_model):
    prediction = load(saved_model)(*frame())
    expected = 1 / (1 + prediction.error_m.astype(np.float64) / (0.05 * prediction.depth_m))
    np.testing.assert_allclose(prediction.confidence, expected, rtol=1e-5)
    assert prediction.error_m.min() >= 0


def test_ais_levels_become_metres_up_to_300():
    """Level q stands for 16q to 16q + 16 units; the sky (4094) is clipped to the known range, 300."""
    levels = np.array([[1, 2, 5], [10, 18, 4094], [3, 3.02, 2.97]], np.float32)
    rgb = np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8)
    depth_m = load("nearest")(rgb, levels, protocol="ais").depth_m
    np.testing.assert_allclose(depth_m, [[24, 40, 88], [168, 296, 300], [56, 56, 56]])


def test_ais_hands_the_network_its_step_and_range():
    seen = {}

    class Spy(BaselineRestorer):
        def __call__(self, frame, filling_m_hw):
            seen.update(step=frame.quantisation_step_m, largest=frame.max_depth_m)
            return super().__call__(frame, filling_m_hw)

    spy = Predictor("spy", Spy(BASELINES["nearest"]))
    spy(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2)), protocol="ais")
    assert seen == {"step": 16.0, "largest": 300.0}
    spy(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2)), quantisation_step_m=0.5)
    assert seen == {"step": 0.5, "largest": None}


def test_sparse_depth_is_gathered_for_a_network_and_for_no_baseline():
    """And where a law of downsampling is told, the measurement is what was made so, holes or not."""
    random = np.random.default_rng(0)
    low_m = random.uniform(1, 9, (16, 20)).astype(np.float32)
    points_m = np.full((64, 80), np.nan, np.float32)
    points_m[2::4, 2::4] = low_m
    rgb = random.integers(0, 256, (64, 80, 3), np.uint8)
    seen = {}

    class Spy(BaselineRestorer):
        def __call__(self, frame, filling_m_hw):
            seen["depth_m"] = frame.depth_m_hw
            return super().__call__(frame, filling_m_hw)

    class Network(Spy):
        is_network = True

    nearest = BASELINES["nearest"]
    for restorer, settings, expected_m in (
        (Network(nearest), {}, low_m),
        (Network(nearest), {"downsampling": "box"}, points_m),
        (Spy(nearest), {}, points_m),
    ):
        Predictor("spy", restorer)(rgb, points_m, **settings)
        np.testing.assert_array_equal(seen["depth_m"], expected_m)


def test_a_batch_of_sparse_frames_gives_what_each_alone_gives():
    """Gathered, maps of one size may have different ones."""
    random = np.random.default_rng(0)
    frames = []
    for share in (0.002, 0.03, 0.5, 0.03):
        depth_m = random.uniform(1, 9, (64, 96)).astype(np.float32)
        depth_m[random.random(depth_m.shape) > share] = np.nan
        frames.append((random.integers(0, 256, (64, 96, 3), np.uint8), depth_m))
    predictor = load("edge", runtime="torch")
    for together, frame in zip(predictor.batch(frames), frames, strict=True):
        alone = predictor(*frame)
        np.testing.assert_allclose(together.depth_m, alone.depth_m, rtol=1e-4)
        np.testing.assert_array_equal(together.valid, alone.valid)


def frame_with(valid: np.ndarray, size: tuple[int, int]) -> CheckedFrame:
    """Random depths where valid."""
    random = np.random.default_rng(1)
    depth_m = np.where(valid, random.uniform(1, 3, valid.shape), np.nan).astype(np.float32)
    return CheckedFrame(random.integers(0, 256, (*size, 3), np.uint8), depth_m, None, 0.0, None, "metric")


def test_support_ends_a_fixed_distance_from_the_measurement():
    """Dense 80×80 map: 1/40 of the side is 2 pixels. Sparse 8×8 map: 1.5 pixels, so the next pixel and the diagonal."""
    valid = np.zeros((80, 80), bool)
    valid[:, :10] = True
    dense = supported(frame_with(valid, (80, 80)))
    np.testing.assert_array_equal(dense, np.arange(80)[None].repeat(80, 0) < 12)
    one = np.zeros((8, 8), bool)
    one[3, 4] = True
    expected = np.zeros((8, 8), bool)
    expected[2:5, 3:6] = True
    np.testing.assert_array_equal(supported(frame_with(one, (16, 16))), np.kron(expected, np.ones((2, 2), bool)))
    assert not supported(frame_with(np.zeros((5, 5), bool), (9, 9))).any()
    assert supported(frame_with(np.ones((5, 5), bool), (9, 9))).all()


def test_a_result_that_is_not_finite_is_our_fault_and_said_so():
    broken = Predictor("broken", BaselineRestorer(lambda rgb, depth_m: np.full(rgb.shape[:2], np.nan, np.float32)))
    with pytest.raises(RuntimeError, match="broken gave 6 values that are not finite"):
        broken(np.zeros((2, 3, 3), np.uint8), np.ones((2, 3)))


def test_relative_depth_is_refused_where_it_is_not_used(saved_model):
    rgb, depth_m = frame()
    for name in (saved_model, "bilinear"):
        with pytest.raises(UserError, match="takes no relative depth; leave it out, or use the model base"):
            load(name)(rgb, depth_m, relative=rgb[:, :, 0])


def test_a_relative_depth_of_ones_own_is_used_and_its_unit_does_not_matter(tmp_path, tiny_base_config):
    """With a small Depth Anything: the result follows `relative`, of whatever scale, offset and resolution."""
    torch.manual_seed(0)
    model = DepthSR(tiny_base_config)
    model.add_depth_anything()
    for parameter in model.unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # larger ones make much of the last bit
    model.save_pretrained(tmp_path)
    predictor = load(str(tmp_path))
    rgb, depth_m = frame()
    relative = np.random.default_rng(5).random((48, 64)).astype(np.float32)
    expected = predictor(rgb, depth_m, relative=relative).depth_m
    np.testing.assert_allclose(predictor(rgb, depth_m, relative=3 + 50 * relative).depth_m, expected, atol=1e-3)
    assert np.abs(predictor(rgb, depth_m, relative=1 - relative).depth_m - expected).max() > 0.01
    assert np.abs(predictor(rgb, depth_m).depth_m - expected).max() > 0.01
    small = predictor(rgb, depth_m, relative=np.ones((24, 32), np.uint8)).depth_m
    np.testing.assert_array_equal(small, predictor(rgb, depth_m, relative=np.ones((48, 64), np.uint8)).depth_m)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "nyu"}, "protocol 'nyu' is unknown; choose one of metric, ais"),
        ({"max_depth_m": 0}, "largest depth 0 is no distance"),
        ({"max_depth_m": float("nan")}, "largest depth nan is no distance"),
        ({"quantisation_step_m": -1.0}, "quantisation step -1.0 is no distance"),
        ({"max_depth_m": "5"}, "largest depth '5' is no distance"),
        ({"quantisation_step_m": True}, "quantisation step True is no distance"),
        ({"scale": 0.0}, "depth scale 0.0 makes no metres"),
        ({"scale": "0.001"}, "depth scale '0.001' makes no metres"),
        ({"downsampling": ["box"]}, r"downsampling \['box'\] is unknown; choose one of"),
        (
            {"scal": 1.0},
            "there is no setting 'scal'; there are scale, quantisation_step_m, max_depth_m, protocol, down",
        ),
    ],
)
def test_options_that_make_no_sense(options, words):
    predictor = load("nearest")
    with pytest.raises(UserError, match=words):
        predictor.batch([frame()], **options)
    with pytest.raises(UserError, match=words):
        next(predictor.stream([frame()], **options))
    if "scal" not in options:
        with pytest.raises(UserError, match=words):
            predictor(*frame(), **options)


def test_numbers_of_every_kind_are_taken():
    rgb, depth_m = frame()
    expected = load("nearest")(rgb, depth_m, scale=0.5, max_depth_m=2)
    assert expected.depth_m.max() < 2
    actual = load("nearest")(rgb, depth_m, scale=np.float32(0.5), max_depth_m=np.int64(2))
    np.testing.assert_array_equal(actual.depth_m, expected.depth_m)


def test_fp16_weights_are_half_precision_and_the_result_close(saved_model, caplog, monkeypatch):
    """On a CPU without fast half precision: the weights are rounded, the arithmetic is fp32, and one line says so."""
    monkeypatch.setattr(precision, "_cpu_has", lambda features: False)
    rgb, depth_m = frame()
    full = load(saved_model, device="cpu", runtime="torch")
    with caplog.at_level(logging.INFO, logger="depthsr"):
        half = load(saved_model, device="cpu", dtype="fp16", runtime="torch")
    assert [r.message for r in caplog.records] == [
        "fp16 weights, computed in fp32: this CPU has no fast fp16 arithmetic."
    ]
    for rounded, original in zip(half.restorer.model.parameters(), full.restorer.model.parameters(), strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, original.half().float(), rtol=0, atol=0)
    difference = np.abs(half(rgb, depth_m).depth_m - full(rgb, depth_m).depth_m)
    assert 0 < difference.max() < 0.02


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_arithmetic_gives_nearly_the_same_depth(saved_model, dtype, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has", lambda features: True)
    rgb, depth_m = frame()
    half = load(saved_model, device="cpu", dtype=dtype, runtime="torch")
    assert next(half.restorer.model.parameters()).dtype == precision.DTYPES[dtype]
    actual, expected = half(rgb, depth_m), load(saved_model, device="cpu", runtime="torch")(rgb, depth_m)
    assert actual.depth_m.dtype == actual.error_m.dtype == np.float32
    np.testing.assert_allclose(actual.depth_m, expected.depth_m, atol=0.02 if dtype == "fp16" else 0.15)


@pytest.mark.parametrize("runtime", ["torch", "native"])
@pytest.mark.parametrize("fast", [True, False])
def test_a_predictor_says_what_computes_it(saved_model, runtime, fast, monkeypatch, request):
    monkeypatch.setattr(precision, "_cpu_has", lambda features: fast)
    if runtime == "native":
        request.getfixturevalue("native_module")
        monkeypatch.setattr("depthsr.native.instruction_set", lambda: "avx512bf16" if fast else "avx2")
    model = saved_model if runtime == "torch" else "edge"
    for dtype, said in (("auto", "fp32"), ("bf16", "bf16" if fast else "bf16 weights in fp32")):
        predictor = load(model, "cpu", dtype, runtime)
        assert repr(predictor) == f"<Predictor {model}: {runtime}, cpu, {said}>"
    assert repr(load("bilinear")) == "<Predictor bilinear: baseline, cpu, fp32>"


def test_choice_of_precision(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    fp32, fp16, bf16 = torch.float32, torch.float16, torch.bfloat16
    assert choose_precision("auto", gpu) == choose_precision("fp32", cpu) == Precision(fp32, fp32)
    assert choose_precision("fp16", gpu) == choose_precision(fp16, gpu) == Precision(fp16, fp16)
    monkeypatch.setattr(precision, "_cpu_has", lambda features: features == precision.FAST_BF16)
    chosen = choose_precision("fp16", cpu)
    assert (chosen.weights, chosen.arithmetic) == (bf16, bf16)
    assert "bf16" in chosen.reason
    assert choose_precision("bf16", cpu) == Precision(bf16, bf16)
    for wrong in ("fp8", torch.int8):
        with pytest.raises(UserError, match=r"precision .* is unknown"):
            choose_precision(wrong, cpu)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "cpu:x"])
def test_a_device_that_is_not_here(device):
    with pytest.raises(UserError, match=r"device '.*' cannot be used here \(.*\); use --device cpu or auto\.$"):
        resolve_device(device)


def test_a_large_photograph_with_a_small_depth_map():
    """Phone LiDAR sizes; the plane it shows must come back as the plane."""
    rows = np.linspace(1.0, 3.0, 192, dtype=np.float32)
    depth_m = np.repeat(rows[:, None], 256, axis=1)
    rgb = np.full((1440, 1920, 3), 128, np.uint8)
    prediction = load("bilinear")(rgb, depth_m)
    expected = np.interp((np.arange(1440) + 0.5) / 7.5 - 0.5, np.arange(192), rows)
    np.testing.assert_allclose(prediction.depth_m, np.repeat(expected[:, None], 1920, axis=1), atol=1e-3)
    assert prediction.valid.all()
