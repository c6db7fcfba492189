"""How a kernel's work is cut into programs: one table, keyed by kernel, channels, storage type and architecture.

No entry is measured. Each is a guess from two counts that ahead-of-time compilation gives
(tests/ops/test_triton_compiles.py): no register spill, and shared memory within the 99 KiB that a program may have on
sm_86. In float32 at 128 channels the three kernels of the feed-forward half still spill (64 to 456 bytes a thread on
sm_86): three TF32 products hold every factor twice. Wider in float32, their gradient needs 160 KiB, and naf_block takes
no more than MAX_BLOCK_CHANNELS_FLOAT32. An entry that replaces a guess names the measurement that chose it,
bench/tune_blocks.py's, and the architecture it was taken on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor


class Blocks(NamedTuple):
    """pixels: rows of a tile, at least 16; columns: channels a step of the inner loop takes; warps a program."""

    pixels: int
    columns: int
    warps: int


#: The number that stands for every architecture without an entry of its own.
ANY = 0

#: Kernels with a dot product read their weights once a program, so tiles are as tall as registers allow: a program
#: holds about four tiles of float32 values, 32 of them a thread each at pixels × channels = 1024 × warps.
_INPUT = {
    (16, 2): Blocks(128, 16, 4),
    (32, 2): Blocks(128, 32, 4),
    (64, 2): Blocks(64, 32, 4),
    (128, 2): Blocks(32, 32, 4),
    (256, 2): Blocks(32, 16, 8),
    (16, 4): Blocks(64, 16, 4),
    (32, 4): Blocks(64, 16, 4),
    (64, 4): Blocks(32, 16, 4),
    (128, 4): Blocks(32, 16, 8),
    (256, 4): Blocks(16, 16, 8),
}

#: The feed-forward half's gradient holds six tiles: more warps for the same tile, or smaller ones.
_INPUT_GRADIENT = _INPUT | {
    (32, 2): Blocks(64, 32, 4),
    (64, 2): Blocks(32, 32, 4),
    (128, 2): Blocks(32, 16, 8),
    (256, 2): Blocks(16, 16, 8),
    (32, 4): Blocks(32, 16, 4),
    (64, 4): Blocks(32, 16, 8),
    (128, 4): Blocks(16, 16, 8),
}

#: Kernels that sum weight gradients keep up to three accumulators of columns × channels, and step over short tiles.
_WEIGHT = {
    (16, 2): Blocks(64, 16, 4),
    (32, 2): Blocks(32, 32, 4),
    (64, 2): Blocks(32, 32, 4),
    (128, 2): Blocks(32, 16, 4),
    (256, 2): Blocks(32, 16, 8),
    (16, 4): Blocks(32, 16, 4),
    (32, 4): Blocks(32, 16, 4),
    (64, 4): Blocks(32, 16, 8),
    (128, 4): Blocks(16, 16, 8),
    (256, 4): Blocks(16, 16, 8),
}

#: Depthwise kernels have no dot product: a tile is pixels of one row by columns of the channels.
_DEPTHWISE = {
    (16, 2): Blocks(64, 16, 4),
    (32, 2): Blocks(32, 32, 4),
    (64, 2): Blocks(32, 32, 4),
    (128, 2): Blocks(32, 32, 4),
    (256, 2): Blocks(32, 32, 4),
    (16, 4): Blocks(64, 16, 4),
    (32, 4): Blocks(32, 32, 4),
    (64, 4): Blocks(32, 32, 4),
    (128, 4): Blocks(32, 32, 4),
    (256, 4): Blocks(32, 32, 4),
}

#: kind of kernel -> (padded channels, bytes a value, architecture such as 86 or ANY) -> Blocks.
TABLE: dict[str, dict[tuple[int, int, int], Blocks]] = {
    kind: {(*key, ANY): blocks for key, blocks in guesses.items()}
    for kind, guesses in (
        ("input", _INPUT),
        ("input gradient", _INPUT_GRADIENT),
        ("weight", _WEIGHT),
        ("depthwise", _DEPTHWISE),
    )
}

#: Most channels that the table has an entry for.
MAX_CHANNELS = 256

#: Most channels of a NAFNet block in float32.
MAX_BLOCK_CHANNELS_FLOAT32 = 128

#: Programs that share the sum of a weight gradient: two for each of an H200's 132 multiprocessors. A constant, not the
#: device's own number, so that the order of the sum, and with it the last bit, is the same on every GPU.
SUMMING_PROGRAMS = 264


def padded(channels: int) -> int:
    """Channels as `tl.dot` needs them: a power of two and at least 16. What is added is masked and costs arithmetic."""
    return max(16, triton.next_power_of_2(channels))


def architecture_of(x: Tensor) -> int:
    """Such as 86; ANY for tensors of the interpreter."""
    if x.device.type != "cuda" or not torch.cuda.is_available():  # the second: fake tensors on a machine without GPU
        return ANY
    major, minor = torch.cuda.get_device_capability(x.device)
    return 10 * major + minor


def blocks_for(kind: str, x: Tensor, channels: int) -> Blocks:
    """How a kernel of this kind cuts tensors of x's type and device. ValueError above MAX_CHANNELS."""
    if channels > MAX_CHANNELS:
        raise ValueError(f"the Triton kernels take at most {MAX_CHANNELS} channels, not {channels}")
    width, size = padded(channels), x.element_size()
    guess = TABLE[kind][width, size, ANY]
    return TABLE[kind].get((width, size, architecture_of(x)), guess)
