"""fill_holes in Triton: what it computes is specified by depthsr/ops/reference.py.

Two launches a level of the pyramid, where the reference has ten: one makes the next coarser level, the other fills a
level's holes from the coarser one that is filled already.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher

#: Pixels a program computes, one a thread with 4 warps. Not measured.
BLOCK = 128


@triton.jit
def _pixel(height, width, BLOCK: tl.constexpr):
    """Row and column of this program's pixels, and which of them exist; axis 1 of the grid counts frames."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return pixel // width, pixel % width, pixel < height * width


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width"])
def _forward_halve(x_ptr, valid_ptr, out_ptr, out_valid_ptr, height, width, out_height, out_width,
                   BLOCK: tl.constexpr):  # fmt: skip
    """The mean of the valid among 2×2 pixels, or among those of them in the frame; and whether there is one."""
    row, column, exists = _pixel(out_height, out_width, BLOCK)
    frame = tl.program_id(1).to(tl.int64)
    total = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.float32)
    for down in tl.static_range(2):
        for right in tl.static_range(2):
            y, x = 2 * row + down, 2 * column + right
            at = (frame * height + y) * width + x
            inside = exists & (y < height) & (x < width)
            is_valid = inside & tl.load(valid_ptr + at, mask=inside, other=0)
            total += tl.load(x_ptr + at, mask=is_valid, other=0.0).to(tl.float32)
            count += is_valid.to(tl.float32)
    out = frame * out_height * out_width + row * out_width + column
    tl.store(out_ptr + out, total / tl.maximum(count, 1.0), mask=exists)
    tl.store(out_valid_ptr + out, count > 0, mask=exists)


@triton.jit
def _between(pixel, coarse, fine):
    """Along one axis: the two coarse pixels that a fine one's centre lies between, and the second's share."""
    position = tl.maximum((pixel.to(tl.float32) + 0.5) * (coarse / fine) - 0.5, 0.0)
    first = tl.minimum(position.to(tl.int64), coarse - 1)
    share = tl.minimum(position - first.to(tl.float32), 1.0)
    return first, tl.minimum(first + 1, coarse - 1), share


@triton.jit(do_not_specialize=["height", "width", "coarse_height", "coarse_width"])
def _forward(x_ptr, valid_ptr, coarse_ptr, out_ptr, height, width, coarse_height, coarse_width, BLOCK: tl.constexpr):
    """x where it is valid, else the coarser level, bilinear."""
    row, column, exists = _pixel(height, width, BLOCK)
    frame = tl.program_id(1).to(tl.int64)
    top, bottom, lower_share = _between(row, coarse_height, height)
    left, right, right_share = _between(column, coarse_width, width)
    coarse = coarse_ptr + frame * coarse_height * coarse_width
    top_left = tl.load(coarse + top * coarse_width + left, mask=exists, other=0.0)
    top_right = tl.load(coarse + top * coarse_width + right, mask=exists, other=0.0)
    bottom_left = tl.load(coarse + bottom * coarse_width + left, mask=exists, other=0.0)
    bottom_right = tl.load(coarse + bottom * coarse_width + right, mask=exists, other=0.0)
    upper = (1.0 - right_share) * top_left + right_share * top_right
    lower = (1.0 - right_share) * bottom_left + right_share * bottom_right
    value = (1.0 - lower_share) * upper + lower_share * lower
    at = frame * height * width + row * width + column
    is_valid = exists & tl.load(valid_ptr + at, mask=exists, other=0)
    value = tl.where(is_valid, tl.load(x_ptr + at, mask=is_valid, other=0.0).to(tl.float32), value)
    tl.store(out_ptr + at, value.to(out_ptr.dtype.element_ty), mask=exists)


def fill_holes(x_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    """Both contiguous; so is the result."""
    levels = [(x_B1hw, valid_B1hw)]
    while max(levels[-1][0].shape[2:]) > 1:
        levels.append(_halve(*levels[-1]))
    if len(levels) == 1:  # a pixel with none around it
        return torch.where(valid_B1hw, x_B1hw, 0.0)
    filled, _ = levels.pop()
    while levels:
        x, valid = levels.pop()
        batch, _, height, width = x.shape
        out = torch.empty_like(x)
        launcher(_forward)[(triton.cdiv(height * width, BLOCK), batch)](
            x, valid, filled, out, height, width, *filled.shape[2:], BLOCK=BLOCK
        )
        filled = out
    return filled


def _halve(x_B1hw: Tensor, valid_B1hw: Tensor) -> tuple[Tensor, Tensor]:
    """The next coarser level, float32, and which of it is valid."""
    batch, _, height, width = x_B1hw.shape
    shape = (batch, 1, -(-height // 2), -(-width // 2))
    out = torch.empty(shape, dtype=torch.float32, device=x_B1hw.device)
    out_valid = torch.empty(shape, dtype=torch.bool, device=x_B1hw.device)
    launcher(_forward_halve)[(triton.cdiv(shape[2] * shape[3], BLOCK), batch)](
        x_B1hw, valid_B1hw, out, out_valid, height, width, shape[2], shape[3], BLOCK=BLOCK
    )
    return out, out_valid
