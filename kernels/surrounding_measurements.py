"""surrounding_measurements in Triton: what it computes is specified by depthsr/ops/reference.py.

One launch, where the reference has a hundred: a program computes a run of one fine row for one of the nine directions,
and walks over holes step by step, as long as one of its pixels has not arrived.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher

#: Fine pixels a program computes, one a thread with 4 warps. Not measured.
BLOCK = 128


@triton.jit(do_not_specialize=["height", "width", "coarse_height", "coarse_width", "row_spacing", "column_spacing"])
def _forward(x_ptr, valid_ptr, out_ptr, height, width, coarse_height, coarse_width,
             row_spacing, column_spacing, REACH: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row, plane = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = column < width
    direction = plane % 9
    down, right = direction // 3 - 1, direction % 3 - 1
    first = plane // 9 * coarse_height * coarse_width
    y = (2 * row + 1) * coarse_height // (2 * height) + down * row_spacing + tl.zeros((BLOCK,), tl.int64)
    y = tl.minimum(tl.maximum(y, 0), coarse_height - 1)
    x = (2 * column + 1) * coarse_width // (2 * width) + right * column_spacing
    x = tl.minimum(tl.maximum(x, 0), coarse_width - 1)
    at = first + y * coarse_width + x
    value = tl.load(x_ptr + at, mask=exists, other=0.0)
    searching = exists & (tl.load(valid_ptr + at, mask=exists, other=1) == 0)
    steps = 1
    limit = tl.where(direction == 4, steps, REACH)  # the middle one looks nowhere
    while (steps < limit) & (tl.max(searching.to(tl.int32), axis=0) > 0):
        y += down
        x += right
        searching = searching & (y >= 0) & (y < coarse_height) & (x >= 0) & (x < coarse_width)
        at = first + y * coarse_width + x
        found = searching & tl.load(valid_ptr + at, mask=searching, other=0)
        value = tl.where(found, tl.load(x_ptr + at, mask=found, other=0.0), value)
        searching = searching & (found == 0)
        steps += 1
    tl.store(out_ptr + (plane * height + row) * width + column, value, mask=exists)


def surrounding_measurements(
    x_B1hw: Tensor, valid_B1hw: Tensor, size: tuple[int, int], spacing: tuple[int, int], reach: int
) -> Tensor:
    """Both contiguous; so is the result. spacing: of rows and columns, coarse pixels."""
    batch, _, coarse_height, coarse_width = x_B1hw.shape
    height, width = size
    out = torch.empty((batch, 9, height, width), dtype=x_B1hw.dtype, device=x_B1hw.device)
    launcher(_forward)[(triton.cdiv(width, BLOCK), height, batch * 9)](
        x_B1hw, valid_B1hw, out, height, width, coarse_height, coarse_width, *spacing,
        REACH=reach, BLOCK=BLOCK,
    )  # fmt: skip
    return out
