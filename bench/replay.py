"""Hands samples that were measured elsewhere to pytest-benchmark, through the clock that it reads.

pytest-benchmark times one test after the other, and machines drift. Where contenders are to take turns, the first test
of a case measures them all, and every test replays its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_instants: Iterator[float] = iter(())


def recorded_clock() -> float:
    """What pytest-benchmark takes for the time (`@pytest.mark.benchmark(timer=...)`): before and after each sample."""
    return next(_instants)


def replay(benchmark, samples_s: Sequence[float]) -> None:
    """Let the `benchmark` fixture see these samples, in seconds."""
    global _instants
    _instants = (instant for sample_s in samples_s for instant in (0.0, sample_s))
    benchmark.pedantic(lambda: None, rounds=len(samples_s))
