"""Choose the entries of kernels/block_sizes.py for the GPU at hand, in float16: one table entry after the other.

    python bench/tune_blocks.py FILE.json [--processes 12]

Tried are the entry as it is and its neighbours, one size doubled or halved. All are compiled first, in several
processes: that is most of the time. Then each is timed on frames of 640×480 and on the size at which a model for such
frames has that many channels, by replays of CUDA graphs; the least product of the two medians is chosen. Writes every
time, and prints the chosen entries, to be put into the table with commit and device where they are new.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bench_gpu import FORWARD, WITH_GRADIENT, arguments_of, call_of, captured, implementation_of, median_s
from depthsr.kernels.block_sizes import TABLE, Blocks, architecture_of, blocks_for, padded
from rows import provenance, write

DTYPE = torch.float16
CHANNELS = (16, 32, 64, 128)

#: Kind of kernel -> the op, and the direction, that is timed to choose its blocks. In this order: a gradient runs
#: kernels of the kinds before it too.
TIMED = {
    "input": ("naf_block", FORWARD),
    "depthwise": ("gated_depthwise", FORWARD),
    "input gradient": ("naf_block", WITH_GRADIENT),
    "weight": ("naf_block", WITH_GRADIENT),
}

#: Faster by less than this share is noise, and the table stays.
WORTH_WHILE = 0.03


@dataclass(frozen=True)
class Trial:
    kind: str
    channels: int
    blocks: Blocks

    def key(self, architecture: int) -> tuple[int, int, int]:
        """Of its entry in TABLE[kind]."""
        return padded(self.channels), DTYPE.itemsize, architecture


def sizes_of(channels: int) -> list[tuple[int, int]]:
    """Height and width of what is timed: a frame, and the stage of that many channels (16 at half the frame's size)."""
    return [(480, 640), (480 * 8 // channels, 640 * 8 // channels)]


def neighbours(blocks: Blocks, channels: int) -> list[Blocks]:
    """The blocks first; then those with one size, or tile and warps together, doubled or halved."""
    steps = [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 1), (-1, 0, -1)]
    found = [Blocks(*(int(side * 2.0**step) for side, step in zip(blocks, powers, strict=True))) for powers in steps]
    return [
        one for one in found if 16 <= one.pixels <= 256 and 16 <= one.columns <= padded(channels) and one.warps >= 1
    ]


def trials(kind: str, like: torch.Tensor) -> list[Trial]:
    """like: any tensor of the type and device."""
    return [
        Trial(kind, channels, blocks)
        for channels in CHANNELS
        for blocks in neighbours(blocks_for(kind, like, channels), channels)
    ]


@contextmanager
def in_the_table(trial: Trial, architecture: int) -> Iterator[None]:
    key = trial.key(architecture)
    before = TABLE[trial.kind].get(key)
    TABLE[trial.kind][key] = trial.blocks
    try:
        yield
    finally:
        del TABLE[trial.kind][key]
        if before is not None:
            TABLE[trial.kind][key] = before


def call(trial: Trial, size: tuple[int, int]):
    op, direction = TIMED[trial.kind]
    tensors, _ = arguments_of(op, (1, trial.channels, *size), DTYPE, "cuda")
    return call_of(implementation_of("triton", op), tensors, direction)


def compile_one(trial: Trial, architecture: int) -> str | None:
    """Into Triton's cache on disk. Why it does not run, or None: too much shared memory, for instance.

    For both sizes that are timed: Triton may compile a kernel anew for another size.
    """
    with in_the_table(trial, architecture):
        try:
            for size in sizes_of(trial.channels):
                call(trial, size)()
            torch.cuda.synchronize()
        except Exception as error:  # what a compiler may raise; the trial is left out and the reason written
            return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def times_ms(trial: Trial, architecture: int) -> list[float]:
    """Of one call, for each of sizes_of."""
    calls = 8
    with in_the_table(trial, architecture):
        return [
            1e3 * median_s(captured([call(trial, size) for _ in range(calls)])) / calls
            for size in sizes_of(trial.channels)
        ]


def best(times: dict[Trial, list[float]]) -> list[Trial]:
    """For each number of channels the fastest; the first, the table's own, unless another is WORTH_WHILE faster."""
    chosen = {}
    for trial, ms in times.items():
        now = chosen.get(trial.channels)
        if now is None or math.prod(ms) < math.prod(times[now]) * (1 - WORTH_WHILE) ** len(ms):
            chosen[trial.channels] = trial
    return list(chosen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--processes", type=int, default=8)
    arguments = parser.parse_args()

    like = torch.empty(1, dtype=DTYPE, device="cuda")
    architecture = architecture_of(like)
    content = provenance() | {"device": torch.cuda.get_device_name(), "architecture": architecture, "trials": []}
    compile_for_it = partial(compile_one, architecture=architecture)
    # Not multiprocessing.Pool, whose map waits for ever when a worker dies.
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        for kind in TIMED:
            tried = trials(kind, like)
            reasons = dict(zip(tried, pool.map(compile_for_it, tried), strict=True))
            times = {trial: times_ms(trial, architecture) for trial in tried if reasons[trial] is None}
            content["trials"] += [
                {"kind": kind, "channels": trial.channels, **trial.blocks._asdict()}
                | {"ms": times.get(trial), "fails": reasons[trial]}
                for trial in tried
            ]
            write(arguments.file, content)
            for trial in best(times):
                key = trial.key(architecture)
                is_new = trial.blocks != blocks_for(kind, like, trial.channels)
                print(f"{kind}: {key}: {trial.blocks}{', new' if is_new else ''}  # {times[trial]} ms", flush=True)
                TABLE[kind][key] = trial.blocks  # for the kinds that follow


if __name__ == "__main__":
    main()
