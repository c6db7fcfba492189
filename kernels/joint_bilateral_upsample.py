"""joint_bilateral_upsample in Triton: what it computes is specified by depthsr/ops/reference.py.

A program computes a run of one fine row. Tables say which coarse pixels each fine row and column looks at and how much
they count by their distance. They are the reference's: halfway between two coarse pixels the last bit of a position
decides which is the nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher

#: Pixels a program computes: one a thread with 4 warps, as each holds a dozen values through 49 steps. Not measured.
BLOCK = 128


class Neighbours(NamedTuple):
    """Along one axis: WINDOW × fine pixels."""

    indices: Tensor  # int32, of coarse pixels
    weights: Tensor  # float32


@triton.jit
def _forward(x_ptr, confidence_ptr, guide_ptr, coarse_guide_ptr, rows_ptr, row_weights_ptr, columns_ptr,
             column_weights_ptr, out_ptr, height, width, coarse_height, coarse_width, channel_stride, pixel_stride,
             colour_scale, floor, WINDOW: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """rows, columns: `Neighbours` of height and width fine pixels."""
    row, sample = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = column < width
    coarse = coarse_height * coarse_width
    pixel = guide_ptr + sample * 3 * height * width + (row * width + column) * pixel_stride
    red = tl.load(pixel, mask=exists, other=0.0).to(tl.float32)
    green = tl.load(pixel + channel_stride, mask=exists, other=0.0).to(tl.float32)
    blue = tl.load(pixel + 2 * channel_stride, mask=exists, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    for k in range(WINDOW):
        coarse_row = tl.load(rows_ptr + k * height + row) * coarse_width
        row_weight = tl.load(row_weights_ptr + k * height + row)
        for j in range(WINDOW):
            at = coarse_row + tl.load(columns_ptr + j * width + column, mask=exists, other=0)
            colour = coarse_guide_ptr + sample * 3 * coarse + at
            r = (red - tl.load(colour).to(tl.float32)) * colour_scale
            g = (green - tl.load(colour + coarse).to(tl.float32)) * colour_scale
            b = (blue - tl.load(colour + 2 * coarse).to(tl.float32)) * colour_scale
            alike = tl.maximum(1.0 - r * r - g * g - b * b, 0.0)
            squared = alike * alike
            fourth = squared * squared
            near = row_weight * tl.load(column_weights_ptr + j * width + column, mask=exists, other=1.0)
            confidence = tl.load(confidence_ptr + sample * coarse + at).to(tl.float32)
            weight = (fourth * fourth + floor) * near * confidence
            total += weight * tl.load(x_ptr + sample * coarse + at).to(tl.float32)
            weights += weight
    out = out_ptr + (sample * height + row) * width + column
    tl.store(out, (total / weights).to(out_ptr.dtype.element_ty), mask=exists)


def joint_bilateral_upsample(
    x_B1hw: Tensor, confidence_B1hw: Tensor, guide_B3HW: Tensor, guide_B3hw: Tensor, rows: Neighbours,
    columns: Neighbours, sigma_colour: float, floor: float,
) -> Tensor:  # fmt: skip
    """All contiguous, or the guide dense in channels_last. The result is contiguous."""
    batch, _, height, width = guide_B3HW.shape
    coarse_height, coarse_width = x_B1hw.shape[2:]
    planar = guide_B3HW.is_contiguous()
    out = torch.empty((batch, 1, height, width), dtype=x_B1hw.dtype, device=x_B1hw.device)
    launcher(_forward)[(triton.cdiv(width, BLOCK), height, batch)](
        x_B1hw, confidence_B1hw, guide_B3HW, guide_B3hw, *rows, *columns, out, height, width, coarse_height,
        coarse_width, height * width if planar else 1, 1 if planar else 3, 0.25 / sigma_colour, floor,
        WINDOW=len(rows.indices), BLOCK=BLOCK,
    )  # fmt: skip
    return out
