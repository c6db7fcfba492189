"""Wide holes are filled from the frame at half its size: which pixels, by what, in how many steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from depthsr.frames import Settings, check_frame
from depthsr.infer import Predictor, load
from depthsr.models.baselines import BASELINES
from depthsr.models.relative import normalise_relative
from depthsr.precision import Precision
from depthsr.torch_runtime import NetworkRestorer
from depthsr.wide_holes import DEEP_PX, Level, coarse_to_fine, deep_in_holes, halved

RANDOM = np.random.default_rng(7)


def frame(size=(96, 128), low=(96, 128), hole=(slice(20, 70), slice(30, 100)), relative=False):
    """Random RGB over depths between 1 and 3 m with a hole."""
    depth_m = RANDOM.uniform(1, 3, low).astype(np.float32)
    depth_m[hole] = np.nan
    rgb = RANDOM.integers(0, 256, (*size, 3), np.uint8)
    return check_frame(rgb, depth_m, RANDOM.random(size, np.float32) if relative else None, Settings())


def plane_m(size: tuple[int, int]) -> np.ndarray:
    """Depth 2 + row / H + 3 · column / W at the centres of the pixels, whatever the resolution."""
    rows, columns = ((np.arange(side) + 0.5) / side for side in size)
    return (2 + rows[:, None] + 3 * columns).astype(np.float32)


@pytest.mark.parametrize("size", [(1, 40), (33, 1), (31, 47)])
def test_deep_is_farther_than_so_many_pixels_from_every_measurement(size):
    valid = RANDOM.random(size) < 0.01
    valid[0, 0] = True
    pixels = np.stack(np.mgrid[: size[0], : size[1]], -1).reshape(-1, 1, 2)
    distances = np.linalg.norm(pixels - pixels[valid.ravel()].reshape(1, -1, 2), axis=-1).min(1)
    one = frame(size, size, hole=~valid)
    np.testing.assert_array_equal(deep_in_holes(one).ravel(), distances > DEEP_PX)
    assert not deep_in_holes(frame(size, size, hole=np.zeros(size, bool))).any()


@pytest.mark.parametrize("low", [(8, 10), (7, 9), (1, 5), (6, 1)])
def test_half_a_measurement_has_the_median_of_what_was_measured(low):
    one = frame((20, 20), (20, 20), hole=(0, 0))
    one = dataclasses.replace(one, depth_m_hw=RANDOM.uniform(1, 3, low).astype(np.float32))
    depth_m = np.where(RANDOM.random(low) < 0.5, np.nan, one.depth_m_hw).astype(np.float32)
    half_m = halved(dataclasses.replace(one, depth_m_hw=depth_m)).depth_m_hw
    assert half_m.shape == tuple((side + 1) // 2 for side in low)
    for y, x in np.ndindex(half_m.shape):
        measured = np.sort(depth_m[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel())
        measured = measured[np.isfinite(measured)]
        expected = measured[(measured.size - 1) // 2] if measured.size else np.nan
        np.testing.assert_array_equal(half_m[y, x], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_half_a_picture_has_the_means(dtype):
    one = frame((10, 14), (5, 7), hole=(0, 0), relative=True)
    rgb = one.rgb_HW3 if dtype == np.uint8 else one.rgb_HW3.astype(dtype) / 255
    half = halved(dataclasses.replace(one, rgb_HW3=rgb))
    means = rgb.reshape(5, 2, 7, 2, 3).mean((1, 3), dtype=np.float64)
    assert half.rgb_HW3.dtype == dtype
    np.testing.assert_allclose(half.rgb_HW3, means, atol=0.51 if dtype == np.uint8 else 1e-6)
    np.testing.assert_allclose(half.relative_HW, one.relative_HW.reshape(5, 2, 7, 2).mean((1, 3)), rtol=1e-5)


@pytest.mark.parametrize(("size", "low"), [((96, 128), (96, 128)), ((97, 131), (97, 131)), ((384, 512), (96, 128))])
def test_the_deep_of_a_hole_is_filled_by_what_half_the_frame_gives(size, low):
    one = frame(size, low)
    *halves, whole = coarse_to_fine([one])
    assert whole.frames[0] is one
    (filling_m,) = whole.fillings_m([plane_m(half.size) for half in halves[-1].frames])
    deep = deep_in_holes(one)
    assert deep.any()
    np.testing.assert_array_equal(np.isfinite(filling_m), deep)
    # The nearest pixel of half the frame is at most half of its pixels off.
    off_m = 0.5 / (size[0] // 2) + 3 * 0.5 / (size[1] // 2)
    assert np.abs(filling_m - plane_m(low))[deep].max() < 1.05 * off_m


def sizes(levels: list[Level]) -> list[list[tuple[int, int]]]:
    return [[one.size for one in level.frames] for level in levels]


def test_frames_are_halved_until_no_hole_is_wide_or_nothing_is_left():
    long = frame((384, 512), (384, 512), (slice(100, 140), slice(100, 500)))
    # 20 pixels from the rim; at a quarter 5, and nothing to fill
    assert sizes(coarse_to_fine([long])) == [[(96, 128)], [(192, 256)], [(384, 512)]]
    endless = frame((384, 512), (384, 512), (slice(2, None), slice(0, None)))
    assert sizes(coarse_to_fine([endless])) == [[(48, 64)], [(96, 128)], [(192, 256)], [(384, 512)]]
    low = frame((192, 512), (12, 32), (slice(1, None), slice(0, None)))
    assert sizes(coarse_to_fine([low])) == [[(192, 512)]]  # of 6 rows there is nothing to be learnt
    narrow = [frame(hole=(slice(20, 30), slice(0, 128))), frame(hole=(0, 0))]
    (level,) = coarse_to_fine(narrow)
    assert level.frames == narrow
    assert level.fillings_m([]) == [None, None]


def test_each_frame_is_filled_from_its_own_half():
    narrow, wide, wider = frame(hole=(slice(20, 30), slice(0, 128))), frame(), frame(hole=(slice(2, 90), slice(9, 99)))
    halves, whole = coarse_to_fine([narrow, wide, narrow, wider])
    assert sizes([halves, whole]) == [[(48, 64)] * 2, [(96, 128)] * 4]
    assert len({one.kind for one in halves.frames}) == 1
    for half, one in zip(halves.frames, (wide, wider), strict=True):
        np.testing.assert_array_equal(half.depth_m_hw, halved(one).depth_m_hw)
    fillings_m = whole.fillings_m([np.full((48, 64), depth_m, np.float32) for depth_m in (4.0, 5.0)])
    for filling_m, expected_m, one in zip(fillings_m, (None, 4, None, 5), whole.frames, strict=True):
        deep = deep_in_holes(one) if expected_m else np.zeros(one.depth_m_hw.shape, bool)
        np.testing.assert_array_equal(np.isfinite(filling_m), deep)
        assert (filling_m[deep] == expected_m).all()


@pytest.fixture(params=["edge", "base", "native"])
def predictor(request) -> Predictor:
    if request.param == "native":
        request.getfixturevalue("native_module")
        return load("edge", runtime="native")
    model, cpu = request.getfixturevalue(f"tiny_{request.param}"), torch.device("cpu")
    return Predictor(request.param, NetworkRestorer(model, cpu, Precision(torch.float32, torch.float32)))


def test_a_predictor_restores_the_filled_frame(predictor):
    """By hand: half the frame, its result into the hole, the frame. And so in a batch and in a stream."""
    one = frame((104, 150), (52, 75), (slice(10, 40), slice(20, 50)), relative=predictor.restorer.takes_relative)
    given = (one.rgb_HW3, one.depth_m_hw, *([] if one.relative_HW is None else [one.relative_HW]))
    half = halved(one)
    arguments = (half.rgb_HW3, half.depth_m_hw, *([] if half.relative_HW is None else [half.relative_HW]))
    (half_m,) = (result.depth_m for result in predictor.batch([arguments]))
    whole = coarse_to_fine([one])[-1]
    (filling_m,) = whole.fillings_m([half_m])
    plain_m, by_hand_m = (_restored_m(predictor, one, each) for each in (None, filling_m))
    depth_m = predictor.batch([given])[0].depth_m
    np.testing.assert_allclose(depth_m, np.maximum(by_hand_m, depth_m.min()), rtol=1e-4, atol=1e-4)
    assert np.abs(depth_m - plain_m).max() > 1e-3
    narrow = frame((104, 150), (52, 75), (slice(10, 14), slice(20, 24)), relative=predictor.restorer.takes_relative)
    other = (narrow.rgb_HW3, narrow.depth_m_hw, *([] if narrow.relative_HW is None else [narrow.relative_HW]))
    np.testing.assert_allclose(predictor.batch([other, given])[1].depth_m, depth_m, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(next(iter(predictor.stream([given]))).depth_m, depth_m, rtol=1e-4, atol=1e-4)


def _restored_m(predictor: Predictor, one, filling_m) -> np.ndarray:
    """What its network gives with a filling, that of a model in PyTorch asked for directly."""
    restorer = predictor.restorer
    if not isinstance(restorer, NetworkRestorer):
        return restorer(one, filling_m)[0]
    depth_m = torch.from_numpy(one.depth_m_hw)[None, None]
    relative = None if one.relative_HW is None else normalise_relative(torch.from_numpy(one.relative_HW)[None, None])
    depth_m, _ = restorer.model.infer(
        (torch.from_numpy(one.rgb_HW3).float() / 255).permute(2, 0, 1)[None],
        depth_m,
        depth_m.isfinite(),
        relative_B1HW=relative,
        filling_m_B1hw=None if filling_m is None else torch.from_numpy(filling_m)[None, None],
    )
    return depth_m[0, 0].numpy()


def test_native_and_torch_fill_alike(native_module):
    one = frame((104, 150), (52, 75), (slice(10, 40), slice(20, 50)))
    native_m, torch_m = (
        load("edge", runtime=runtime, device="cpu")(one.rgb_HW3, one.depth_m_hw).depth_m
        for runtime in ("native", "torch")
    )
    np.testing.assert_allclose(native_m, torch_m, rtol=1e-3, atol=1e-3)


def test_baselines_get_the_frame_as_it_is():
    one = frame()
    expected_m = BASELINES["nearest"](one.rgb_HW3 / np.float32(255), one.depth_m_hw)
    found_m = load("nearest")(one.rgb_HW3, one.depth_m_hw).depth_m
    np.testing.assert_allclose(found_m, np.maximum(expected_m, found_m.min()))
