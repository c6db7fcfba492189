"""fit_lines in Triton: what it computes is specified by depthsr/ops/reference.py.

Two launches a round, where the reference has about forty on maps as small: sums along the rows of a window, of what its
cells weigh after the round before; then their sums over the rows, the line, and how far each cell is to be trusted in
the next round. A program computes a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher

#: Sums of weight · (1, relative, inverse, relative², relative · inverse).
MOMENTS = tl.constexpr(5)


@triton.jit
def _weighed(relative_ptr, inverse_ptr, deviation_ptr, trust_ptr, at):
    weight = tl.load(trust_ptr + at) / tl.load(deviation_ptr + at)
    relative = tl.load(relative_ptr + at)
    of_relative = weight * relative
    of_inverse = weight * tl.load(inverse_ptr + at)
    return weight, of_relative, of_inverse, of_relative * relative, of_inverse * relative


@triton.jit
def _inside(coordinate, side):
    """The nearest in the frame: what lies beyond it is what lies at its border."""
    return tl.minimum(tl.maximum(coordinate, 0), side - 1)


@triton.jit
def _forward_rows(relative_ptr, inverse_ptr, deviation_ptr, trust_ptr, sums_ptr, rows_ptr, height, width,
                  REACH: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Sums of the MOMENTS over each window's part in this row, and over the row."""
    row, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    line = (frame * height + row) * width
    weight, relative, inverse, square, product = _weighed(
        relative_ptr, inverse_ptr, deviation_ptr, trust_ptr, line + _inside(column, width)
    )
    exists = column < width
    totals = rows_ptr + frame * MOMENTS * height + row
    tl.store(totals, tl.sum(tl.where(exists, weight, 0.0), axis=0))
    tl.store(totals + height, tl.sum(tl.where(exists, relative, 0.0), axis=0))
    tl.store(totals + 2 * height, tl.sum(tl.where(exists, inverse, 0.0), axis=0))
    tl.store(totals + 3 * height, tl.sum(tl.where(exists, square, 0.0), axis=0))
    tl.store(totals + 4 * height, tl.sum(tl.where(exists, product, 0.0), axis=0))
    for step in range(1, REACH + 1):
        for side in tl.static_range(2):
            neighbour = line + _inside(column + (2 * side - 1) * step, width)
            w, r, i, s, p = _weighed(relative_ptr, inverse_ptr, deviation_ptr, trust_ptr, neighbour)
            weight += w
            relative += r
            inverse += i
            square += s
            product += p
    plane = height * width
    sums = sums_ptr + frame * MOMENTS * plane + row * width + column
    tl.store(sums, weight, mask=exists)
    tl.store(sums + plane, relative, mask=exists)
    tl.store(sums + 2 * plane, inverse, mask=exists)
    tl.store(sums + 3 * plane, square, mask=exists)
    tl.store(sums + 4 * plane, product, mask=exists)


@triton.jit
def _of_frame(rows_ptr, moment, height, share, BLOCK: tl.constexpr):
    row = tl.arange(0, BLOCK)
    return share * tl.sum(tl.load(rows_ptr + moment * height + row, mask=row < height, other=0.0), axis=0)


@triton.jit
def _forward_fit(relative_ptr, inverse_ptr, deviation_ptr, open_ptr, sums_ptr, rows_ptr, trust_ptr, scale_ptr,
                 offset_ptr, height, width, frame_share, trust_in_bound, least_variance,
                 REACH: tl.constexpr, BLOCK: tl.constexpr, BLOCK_ROWS: tl.constexpr):  # fmt: skip
    row, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    exists = column < width
    plane = height * width
    sums = sums_ptr + frame * MOMENTS * plane + _inside(column, width)
    weight = tl.zeros((BLOCK,), tl.float32)
    of_relative = tl.zeros((BLOCK,), tl.float32)
    of_inverse = tl.zeros((BLOCK,), tl.float32)
    square = tl.zeros((BLOCK,), tl.float32)
    product = tl.zeros((BLOCK,), tl.float32)
    for step in range(-REACH, REACH + 1):
        line = sums + _inside(row + step, height) * width
        weight += tl.load(line)
        of_relative += tl.load(line + plane)
        of_inverse += tl.load(line + 2 * plane)
        square += tl.load(line + 3 * plane)
        product += tl.load(line + 4 * plane)
    cells = (2 * REACH + 1) * (2 * REACH + 1)
    share = frame_share * cells / plane
    rows = rows_ptr + frame * MOMENTS * height
    weight += _of_frame(rows, 0, height, share, BLOCK_ROWS)
    mean_relative = (of_relative + _of_frame(rows, 1, height, share, BLOCK_ROWS)) / weight
    mean_inverse = (of_inverse + _of_frame(rows, 2, height, share, BLOCK_ROWS)) / weight
    square = (square + _of_frame(rows, 3, height, share, BLOCK_ROWS)) / weight
    product = (product + _of_frame(rows, 4, height, share, BLOCK_ROWS)) / weight
    variance = tl.maximum(square - mean_relative * mean_relative, 0.0)
    scale = tl.maximum((product - mean_relative * mean_inverse) / (variance + least_variance), 0.0)
    offset = mean_inverse - scale * mean_relative

    at = (frame * height + row) * width + column
    inverse = tl.load(inverse_ptr + at, mask=exists, other=1.0)
    fitted = scale * tl.load(relative_ptr + at, mask=exists, other=0.0) + offset
    deviations = (fitted - inverse) / (2.0 * tl.load(deviation_ptr + at, mask=exists, other=1.0))
    bound = tl.load(open_ptr + at, mask=exists, other=0) & (fitted <= inverse)
    tl.store(trust_ptr + at, tl.where(bound, trust_in_bound, 1.0 / (1.0 + deviations * deviations)), mask=exists)
    tl.store(scale_ptr + at, scale, mask=exists)
    tl.store(offset_ptr + at, offset, mask=exists)


def fit_lines(
    relative_B1hw: Tensor, inverse_B1hw: Tensor, deviation_B1hw: Tensor, open_end_B1hw: Tensor, window: int,
    rounds: int, frame_share: float, trust_in_bound: float, least_variance: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """All contiguous, the first three float32; so are the results."""
    batch, _, height, width = relative_B1hw.shape
    sums = relative_B1hw.new_empty((batch, 5, height, width))
    rows = relative_B1hw.new_empty((batch, 5, height))
    scale, offset = torch.empty_like(relative_B1hw), torch.empty_like(relative_B1hw)
    trust = torch.where(open_end_B1hw, trust_in_bound, torch.ones_like(relative_B1hw))
    block, block_rows, reach = triton.next_power_of_2(width), triton.next_power_of_2(height), window // 2
    for _ in range(rounds):
        launcher(_forward_rows)[(height, batch)](
            relative_B1hw, inverse_B1hw, deviation_B1hw, trust, sums, rows, height, width, REACH=reach, BLOCK=block,
        )  # fmt: skip
        launcher(_forward_fit)[(height, batch)](
            relative_B1hw, inverse_B1hw, deviation_B1hw, open_end_B1hw, sums, rows, trust, scale,
            offset, height, width, frame_share, trust_in_bound, least_variance, REACH=reach, BLOCK=block,
            BLOCK_ROWS=block_rows,
        )  # fmt: skip
    return scale, offset
