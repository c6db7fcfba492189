"""Predictor.batch and Predictor.stream: what a call of each frame alone gives, in order, whoever restores."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from depthsr.infer import BaselineRestorer, Predictor, load
from depthsr.models.baselines import BASELINES
from depthsr.precision import Precision
from depthsr.torch_runtime import NetworkRestorer
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")

RANDOM = np.random.default_rng(0)
NO_DEPTH = np.zeros((6, 8), np.float32)


def frame(size=(24, 32), low=(6, 8), dtype=np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """Random RGB; 1 to 3 m with a hole."""
    rgb = RANDOM.integers(0, 256, (*size, 3), np.uint8)
    depth_m = RANDOM.uniform(1, 3, low).astype(np.float32)
    depth_m[0, 0] = np.nan
    return (rgb if dtype == np.uint8 else rgb.astype(dtype) / 255), depth_m


def mixed() -> list[tuple]:
    """Three sizes and two types, neither together nor alone."""
    kinds = [((24, 32), (6, 8)), ((17, 33), (17, 33)), ((24, 32), (12, 16)), ((24, 32), (6, 8))]
    return [frame(*kinds[i % 4], dtype=np.float32 if i == 4 else np.uint8) for i in range(7)]


class Late:
    """A BatchRestorer that computes when it is waited for. `events`: what happened, by the depth in the corner."""

    takes_relative = False
    is_network = False

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.events: list[tuple[str, list[float]]] = []

    def start(self, levels):
        (level,) = levels
        frames = level.frames
        numbers = [float(frame.depth_m_hw[-1, -1]) for frame in frames]
        self.events.append(("start", numbers))

        def finish():
            self.events.append(("finish", numbers))
            return [(BASELINES["nearest"](frame.rgb_HW3 / 255, frame.depth_m_hw), None) for frame in frames]

        return finish


def numbered(count: int, low=(6, 8)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames whose depth is their number plus 1."""
    return [(frame()[0], np.full(low, i + 1, np.float32)) for i in range(count)]


@pytest.fixture(params=["edge", "base", "native", "bilinear", "late"])
def predictor(request) -> Predictor:
    if request.param in ("edge", "base"):
        model = request.getfixturevalue(f"tiny_{request.param}")
        cpu, fp32 = torch.device("cpu"), torch.float32
        return Predictor(request.param, NetworkRestorer(model, cpu, Precision(fp32, fp32)))
    if request.param == "native":
        request.getfixturevalue("native_module")
        return load("edge", runtime="native")
    return Predictor("late", Late(1)) if request.param == "late" else load(request.param)


def same(one, other) -> None:
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5, err_msg=field.name)


@pytest.mark.parametrize("how", ["batch", "stream"])
def test_it_gives_what_single_calls_give(predictor, how):
    frames = mixed()
    settings = {"scale": 0.5, "quantisation_step_m": 0.02, "max_depth_m": 1.4}
    together = list(getattr(predictor, how)(frames, **settings))
    assert len(together) == len(frames)
    for prediction, one in zip(together, frames, strict=True):
        same(prediction, predictor(*one, **settings))


def test_relative_depth_of_ones_own_among_frames_without(tiny_base):
    cpu, fp32 = torch.device("cpu"), torch.float32
    predictor = Predictor("base", NetworkRestorer(tiny_base, cpu, Precision(fp32, fp32)))
    frames = [frame() for _ in range(4)]
    relative = RANDOM.random((24, 32)).astype(np.float32)
    frames[1], frames[2] = (*frames[1], relative), (*frames[2], 1 - relative)
    for together in (predictor.batch(frames), predictor.stream(iter(frames))):
        for prediction, (rgb, depth, *own) in zip(together, frames, strict=True):
            same(prediction, predictor(rgb, depth, relative=own[0] if own else None))
    ignored = predictor(*frames[1][:2])
    assert np.abs(predictor.batch(frames)[1].depth_m - ignored.depth_m).max() > 1e-3


def test_one_array_for_all_frames_of_a_stream(tiny_edge):
    """As a camera's driver fills it."""
    cpu, fp32 = torch.device("cpu"), torch.float32
    predictor = Predictor("edge", NetworkRestorer(tiny_edge, cpu, Precision(fp32, fp32)))
    frames = [frame() for _ in range(3)]

    def camera():
        rgb, depth = np.empty_like(frames[0][0]), np.empty_like(frames[0][1])
        for seen in frames:
            rgb[:], depth[:] = seen
            yield rgb, depth
            rgb[:], depth[:] = 0, 0

    for prediction, one in zip(predictor.stream(camera()), frames, strict=True):
        same(prediction, predictor(*one))


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_so_many_frames_are_started_ahead(ahead):
    late = Late(ahead)

    def camera():
        for number, one in enumerate(numbered(5)):
            late.events.append(("read", [number + 1.0]))
            yield one

    for number, prediction in enumerate(Predictor("late", late).stream(camera())):
        assert (prediction.depth_m == number + 1).all()
        late.events.append(("taken", [number + 1.0]))
    order = [(what, numbers[0]) for what, numbers in late.events]
    assert len(order) == 4 * 5
    for number in range(1, 6):
        assert order.index(("finish", number)) == order.index(("taken", number)) - 1
        last_read = max(n for what, n in order[: order.index(("finish", number))] if what == "read")
        assert last_read == min(number + ahead, 5)


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("bad", [0, 2, 3])
def test_a_stream_ends_at_a_bad_frame_after_those_before_it(ahead, bad):
    frames = numbered(6)
    frames[bad] = (frames[bad][0], NO_DEPTH)
    read = iter(frames)
    predictions = []
    with pytest.raises(UserError, match=rf"frame {bad} \(the first is 0\): the depth has no valid pixel"):  # noqa: PT012
        for prediction in Predictor("late", Late(ahead)).stream(read):
            predictions.append(prediction.depth_m[0, 0])
    assert predictions == list(range(1, bad + 1))
    assert len(list(read)) == 6 - bad - 1, "frames after the bad one were read"


def test_what_the_source_raises_comes_after_the_frames_before_it():
    def camera():
        yield from numbered(2)
        raise OSError("unplugged")

    stream = Predictor("late", Late(1)).stream(camera())
    assert [next(stream).depth_m[0, 0] for _ in range(2)] == [1, 2]
    with pytest.raises(OSError, match="unplugged"):
        next(stream)


def test_a_result_that_is_not_finite_ends_the_stream_at_its_frame():
    """The next one has been started by then; it must not come in the place of the bad one."""

    class Breaks(Late):
        def start(self, levels):
            finish = super().start(levels)
            broken = levels[-1].frames[0].depth_m_hw[0, 0] == 2
            return lambda: [(depth_m * (np.nan if broken else 1), None) for depth_m, _ in finish()]

    stream = Predictor("breaks", Breaks(1)).stream(numbered(4))
    assert next(stream).depth_m[0, 0] == 1
    with pytest.raises(RuntimeError, match="breaks gave 768 values that are not finite"):
        next(stream)
    assert list(stream) == []


def test_a_stream_can_be_left():
    late = Late(1)
    stream = Predictor("late", late).stream(numbered(100))
    next(stream)
    stream.close()
    assert [what for what, _ in late.events] == ["start", "start", "finish"]


def test_frames_of_equal_sizes_go_together():
    late = Late(0)
    small, large = numbered(3), numbered(5, low=(12, 16))[3:]
    frames = [small[0], large[0], small[1], large[1], small[2]]
    depths = [prediction.depth_m[0, 0] for prediction in Predictor("late", late).batch(frames)]
    assert depths == [1, 4, 2, 5, 3]
    assert [numbers for what, numbers in late.events if what == "start"] == [[1, 2, 3], [4, 5]]
    assert [what for what, _ in late.events] == ["start", "start", "finish", "finish"]
    assert Predictor("late", late).batch([]) == []


def test_a_batch_with_a_bad_frame_is_not_computed():
    late = Late(0)
    frames = numbered(3)
    frames[1] = (frames[1][0][..., :2], frames[1][1])
    with pytest.raises(UserError, match=r"frame 1 \(the first is 0\): the RGB has shape 24×32×2"):
        Predictor("late", late).batch(frames)
    assert late.events == []


@pytest.mark.parametrize("wrong", [NO_DEPTH, (NO_DEPTH,), {"rgb": 1, "depth": 2}, (1, 2, 3, 4)])
def test_what_is_no_frame(wrong):
    predictor = Predictor("nearest", BaselineRestorer(BASELINES["nearest"]))
    for call in (predictor.batch, lambda frames: next(predictor.stream(frames))):
        with pytest.raises(UserError, match=r"frame 0 \(the first is 0\) is no frame; give \(rgb, depth\) or"):
            call([wrong])


def test_settings_that_make_no_sense_are_told_before_a_frame_is_read():
    def camera():
        raise AssertionError("a frame was read")
        yield

    for call in (load("nearest").batch, load("nearest").stream):
        with pytest.raises(UserError, match="protocol 'nyu' is unknown"):
            call(camera(), protocol="nyu")
        with pytest.raises(UserError, match="there is no setting 'colour'; there are scale, "):
            call(camera(), colour="red")
