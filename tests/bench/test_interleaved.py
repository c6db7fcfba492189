"""Timing in turns, on a clock of our own: every call takes as long as the test says."""

from __future__ import annotations

import gc

import pytest

from interleaved import Budget, times_s


class Clock:
    """Contenders that last a given time, and what was called when."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now_s

    def lasting(self, name: str, *durations_s: float):
        """Its n-th call lasts the n-th of these, later ones the last."""
        left = list(durations_s)

        def call() -> None:
            self.calls.append(name)
            self.now_s += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_contenders_take_turns_and_the_first_call_of_a_turn_does_not_count(clock):
    budget = Budget(turn_s=1.0, contender_s=8.0, turns=1, slow_s=10.0)
    contenders = {"a": clock.lasting("a", 9.0, 2.0, 9.0, 2.5), "b": clock.lasting("b", 1.0)}
    samples_s = times_s(contenders, budget, clock)
    # a has spent its eight seconds in its first turn, and b goes on alone, two seconds a turn
    assert clock.calls == ["a", "a", "b", "b", "b", "b", "b", "b", "b", "b"]
    assert samples_s == {"a": [2.0], "b": [1.0, 1.0, 1.0, 1.0]}


def test_turns_alternate_while_both_have_time_left(clock):
    contenders = {"a": clock.lasting("a", 3.0), "b": clock.lasting("b", 3.0)}
    times_s(contenders, Budget(turn_s=1.0, contender_s=12.0, turns=1, slow_s=10.0), clock)
    assert clock.calls == ["a", "a", "b", "b", "a", "a", "b", "b"]


def test_short_calls_fill_their_turn(clock):
    samples_s = times_s({"a": clock.lasting("a", 0.25)}, Budget(turn_s=1.0, contender_s=1.0, turns=1), clock)
    assert samples_s == {"a": [0.25] * 4}
    assert len(clock.calls) == 5


def test_a_slow_contender_still_gets_its_turns(clock):
    contenders = {"slow": clock.lasting("slow", 50.0), "fast": clock.lasting("fast", 1.0)}
    samples_s = times_s(contenders, Budget(turn_s=0.5, contender_s=6.0, turns=3, slow_s=9.0), clock)
    assert clock.calls.count("slow") == 4  # the first of its first turn was not counted
    assert clock.calls.count("fast") == 6
    assert samples_s == {"slow": [50.0] * 3, "fast": [1.0] * 3}


def test_garbage_collection_waits_and_comes_back(clock):
    states = []
    call = clock.lasting("a", 1.0)

    def contender() -> None:
        states.append(gc.isenabled())
        call()

    assert gc.isenabled()
    times_s({"a": contender}, Budget(turn_s=1.0, contender_s=1.0, turns=1), clock)
    assert states == [False, False]
    assert gc.isenabled()


def test_garbage_collection_comes_back_after_a_failure(clock):
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        times_s({"a": fail}, clock=clock)
    assert gc.isenabled()
