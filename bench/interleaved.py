"""Time several functions in turns, so that whatever slows the machine for a while slows them all."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    turn_s      a turn goes on until it has lasted this long, and takes at least one sample.
    contender_s a contender that has run for this long in all takes no further turn,
    turns       unless it has had fewer than this many.
    slow_s      after a call of this length it needs no call that is not counted: it outlasts what was in the caches.
    """

    turn_s: float = 0.03
    contender_s: float = 0.6
    turns: int = 3
    slow_s: float = 1.0


def times_s(
    contenders: Mapping[str, Callable[[], object]],
    budget: Budget = Budget(),  # frozen
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call of each function, by its name.

    Every turn begins with a call that is not counted: the contender before has filled the caches with its own data,
    and threads of its own may take a moment to fall asleep.
    """
    samples_s: dict[str, list[float]] = {name: [] for name in contenders}
    spent_s = dict.fromkeys(contenders, 0.0)
    turns = dict.fromkeys(contenders, 0)
    collected = gc.isenabled()
    gc.disable()
    try:
        while waiting := [n for n in contenders if spent_s[n] < budget.contender_s or turns[n] < budget.turns]:
            for name in waiting:
                start = clock()
                if not samples_s[name] or samples_s[name][-1] < budget.slow_s:
                    contenders[name]()
                first = before = clock()
                while before - first < budget.turn_s:
                    contenders[name]()
                    after = clock()
                    samples_s[name].append(after - before)
                    before = after
                spent_s[name] += before - start
                turns[name] += 1
    finally:
        if collected:
            gc.enable()
    return samples_s
