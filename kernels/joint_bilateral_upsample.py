"""joint_bilateral_upsample in Triton: what it computes is specified by depthsr/ops/reference.py.

A program computes a run of one fine row, and works out which coarse pixels it looks at in whole numbers, as the
reference does.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.colour_weight import colour_weight
from depthsr.kernels.launch import launcher

#: Pixels a program computes: one a thread with 4 warps, as each holds a dozen values through 49 steps. Not measured.
BLOCK = 128


@triton.jit
def _coarse_pixel(pixel, offset, fine, coarse):
    """Along one axis: the coarse pixel `offset` from the one that the fine pixel's centre lies in, and its distance."""
    neighbour = (2 * pixel + 1) * coarse // (2 * fine) + offset
    position = (pixel.to(tl.float32) + 0.5) * (coarse / fine) - 0.5
    return tl.minimum(tl.maximum(neighbour, 0), coarse - 1), neighbour.to(tl.float32) - position


@triton.jit(do_not_specialize=["height", "width", "coarse_height", "coarse_width", "channel_stride"])
def _forward(x_ptr, confidence_ptr, guide_ptr, coarse_guide_ptr, out_ptr, height, width, coarse_height, coarse_width,
             channel_stride, pixel_stride, space_scale, colour_scale, floor,
             REACH: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row, sample = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = column < width
    coarse = coarse_height * coarse_width
    pixel = guide_ptr + sample * 3 * height * width + (row * width + column) * pixel_stride
    red = tl.load(pixel, mask=exists, other=0.0).to(tl.float32)
    green = tl.load(pixel + channel_stride, mask=exists, other=0.0).to(tl.float32)
    blue = tl.load(pixel + 2 * channel_stride, mask=exists, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    for row_offset in range(-REACH, REACH + 1):
        coarse_row, row_distance = _coarse_pixel(row, row_offset, height, coarse_height)
        for column_offset in range(-REACH, REACH + 1):
            coarse_column, distance = _coarse_pixel(column, column_offset, width, coarse_width)
            at = coarse_row * coarse_width + coarse_column
            colour = coarse_guide_ptr + sample * 3 * coarse + at
            r = (red - tl.load(colour).to(tl.float32)) * colour_scale
            g = (green - tl.load(colour + coarse).to(tl.float32)) * colour_scale
            b = (blue - tl.load(colour + 2 * coarse).to(tl.float32)) * colour_scale
            near = tl.exp((row_distance * row_distance + distance * distance) * space_scale)
            confidence = tl.load(confidence_ptr + sample * coarse + at).to(tl.float32)
            weight = colour_weight(r, g, b, floor) * near * confidence
            total += weight * tl.load(x_ptr + sample * coarse + at).to(tl.float32)
            weights += weight
    out = out_ptr + (sample * height + row) * width + column
    tl.store(out, (total / weights).to(out_ptr.dtype.element_ty), mask=exists)


def joint_bilateral_upsample(
    x_B1hw: Tensor, confidence_B1hw: Tensor, guide_B3HW: Tensor, guide_B3hw: Tensor, reach: int, sigma_space: float,
    sigma_colour: float, floor: float,
) -> Tensor:  # fmt: skip
    """All contiguous, or the guide dense in channels_last. The result is contiguous."""
    batch, _, height, width = guide_B3HW.shape
    coarse_height, coarse_width = x_B1hw.shape[2:]
    planar = guide_B3HW.is_contiguous()
    out = torch.empty((batch, 1, height, width), dtype=x_B1hw.dtype, device=x_B1hw.device)
    launcher(_forward)[(triton.cdiv(width, BLOCK), height, batch)](
        x_B1hw, confidence_B1hw, guide_B3HW, guide_B3hw, out, height, width, coarse_height, coarse_width,
        height * width if planar else 1, 1 if planar else 3, -0.5 / sigma_space**2, 0.25 / sigma_colour, floor,
        REACH=reach, BLOCK=BLOCK,
    )  # fmt: skip
    return out
