"""Writes the vectors that the C++ tests are held to: random inputs and what the reference makes of them in float64.

    python tests/cpp/vectors.py FILE               the same cases each time
    python tests/cpp/vectors.py FILE --fuzz 100    100 cases of random sizes; --seed N for the same ones again

The file is a sequence of cases; vectors.h reads it. Numbers and lengths are little-endian int64. A case: op, name,
inputs, expected. A text: length, UTF-8. Arrays: how many; of each its key, a letter for the type, the size of an
element, the number of elements, the elements.
"""

from __future__ import annotations

import argparse
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from vector_cases import (
    FUSED_STORAGE,
    STORAGE,
    Case,
    adain,
    bilateral_sum,
    every_bit_pattern,
    fill_holes,
    fit_lines,
    joint_bilateral_upsample,
    layer_norm_2d,
    mix_candidates,
    naf_block,
    naf_block_backward,
    network,
    prior_of_frame,
    simple_gate,
    sobel_l1_loss,
    spread_residuals,
    surrounding_measurements,
)

from depthsr import ops

LETTERS = {
    torch.float32: b"f",
    torch.float16: b"h",
    torch.bfloat16: b"b",
    torch.bool: b"B",
    torch.int64: b"i",
    torch.float64: b"d",
}


# --- file -------------------------------------------------------------------------------------------------------------


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<q", len(data)) + data


def _arrays(arrays: dict[str, Tensor | int | float]) -> bytes:
    parts = [struct.pack("<q", len(arrays))]
    for key, value in arrays.items():
        if not isinstance(value, Tensor):
            value = torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
        data = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        parts += [
            _text(key),
            _text(LETTERS[value.dtype]),
            struct.pack("<qq", value.element_size(), value.numel()),
            data,
        ]
    return b"".join(parts)


def write(file: BinaryIO, case: Case) -> None:
    file.write(_text(case.op) + _text(case.name) + _arrays(case.inputs) + _arrays(case.expected))


# --- which cases ------------------------------------------------------------------------------------------------------

SIZES = ((1, 1), (7, 5), (33, 1), (1, 130), (35, 37), (0, 4))
FRAMES = (
    ((48, 64), (6, 8)),
    ((61, 47), (13, 9)),  # factors that are no whole numbers
    ((35, 25), (14, 10)),  # 2.5: fine pixels halfway between two coarse ones
    ((33, 1), (5, 1)),
    ((1, 130), (1, 17)),
    ((20, 21), (20, 21)),
    ((9, 8), (13, 11)),  # shrinking
    ((7, 6), (1, 1)),
    ((1, 1), (1, 1)),
    ((213, 1), (296, 1)),  # so long that how positions are rounded shows
)


def fixed_cases() -> Iterator[Case]:
    seed = 0
    for height, width in SIZES:
        for dtype in STORAGE:
            for channels_last in (False, True):
                seed += 1
                yield layer_norm_2d((2, 37, height, width), dtype, channels_last, seed)
                yield simple_gate((2, 5, height, width), dtype, channels_last, seed)
                if height > 0:  # the mean of no pixels is none
                    yield adain((2, 19, height, width), (height + 2, width + 3), dtype, channels_last, seed)
                yield sobel_l1_loss((2, height, width), dtype, channels_last, seed)
        for dtype in FUSED_STORAGE:
            for channels in (8, 16, 24, 32, 64):
                seed += 1
                yield naf_block((2, channels, height, width), dtype, seed)
                if height > 0:
                    yield naf_block_backward((2, channels, height, width), dtype, seed)
    for dtype in STORAGE:
        yield layer_norm_2d((0, 8, 3, 4), dtype, True, 0)
        yield adain((0, 8, 3, 4), (2, 2), dtype, False, 0)
        yield sobel_l1_loss((0, 3, 4), dtype, True, 0)
        yield layer_norm_2d((1, 3, 35, 40), dtype, False, 0)  # more than one task a frame
        yield adain((1, 3, 70, 80), (90, 60), dtype, True, 0)
    for dtype in FUSED_STORAGE:
        yield naf_block((0, 16, 3, 4), dtype, 0)
        yield naf_block((1, 128, 9, 30), dtype, 0)
    yield joint_bilateral_upsample((6, 8), (3, 4), 0, True, 0)
    yield joint_bilateral_upsample((70, 130), (9, 17), 3, True, 0)  # ranges of rows that end within a sample
    for half in (torch.float16, torch.bfloat16):
        yield every_bit_pattern(half)
    for size, low in FRAMES:
        for channels_last in (False, True):
            seed += 1
            yield joint_bilateral_upsample(size, low, 2, channels_last, seed)
        yield fill_holes(low, 2, seed)
        yield fit_lines(low, 2, 5 + 10 * (seed % 2), seed)
        yield surrounding_measurements(size, low, 2, seed)
        for own in (False, True):
            yield spread_residuals(size, low, own, seed)
        for channels_last in (False, True):
            yield bilateral_sum(size, 2 + seed % 2, 2, channels_last, seed)
            yield mix_candidates(size, 12, seed % 2, 2, channels_last, seed)
        for known_range in (False, True):
            seed += 1
            yield prior_of_frame(size, low, known_range, seed)
        for dtype in FUSED_STORAGE:
            yield network(size, low, seed % 4 == 0, dtype, seed)


def fuzzed_case(seed: int, number: int) -> Case:
    """Sizes from one pixel to a few thousand, also of extreme aspect, sometimes none; each case from its own seed."""
    r = random.Random(f"{seed} {number}")

    def size(pixels: int) -> tuple[int, int]:
        if r.random() < 0.04:
            return r.choice([(0, 3), (5, 0), (0, 0)])
        long = r.randint(1, r.choice([8, 100, pixels]))
        short = r.randint(1, max(1, min(pixels // long, r.choice([1, 9, 70]))))
        return (long, short) if r.random() < 0.5 else (short, long)

    case_seed, channels_last = r.getrandbits(32), r.random() < 0.5
    batch, height_width, dtype = r.choice([0, 1, 1, 1, 2, 3]), size(1500), r.choice(STORAGE)
    memory_bound = ["layer_norm_2d", "simple_gate", "adain", "sobel_l1_loss"]
    op = r.choice([*memory_bound, "naf_block", "naf_block_backward", "upsample", "holes", "mix", "frame"])
    if op == "layer_norm_2d":
        return layer_norm_2d((batch, r.randint(8, 136), *height_width), dtype, channels_last, case_seed)
    if op == "simple_gate":
        return simple_gate((batch, r.randint(1, 136), *height_width), dtype, channels_last, case_seed)
    if op == "adain":
        content, style = (tuple(max(1, side) for side in s) for s in (height_width, size(1500)))
        return adain((batch, r.randint(1, 40), *content), style, dtype, channels_last, case_seed)
    if op == "sobel_l1_loss":
        return sobel_l1_loss((batch, *height_width), dtype, channels_last, case_seed)
    if op == "naf_block":
        channels = 8 * r.randint(1, 17)
        return naf_block((batch, channels, *size(20000 // channels)), r.choice(FUSED_STORAGE), case_seed)
    if op == "naf_block_backward":
        channels = 8 * r.randint(1, 17)
        height, width = (max(1, side) for side in size(10000 // channels))
        return naf_block_backward((max(1, batch), channels, height, width), r.choice(FUSED_STORAGE), case_seed)
    fine, low = (tuple(max(1, side) for side in size(limit)) for limit in (1200, 300))
    if op == "upsample":
        return joint_bilateral_upsample(fine, low, batch, channels_last, case_seed)
    if op == "mix" and r.random() < 0.5:
        return bilateral_sum(fine, r.randint(1, 3), batch, channels_last, case_seed)
    if op == "mix":
        return mix_candidates(fine, r.randint(1, 17), r.randint(0, 2), batch, channels_last, case_seed)
    if op == "holes":
        return r.choice(
            [
                fill_holes(low, batch, case_seed),
                surrounding_measurements(fine, low, batch, case_seed),
                spread_residuals(fine, low, channels_last, case_seed),
                fit_lines(low, batch, 2 * r.randint(0, 9) + 1, case_seed),
            ]
        )
    if r.random() < 0.5:
        return prior_of_frame(fine, low, channels_last, case_seed)
    return network(fine, low, channels_last, r.choice(FUSED_STORAGE), case_seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--fuzz", type=int, default=0, help="this many random cases instead of the fixed ones")
    parser.add_argument("--seed", type=int, help="of --fuzz; a new one by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seed = random.SystemRandom().getrandbits(31) if arguments.seed is None else arguments.seed
    cases = (fuzzed_case(seed, i) for i in range(arguments.fuzz)) if arguments.fuzz else fixed_cases()
    if arguments.fuzz:
        print(f"fuzz: --fuzz {arguments.fuzz} --seed {seed}")
    partial = arguments.file.with_suffix(".partial")
    with partial.open("wb") as file, ops.backend("reference"):
        for case in cases:
            write(file, case)
    partial.replace(arguments.file)


if __name__ == "__main__":
    main()
