"""The order in which CudaPipeline queues work on its streams: streams that only note it, and compute on the CPU.

What needs a GPU is in tests/test_cuda_runtime.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from depthsr.cuda_graphs import capture
from depthsr.cuda_pipeline import CudaPipeline
from depthsr.precision import Precision
from depthsr.torch_runtime import NetworkRestorer, restore_on_device

pytestmark = pytest.mark.usefixtures("one_thread")


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
    rgb = torch.randint(0, 256, (2, 24, 32, 3), dtype=torch.uint8)
    inputs = [rgb, 1 + torch.rand(2, 6, 8), torch.tensor([0.0, 0.25]), torch.tensor([2.5, 0.0])]
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
