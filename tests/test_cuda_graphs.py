"""Which graphs are captured and kept, with a capture that needs no GPU; tests/test_cuda_runtime.py has the real one."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from depthsr import ops
from depthsr.cuda_graphs import GraphCache


class Recorder:
    """Computes the sum and the difference of two tensors, and knows how."""

    def __init__(self, limit: int = 16) -> None:
        self.eager: Counter[tuple] = Counter()
        self.captured: Counter[tuple] = Counter()
        self.replayed: Counter[tuple] = Counter()
        self.cache = GraphCache(self.compute, self.capture, limit)

    def compute(self, a, b):
        self.eager[tuple(a.shape)] += 1
        return self.results(a, b)

    @staticmethod
    def results(a, b):
        return (a, a) if b is None else (a + b, a - b)

    def capture(self, compute, inputs):
        assert compute == self.compute
        shape = tuple(inputs[0].shape)
        self.captured[shape] += 1

        def replay(*inputs):
            assert tuple(inputs[0].shape) == shape
            self.replayed[shape] += 1
            return self.results(*inputs)

        return replay

    def __call__(self, *shape: int, dtype=torch.float32, alone: bool = False) -> None:
        a, b = torch.randint(0, 9, (2, *shape)).to(dtype)
        results = self.cache(a, None if alone else b)
        for result, wanted in zip(results, self.results(a, None if alone else b), strict=True):
            assert torch.equal(result, wanted)


def test_a_size_is_captured_when_it_comes_again_and_replayed_from_then_on():
    recorder = Recorder()
    for _ in range(5):
        recorder(2, 3)
        recorder(3, 2)
    for counter, times in ((recorder.eager, 1), (recorder.captured, 1), (recorder.replayed, 4)):
        assert counter == {(2, 3): times, (3, 2): times}


def test_types_and_absent_inputs_tell_graphs_apart():
    recorder = Recorder()
    for _ in range(3):
        recorder(2, 3)
        recorder(2, 3, dtype=torch.uint8)
        recorder(2, 3, alone=True)
    assert recorder.captured == {(2, 3): 3}
    assert recorder.eager == {(2, 3): 3}


def test_a_graph_is_of_the_backend_that_it_was_captured_with():
    recorder = Recorder()
    for backend in ("auto", "reference", "auto", "reference", "reference"):
        with ops.backend(backend):
            recorder(2, 3)
    assert (recorder.eager[2, 3], recorder.captured[2, 3], recorder.replayed[2, 3]) == (2, 2, 3)


def test_the_least_recently_used_is_dropped():
    recorder = Recorder(limit=2)
    for size in (1, 1, 2, 2, 1, 3, 3):  # 2 is the oldest when 3 comes
        recorder(size)
    recorder(1)
    assert (recorder.captured[1,], recorder.replayed[1,]) == (1, 3)
    recorder(2)
    recorder(2)
    assert (recorder.eager[2,], recorder.captured[2,]) == (2, 2)


def test_many_sizes_that_come_once_are_never_captured():
    recorder = Recorder(limit=4)
    for size in range(1, 30):
        recorder(size)
    assert not recorder.captured
    assert len(recorder.cache._sizes) == 4


def test_a_thread_computes_a_size_before_it_captures_its_graph():
    """Which any thread then replays."""
    recorder = Recorder()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as third:

        def counts(thread: ThreadPoolExecutor) -> tuple[int, int, int]:
            thread.submit(recorder, 2, 3).result()
            return tuple(counter[2, 3] for counter in (recorder.eager, recorder.captured, recorder.replayed))

        assert [counts(thread) for thread in (one, other, other, one, third)] == [
            (1, 0, 0), (2, 0, 0), (2, 1, 1), (2, 1, 2), (2, 1, 3),
        ]  # fmt: skip


def test_threads_in_turns_do_not_put_the_capture_off_for_ever():
    recorder = Recorder()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread in (one, other, one, other):
            thread.submit(recorder, 2, 3).result()
    assert (recorder.eager[2, 3], recorder.captured[2, 3], recorder.replayed[2, 3]) == (2, 1, 2)


def test_where_capturing_fails_a_warning_says_why_once(caplog):
    recorder = Recorder()
    attempts = []

    def fails(compute, inputs):
        attempts.append(inputs)
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")

    recorder.cache = GraphCache(recorder.compute, fails)
    with caplog.at_level(logging.WARNING, logger="depthsr"):
        for _ in range(4):
            recorder(2, 3)
            recorder(5)
    assert len(attempts) == 1
    (record,) = caplog.records
    assert record.message == (
        "CUDA graphs are not used, and frames take longer: capturing one failed "
        "(operation not permitted when stream is capturing)."
    )
    assert recorder.eager == {(2, 3): 4, (5,): 4}


def test_a_mistake_in_the_computation_is_not_taken_for_a_failed_capture():
    def computes(a):
        raise ValueError("wrong sizes")

    cache = GraphCache(computes, lambda compute, inputs: pytest.fail("captured"))
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong sizes"):
            cache(torch.ones(2))
