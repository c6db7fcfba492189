"""bilateral_sum in Triton: what it computes is specified by depthsr/ops/reference.py.

A program computes a run of one row of up to CHANNELS maps; the pixels around it are read again by its neighbours, from
cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.colour_weight import colour_weight
from depthsr.kernels.launch import launcher

#: Pixels a program computes: one a thread with 4 warps, as each holds some values through 81 steps. Not measured.
BLOCK = 128

#: Maps that a program sums up with the same weights: depth and confidence.
CHANNELS = 2


@triton.jit(do_not_specialize=["channels", "height", "width", "channel_stride", "groups"])
def _forward(x_ptr, guide_ptr, out_ptr, channels, height, width, channel_stride, pixel_stride, space_scale,
             colour_scale, floor, groups,
             REACH: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row, group = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    sample, channel = group // groups, group % groups * CHANNELS
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = column < width
    frame = height * width
    guide = guide_ptr + sample * 3 * frame
    pixel = guide + (row * width + column) * pixel_stride
    red = tl.load(pixel, mask=exists, other=0.0).to(tl.float32)
    green = tl.load(pixel + channel_stride, mask=exists, other=0.0).to(tl.float32)
    blue = tl.load(pixel + 2 * channel_stride, mask=exists, other=0.0).to(tl.float32)
    plane = channel + tl.arange(0, CHANNELS)[:, None]
    planes = (sample * channels + plane) * frame
    total = tl.zeros((CHANNELS, BLOCK), tl.float32)
    for down in range(-REACH, REACH + 1):
        other_row = tl.full((BLOCK,), 0, tl.int64) + row + down  # a bool of its own would turn the masks to integers
        row_exists = exists & (other_row >= 0) & (other_row < height)
        for across in range(-REACH, REACH + 1):
            other_column = column + across
            inside = row_exists & (other_column >= 0) & (other_column < width)
            at = other_row * width + other_column
            colour = guide + at * pixel_stride
            r = (red - tl.load(colour, mask=inside, other=0.0).to(tl.float32)) * colour_scale
            g = (green - tl.load(colour + channel_stride, mask=inside, other=0.0).to(tl.float32)) * colour_scale
            b = (blue - tl.load(colour + 2 * channel_stride, mask=inside, other=0.0).to(tl.float32)) * colour_scale
            weight = colour_weight(r, g, b, floor) * tl.exp((down * down + across * across) * space_scale)
            mask = inside[None, :] & (plane < channels)
            total += weight[None, :] * tl.load(x_ptr + planes + at[None, :], mask=mask, other=0.0).to(tl.float32)
    out = out_ptr + planes + row * width + column[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=exists[None, :] & (plane < channels))


def bilateral_sum(
    x_BCHW: Tensor, guide_B3HW: Tensor, reach: int, sigma_space: float, sigma_colour: float, floor: float
) -> Tensor:
    """All contiguous, or the guide dense in channels_last. The result is contiguous."""
    batch, channels, height, width = x_BCHW.shape
    planar = guide_B3HW.is_contiguous()
    groups = triton.cdiv(channels, CHANNELS)
    out = torch.empty_like(x_BCHW)
    launcher(_forward)[(triton.cdiv(width, BLOCK), height, batch * groups)](
        x_BCHW, guide_B3HW, out, channels, height, width, height * width if planar else 1, 1 if planar else 3,
        -0.5 / sigma_space**2, 0.25 / sigma_colour, floor, groups, REACH=reach, CHANNELS=CHANNELS, BLOCK=BLOCK,
    )  # fmt: skip
    return out
