"""CUDA graphs of a function of tensors: one for each combination of input sizes, recorded once and replayed with one
launch. A frame of `edge` is about 230 launches by the Triton kernels, and several times as many by the reference ops.

No GPU has run this so far: which graph is kept and when one is captured is tested on the CPU, with a capture of its
own; tests/test_cuda_runtime.py is for the first GPU.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from depthsr.ops.choice import active_backend

log = logging.getLogger(__name__)

#: Graphs kept. A program has a size or two. Pictures of all sizes must not leave one each behind: it keeps inputs and
#: results, 4 MB for a frame of 640×480 (the working memory is common to all), and a node for every launch.
GRAPHS = 16

#: torch allows one capture at a time in a process.
_capturing = threading.Lock()

Inputs = Sequence[Tensor | None]
Function = Callable[..., tuple[Tensor, ...]]


def capture(compute: Function, inputs: Inputs, stream: torch.cuda.Stream, pool: Any) -> Function:
    """A function that replays compute(*inputs), on the current stream, with whatever inputs of those sizes it is given.

    stream  where it is captured, and nothing else is ever queued: the working memory that cuBLAS keeps for a stream
            then lies in the graphs' pool, and no other work writes there.
    pool    torch.cuda.graph_pool_handle(): graphs of one pool share their working memory. They must all be captured on
            one stream and replayed on one other, in turns; results are copied out of it at once.

    Raises RuntimeError where compute does what a graph cannot hold, such as waiting for the device.
    """
    # Memory of the current stream, which replays will write to. Before a capture begins torch waits for the device.
    held = [None if tensor is None else torch.empty_like(tensor) for tensor in inputs]
    graph = torch.cuda.CUDAGraph()
    with _capturing:
        try:
            # torch.cuda.graph does not leave the stream where the capture fails. thread_local: others may allocate.
            with torch.cuda.stream(stream), torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
                results = compute(*held)
        except RuntimeError:
            _clean_up(stream, pool)
            raise

    def replay(*inputs: Tensor | None) -> tuple[Tensor, ...]:
        for mine, given in zip(held, inputs, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        graph.replay()
        return tuple(result.clone() for result in results)

    return replay


def _clean_up(stream: torch.cuda.Stream, pool: Any) -> None:
    """Ends what torch leaves open when a capture fails. To its allocator one is still under way, which keeps it from
    freeing what several streams use; its random numbers are still a graph's, until a capture ends well.
    """
    if hasattr(torch._C, "_cuda_endAllocateToPool") and hasattr(torch._C, "_cuda_releasePool"):
        with contextlib.suppress(RuntimeError):  # it is not open: the capture ended, and what failed came after
            torch._C._cuda_endAllocateToPool(stream.device_index, pool)
            torch._C._cuda_releasePool(stream.device_index, pool)
    scratch = torch.empty(1, device=stream.device)
    with (
        torch.cuda.stream(stream),
        torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream, capture_error_mode="thread_local"),
    ):
        scratch.zero_()


@dataclass
class _Size:
    """threads: those that have computed inputs of these sizes without a graph, by threading.get_ident()."""

    threads: set[int] = field(default_factory=set)
    replay: Function | None = None


class GraphCache:
    """`compute`, by graphs of the last `limit` combinations of input sizes and types, and implementations of the ops
    (depthsr.ops.backend). Not for several threads at once.

    The first inputs of their sizes are computed without: that warms up what must not happen while a graph is captured
    (libraries load, kernels compile), and a size that comes once is not worth a graph. cuBLAS and cuDNN warm up in each
    thread, so a graph is captured in one that has computed the size before. Where capturing fails, a warning says why,
    and everything is computed without from then on.
    """

    def __init__(self, compute: Function, capture: Callable[[Function, Inputs], Function], limit: int = GRAPHS) -> None:
        self._compute, self._capture, self._limit = compute, capture, limit
        self._sizes: OrderedDict[Hashable, _Size] = OrderedDict()
        self._works = True

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        if not self._works:
            return self._compute(*inputs)
        sizes = (None if tensor is None else (tensor.shape, tensor.dtype) for tensor in inputs)
        key = (active_backend(), *sizes)
        size = self._sizes.get(key) or _Size()
        if size.replay is None:
            thread = threading.get_ident()
            if thread not in size.threads:
                results = self._compute(*inputs)
                size.threads.add(thread)
                self._keep(key, size)
                return results
            try:
                size.replay = self._capture(self._compute, inputs)
            except RuntimeError as error:
                # Of the error at which the capture broke. The one when it ended says no more than that it had.
                first_line = str(error.__context__ or error).partition("\n")[0]
                log.warning("CUDA graphs are not used, and frames take longer: capturing one failed (%s).", first_line)
                self._works = False
                return self._compute(*inputs)
        self._keep(key, size)
        return size.replay(*inputs)

    def _keep(self, key: Hashable, size: _Size) -> None:
        self._sizes[key] = size
        self._sizes.move_to_end(key)
        if len(self._sizes) > self._limit:
            self._sizes.popitem(last=False)
