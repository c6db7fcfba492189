"""Frames through a function on an NVIDIA GPU: while one is computed, the next is uploaded and the last downloaded.

No GPU has run this so far: tests/test_cuda_runtime.py is for the first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from depthsr.cuda_graphs import Function, GraphCache, Inputs, capture


class CudaPipeline:
    """Uploads, computes and downloads on a stream each; the host waits for nothing but finished results. Graphs are
    captured on a fourth.

    compute  takes tensors (or None) on the device, returns tensors there, and does not wait for the device.
    graphs   whether sizes that come again are captured as CUDA graphs. To capture one stops the whole device.
    """

    def __init__(self, compute: Function, device: torch.device, *, graphs: bool = True) -> None:
        self._device = device
        self._upload, self._compute, self._download, capturing = (torch.cuda.Stream(device) for _ in range(4))
        self._run = compute
        if graphs:
            self._run = GraphCache(compute, partial(capture, stream=capturing, pool=torch.cuda.graph_pool_handle()))
        self._one_at_a_time = threading.Lock()  # a graph has one place for its inputs

    # Whatever the caller's mode: what is captured in inference_mode can be written to in no other, and torch 2.10 keeps
    # what it makes in the first capture for everyone's.
    @torch.inference_mode(False)
    @torch.no_grad()
    def queue(self, calls: Sequence[Inputs]) -> Callable[[], tuple[Tensor, ...]]:
        """Queue calls one after the other; the function returned waits for the last one's results, on the host.

        calls  the inputs of each, on the host, in pinned memory, or the copy would not run beside anything. They may be
               dropped at once. From the second on a call also gets, last, the first result of the one before.
        """
        with self._one_at_a_time:
            # After what the caller has queued, too: weights that it has just changed, for instance.
            self._compute.wait_stream(torch.cuda.current_stream(self._device))
            results: tuple[Tensor, ...] = ()
            for inputs in calls:
                with torch.cuda.stream(self._upload):
                    there = [
                        None if tensor is None else tensor.to(self._device, non_blocking=True) for tensor in inputs
                    ]
                work = partial(self._run, *there, *results[:1])
                results = self._next(self._upload, self._compute, there, work)
            here = self._next(
                self._compute,
                self._download,
                results,
                lambda: tuple(result.to("cpu", non_blocking=True) for result in results),  # into pinned memory
            )
            done = self._download.record_event()

        def finish() -> tuple[Tensor, ...]:
            done.synchronize()
            return tuple(result.clone() for result in here)  # pinned memory is scarce, and wanted for the next frame

        return finish

    @staticmethod
    def _next(
        before: torch.cuda.Stream, stream: torch.cuda.Stream, tensors: Inputs, work: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What `work` queues on `stream`, after what `before` has by now, of which it takes these tensors."""
        stream.wait_stream(before)
        for tensor in tensors:
            if tensor is not None:
                tensor.record_stream(stream)  # or `before` would reuse their memory as soon as they are dropped
        with torch.cuda.stream(stream):
            return work()
