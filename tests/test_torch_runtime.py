"""What the torch runtime does on the device: that the host need not wait for it, its numbers, and its order on CUDA.

On the CPU: tensors without values, and streams that only note what is queued on them. What needs a GPU is in
tests/test_cuda_runtime.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depthsr.cuda_graphs import capture
from depthsr.cuda_pipeline import CudaPipeline
from depthsr.inputs import check_rgb
from depthsr.models import prior
from depthsr.models.network import DepthSR
from depthsr.precision import Precision
from depthsr.torch_runtime import NetworkRestorer, restore_on_device
from depthsr.wide_holes import Level

pytestmark = pytest.mark.usefixtures("one_thread")


def batch(size=(24, 32), low=(6, 8), count=2, seed=0) -> list[Tensor]:
    """uint8 RGB, metres with NaN, steps, ranges and relative depth: the arguments of `restore_on_device`."""
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)
    depth_m = 1 + 2 * torch.rand((count, *low), generator=generator)
    depth_m[:, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    step_m = torch.tensor([0.0, 0.25, 0.02])[:count]
    range_m = torch.tensor([2.5, 0.0, 9.0])[:count]
    return [rgb, depth_m, step_m, range_m, torch.rand((count, *size), generator=generator)]


def filling(low=(6, 8), half=(12, 16), count=2) -> list[Tensor]:
    """Where wide holes are, the number of each frame's half, and three halves' depth: what fills them."""
    generator = torch.Generator().manual_seed(0)
    deep = torch.rand((count, *low), generator=generator) < 0.5
    return [deep, torch.tensor([2, 0, 1, 2])[:count], 1 + 2 * torch.rand((3, 1, *half), generator=generator)]


# --- the host does not wait ------------------------------------------------------------------------------------------


class HostWaits(Exception):
    pass


class OneDevice(TorchDispatchMode):
    """Raises where an operation has tensors of two devices, as a copy from one to the other has."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves((args, results)) if isinstance(leaf, Tensor)}
        if len(devices) > 1:
            raise HostWaits(f"{func.name()} between {devices}")
        return results


@pytest.fixture
def restore_without_data(monkeypatch) -> Callable[..., tuple[Tensor, ...]]:
    """restore_on_device(model, *inputs) on the device "meta", whose tensors have sizes and no values.

    So whatever asks for a value, or for a number of elements that depends on values, raises; and so do copies, also of
    Python's numbers.
    """

    def copies_numbers(*_: object, **__: object) -> Tensor:
        raise HostWaits("numbers are copied to the device")

    # There is no autocast for it. In float32 it is switched off anyway.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)

    def run(model: DepthSR, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        model.to("meta")
        there = [None if tensor is None else tensor.to("meta") for tensor in inputs]
        with OneDevice(), monkeypatch.context() as patched:
            patched.setattr(torch, "tensor", copies_numbers)
            patched.setattr(torch, "as_tensor", copies_numbers)
            return restore_on_device(model, *there)

    return run


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("name", ["edge", "base", "base with relative depth"])
def test_nothing_between_upload_and_download_needs_the_host(name, filled, request, restore_without_data):
    model = request.getfixturevalue("tiny_edge" if name == "edge" else "tiny_base")
    *inputs, relative = batch()
    inputs.append(relative if "with" in name else None)
    results = restore_without_data(model, *inputs, *(filling() if filled else ()))
    for result in results:
        assert (result.device.type, result.shape, result.dtype) == ("meta", (2, 1, 24, 32), torch.float32)


def _valid_alone(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return depth_m_B1hw[valid_B1hw].amax().expand(len(depth_m_B1hw))


def _by_item(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return depth_m_B1hw.new_full((len(depth_m_B1hw),), depth_m_B1hw[0, 0, 3, 3].item())


def _by_the_cpu(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return depth_m_B1hw[:, 0, 3, 3].cpu().to(depth_m_B1hw.device)


def _from_the_host(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return torch.full((2,), 3.0, device="cpu").to(depth_m_B1hw.device)


def _of_numbers(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    return torch.tensor([3.0, 4.0], device=depth_m_B1hw.device)


@pytest.mark.parametrize("waits", [_valid_alone, _by_item, _by_the_cpu, _from_the_host, _of_numbers])
def test_the_test_above_can_fail(waits, tiny_edge, restore_without_data, monkeypatch):
    """Five ways of finding the range of depths that wait for the device; on the CPU all of them work."""
    monkeypatch.setattr(prior, "depth_range_m", waits)
    inputs = batch()[:4]
    assert all(result.isfinite().all() for result in restore_on_device(tiny_edge, *inputs))
    with pytest.raises((HostWaits, RuntimeError), match=r"between|meta|numbers"):
        restore_without_data(tiny_edge, *inputs)


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_rgb_is_divided_on_the_device_as_by_check_rgb():
    every_value = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)

    class Sees:
        def infer(self, rgb_B3HW, *rest, **settings):
            return rgb_B3HW

    seen = restore_on_device(Sees(), torch.from_numpy(every_value)[None], *batch(count=1)[1:4])
    np.testing.assert_array_equal(seen[0].permute(1, 2, 0).numpy(), check_rgb(every_value))


def test_each_frame_of_a_batch_has_its_own_step_and_range(tiny_edge):
    """As numbers they give the same, frame by frame; another frame's would not."""
    rgb, depth_m, steps_m, ranges_m, _ = batch(count=3)
    together, errors = restore_on_device(tiny_edge, rgb, depth_m, steps_m, ranges_m)
    valid = torch.isfinite(depth_m)[:, None]
    infer = partial(tiny_edge.infer, rgb.permute(0, 3, 1, 2).float() / 255, depth_m[:, None], valid)
    for i in range(3):
        settings = {"quantisation_step_m": steps_m[i].item(), "max_depth_m": ranges_m[i].item() or None}
        alone, error = infer(**settings)
        torch.testing.assert_close(together[i], alone[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(errors[i], error[i], rtol=1e-5, atol=1e-6)
        assert (together[i - 1] - alone[i - 1]).abs().max() > 1e-3
    assert together[0].max() <= 2.5 < together[1:].max()


@pytest.mark.parametrize(("low", "half"), [((6, 8), (11, 15)), ((7, 5), (13, 9)), ((24, 32), (7, 9))])
def test_wide_holes_are_filled_by_each_frames_half(low, half):
    """As depthsr.wide_holes fills them on the host. Halves of odd sides: of two pixels that are equally near, torch and
    releases of OpenCV take either."""

    class Sees:
        def infer(self, *_, filling_m_B1hw, **settings):
            return filling_m_B1hw, None

    deep, number, halves_m = filling(low, half, count=3)
    filling_m, _ = restore_on_device(Sees(), *batch(low=low, count=3)[:4], None, deep, number, halves_m)
    level = Level([None] * 3, list(deep.numpy()), number.tolist())
    expected_m = level.fillings_m(halves_m[:, 0].numpy())
    np.testing.assert_array_equal(filling_m[:, 0].numpy(), expected_m)
    assert (filling_m.isfinite() == deep[:, None]).all()


@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_a_part_of_what_fills_wide_holes_is_a_mistake(missing, tiny_edge):
    given = [None if number in missing else tensor for number, tensor in enumerate(filling())]
    with pytest.raises(TypeError, match="all of them or none"):
        restore_on_device(tiny_edge, *batch()[:4], None, *given)


def test_a_number_and_a_tensor_of_it_are_the_same(tiny_edge):
    rgb, depth_m, *_ = batch()
    valid = torch.isfinite(depth_m)[:, None]
    infer = partial(tiny_edge.infer, rgb.permute(0, 3, 1, 2).float() / 255, depth_m[:, None], valid)
    for step_m, range_m in ((0.0, None), (0.25, 2.5)):
        numbers = infer(quantisation_step_m=step_m, max_depth_m=range_m)
        tensors = infer(quantisation_step_m=torch.full((2,), step_m), max_depth_m=torch.full((2,), range_m or 0.0))
        for one, other in zip(numbers, tensors, strict=True):
            assert torch.equal(one, other)


# --- Depth Anything --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_depth_anything_attends_by_sdpa_in_the_type_of_its_weights(tiny_base, dtype, monkeypatch):
    """Its norms too, which autocast would compute in float32."""
    attend = torch.nn.functional.scaled_dot_product_attention
    attended, normed = [], []

    def spy(query, *rest, **settings):
        attended.append(query.dtype)
        return attend(query, *rest, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    tiny_base.to(dtype)
    for module in tiny_base.depth_anything.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda module, inputs, output: normed.append(output.dtype))
    restore_on_device(tiny_base, *batch()[:4])
    assert attended == [dtype] * tiny_base.config.depth_anything.layers
    assert len(normed) > len(attended)
    assert set(normed) == {dtype}


def test_depth_anything_trains_in_autocast(tiny_base):
    """Weights in float32: their layers compute in what the trainer asks for."""
    seen = []
    projection = tiny_base.depth_anything.network.backbone.embeddings.patch_embeddings.projection
    projection.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tiny_base.depth_anything(torch.rand(1, 3, 24, 32))
    assert seen == [torch.bfloat16]


# --- order on CUDA ---------------------------------------------------------------------------------------------------


class Stream:
    """Notes what is queued, in one list for all streams: (stream, what). Everything is computed at once, on the CPU."""

    log: list[tuple[str, str]]
    current: Stream
    names = ("upload", "compute", "download", "capturing")

    device, device_index = torch.device("cpu"), 3

    def __init__(self, *_: object, name: str | None = None) -> None:
        self.name = name or self.names[len({stream for stream, _ in self.log if stream in self.names})]
        self.note("made")

    def note(self, what: str) -> None:
        self.log.append((self.name, what))

    def wait_stream(self, other: Stream) -> None:
        self.note(f"after {other.name}")

    def record_event(self) -> Stream:
        self.note("event")
        return self

    def synchronize(self) -> None:
        self.note("waited for")


class Graph:
    """What is captured says itself, in `again`, how its results are computed once more."""

    again: Callable[[], object]

    def replay(self) -> None:
        Stream.current.note("replay")
        Graph.again()


@pytest.fixture
def streams(monkeypatch) -> list[tuple[str, str]]:
    """torch.cuda's streams and graphs as above; the log."""

    @contextlib.contextmanager
    def stream(one: Stream):
        before, Stream.current = Stream.current, one
        try:
            yield
        finally:
            Stream.current = before

    @contextlib.contextmanager
    def capturing(graph, pool=None, stream=None, *, capture_error_mode):
        before, Stream.current = Stream.current, stream
        Stream.current.note(f"capture into {pool}")
        try:
            yield
        except RuntimeError:
            raise RuntimeError("capture_end failed")  # noqa: B904  # as torch: on that stream still, and "from" nothing
        Stream.current = before

    to = Tensor.to

    def copied(tensor: Tensor, *where, non_blocking=False, **how):
        if not non_blocking:
            return to(tensor, *where, **how)
        Stream.current.note(f"copy to {where[0]}")
        return tensor.clone()

    Stream.log = []
    Stream.current = Stream(name="caller")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream.current)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "the pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(Tensor, "to", copied)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: stream.note("holds"))
    return Stream.log


def test_copies_and_computation_wait_for_each_other_and_hold_their_memory(streams):
    def compute(a, b):
        assert b is None
        Stream.current.note("compute")
        return 2 * a, 3 * a

    pipeline = CudaPipeline(compute, torch.device("cuda"))
    frames = [torch.rand(size) for size in (2, 3, 4)]  # sizes that come once: no graphs
    streams.clear()
    finishes = [pipeline.queue([[frame, None]]) for frame in frames]
    queued = [
        ("compute", "after caller"),
        ("upload", "copy to cuda"),
        ("compute", "after upload"),
        ("compute", "holds"),
        ("compute", "compute"),
        ("download", "after compute"),
        ("download", "holds"),
        ("download", "holds"),
        ("download", "copy to cpu"),
        ("download", "copy to cpu"),
        ("download", "event"),
    ]
    assert streams == queued * 3
    for finish, frame in zip(finishes, frames, strict=True):
        doubled, tripled = finish()
        assert torch.equal(doubled, 2 * frame)
        assert torch.equal(tripled, 3 * frame)
    assert streams[len(queued) * 3 :] == [("download", "waited for")] * 3


def test_the_callers_mode_changes_nothing(streams):
    """No result has a gradient or is an inference tensor, and a graph of one mode is replayed in another."""
    weight = torch.rand(3, requires_grad=True)
    made = []

    def compute(a):
        result = a * weight
        Graph.again = lambda: result.copy_(a * weight)
        made.append(result)
        return (result,)

    pipeline = CudaPipeline(compute, torch.device("cuda"))
    for mode in (torch.inference_mode, torch.inference_mode, contextlib.nullcontext, torch.inference_mode):
        frame = torch.rand(3)
        with mode():
            finish = pipeline.queue([[frame]])
        assert torch.equal(finish()[0], frame * weight)
        made.append(finish()[0])
    assert len(made) == 4 + 2
    assert not any(tensor.is_inference() or tensor.requires_grad for tensor in made)


def test_a_call_takes_the_first_result_of_the_one_before_where_it_lies(streams):
    """Nothing is downloaded between them, and the host waits for nothing."""

    def compute(a, before=None):
        Stream.current.note("compute")
        return (2 * a if before is None else a + before.sum()), -a

    pipeline = CudaPipeline(compute, torch.device("cuda"))
    coarse, middle, fine = (torch.rand(size) for size in (2, 3, 4))
    streams.clear()
    finish = pipeline.queue([[coarse], [middle], [fine]])
    call = [("upload", "copy to cuda"), ("compute", "after upload"), ("compute", "holds"), ("compute", "compute")]
    assert streams[:-6] == [("compute", "after caller"), *call * 3]
    assert [who for who, _ in streams[-6:]] == ["download"] * 6
    first, second = finish()
    torch.testing.assert_close(first, fine + (middle + 2 * coarse.sum()).sum())
    assert torch.equal(second, -fine)


def test_a_graph_computes_what_lies_in_its_inputs_and_its_results_are_copied_out(streams):
    def compute(a, b):
        result = 2 * a
        Graph.again = lambda: result.copy_(2 * a)
        return (result,)

    frames = [torch.rand(3) for _ in range(4)]
    replay = capture(compute, [frames[0], None], Stream(name="capturing"), "the pool")
    streams.clear()
    results = [replay(frame, None)[0] for frame in frames]
    for result, frame in zip(results, frames, strict=True):
        assert torch.equal(result, 2 * frame)
    assert streams == [("caller", "replay")] * 4


def test_sizes_that_come_again_are_replayed_in_the_pipeline(streams):
    def compute(a):
        result = 2 * a
        Graph.again = lambda: result.copy_(2 * a)
        return (result,)

    pipeline = CudaPipeline(compute, torch.device("cuda"))
    frames = [torch.rand(3) for _ in range(4)]
    for finish, frame in zip([pipeline.queue([[frame]]) for frame in frames], frames, strict=True):
        assert torch.equal(finish()[0], 2 * frame)
    assert [entry for entry in streams if entry[1] in ("capture into the pool", "replay")] == [
        ("capturing", "capture into the pool"), *[("compute", "replay")] * 3,
    ]  # fmt: skip


def test_without_graphs_sizes_that_come_again_are_computed_anew(streams, tiny_edge):
    """As the restorer is told; and its results are those of `restore_on_device`."""
    restorer = NetworkRestorer(tiny_edge, torch.device("cuda"), Precision(torch.float32, torch.float32), graphs=False)
    *inputs, _ = batch()
    for _ in range(4):
        for result, wanted in zip(restorer._queue([inputs])(), restore_on_device(tiny_edge, *inputs), strict=True):
            assert torch.equal(result, wanted)
    assert sum(what == "copy to cuda" for _, what in streams) == 4 * len(inputs)
    assert not any("capture" in what or what == "replay" for _, what in streams)


@pytest.fixture(params=[True, False], ids=["torch can end it", "torch cannot"])
def ended_pools(request, monkeypatch) -> list[tuple]:
    """Calls of torch's functions that end an allocator's pool; where they do not exist, None can be."""
    calls: list[tuple] = []
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        if request.param:
            monkeypatch.setattr(torch._C, name, lambda *args, name=name: calls.append((name, *args)), raising=False)
        else:
            monkeypatch.delattr(torch._C, name, raising=False)
    return calls


def test_what_a_failed_capture_leaves_open_is_ended(streams, ended_pools, caplog):
    """And the next frame is computed on the right stream; the warning says what broke the capture."""

    def waits(a):
        Stream.current.note("compute")
        if Stream.current.name == "capturing":
            raise RuntimeError("operation not permitted when stream is capturing\nand more lines")
        return (2 * a,)

    pipeline = CudaPipeline(waits, torch.device("cuda"))
    frames = [torch.rand(3) for _ in range(4)]
    for frame in frames:
        assert torch.equal(pipeline.queue([[frame]])()[0], 2 * frame)
    assert [entry for entry in streams if entry[1].startswith(("capture", "compute"))] == [
        ("compute", "compute"),
        ("capturing", "capture into the pool"),
        ("capturing", "compute"),
        ("capturing", "capture into None"),
        *[("compute", "compute")] * 3,
    ]
    assert ended_pools in ([], [("_cuda_endAllocateToPool", 3, "the pool"), ("_cuda_releasePool", 3, "the pool")])
    (record,) = caplog.records
    assert "capturing one failed (operation not permitted when stream is capturing)." in record.message


def test_a_pool_that_torch_ended_itself_is_not_released_twice(streams, monkeypatch):
    """Its own error is not the one that the caller sees."""

    def ended(*_):
        raise RuntimeError("not currently recording")

    def fails(a):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *_: pytest.fail("released"), raising=False)
    with pytest.raises(RuntimeError, match="capture_end failed"):
        capture(fails, [torch.rand(3)], Stream(name="capturing"), "the pool")
    assert streams[-1] == ("capturing", "capture into None")
    assert Stream.current.name == "caller"
