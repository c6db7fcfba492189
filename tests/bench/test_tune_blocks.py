"""Choosing block sizes: what is tried, and which of the measured is chosen."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton exists for Linux only")

import tune_blocks
from depthsr.kernels.block_sizes import TABLE, Blocks, blocks_for
from tune_blocks import CHANNELS, DTYPE, TIMED, Trial, best, compile_one, in_the_table, neighbours, sizes_of, trials

LIKE = torch.empty(1, dtype=DTYPE)


def test_neighbours_differ_in_a_size_and_stay_within_the_kernels_limits():
    assert neighbours(Blocks(64, 32, 4), 64) == [
        (64, 32, 4), (128, 32, 4), (32, 32, 4), (64, 64, 4), (64, 16, 4), (64, 32, 8), (64, 32, 2), (128, 32, 8),
        (32, 32, 2),
    ]  # fmt: skip
    for one in neighbours(Blocks(16, 16, 1), 16):
        assert min(one.pixels, one.columns) >= 16
        assert one.warps >= 1


@pytest.mark.parametrize("kind", TIMED)
def test_the_tables_own_entry_is_tried_first_for_each_width(kind):
    tried = trials(kind, LIKE)
    assert len(set(tried)) == len(tried)
    for channels in CHANNELS:
        first = next(trial for trial in tried if trial.channels == channels)
        assert first.blocks == blocks_for(kind, LIKE, channels)


def test_every_kind_of_kernel_is_tuned():
    assert set(TIMED) == set(TABLE)


def test_a_trial_is_in_the_table_only_while_it_is_timed():
    before = dict(TABLE["input"])
    with in_the_table(Trial("input", 9, Blocks(32, 16, 8)), architecture=90):
        assert TABLE["input"][16, 2, 90] == Blocks(32, 16, 8)
    assert TABLE["input"] == before


def test_the_tables_entry_stays_unless_another_is_clearly_faster():
    now, nearly, faster = (Trial("input", 16, Blocks(pixels, 16, 4)) for pixels in (64, 32, 128))
    other = Trial("input", 32, Blocks(64, 16, 4))
    times = {now: [1.0, 0.1], nearly: [0.99, 0.099], other: [3.0, 1.0]}
    assert best(times) == [now, other]
    assert best(times | {faster: [1.1, 0.05]}) == [faster, other]


def test_what_is_timed_is_compiled_before(monkeypatch):
    """And a trial that one of its sizes is too much for is left out, with the reason."""
    trial, sizes = Trial("input", 64, Blocks(32, 16, 8)), []

    def call(called, size):
        assert called == trial
        assert TABLE["input"][64, 2, 90] == trial.blocks
        return lambda: sizes.append(size)

    monkeypatch.setattr(tune_blocks, "call", call)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert compile_one(trial, architecture=90) is None
    assert sizes == sizes_of(64)
    monkeypatch.setattr(tune_blocks, "call", lambda _, size: lambda: {sizes[0]: 1}[size])
    assert compile_one(trial, architecture=90) == f"KeyError: {sizes[1]}"
