"""Pixels of an image by strides: what the kernels share that are one kernel for contiguous and channels_last images."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def pixel_tile(pixels, channels, stride_b, stride_p, stride_c, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Offsets of this program's values, BLOCK_P pixels of one frame by BLOCK_C channels, and which of them exist.

    Axis 0 of the grid counts tiles of a frame, axis 1 frames.
    """
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, BLOCK_C)
    exists = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    offsets = tl.program_id(1).to(tl.int64) * stride_b + pixel[:, None] * stride_p + channel[None, :] * stride_c
    return offsets, exists


def strides_of(x_BCHW: Tensor) -> tuple[int, int, int]:
    """(batch, pixel, channel) of a dense tensor, contiguous or channels_last: both walk the pixels in even steps."""
    stride_p = x_BCHW.stride(3) if x_BCHW.shape[3] > 1 else x_BCHW.stride(2)  # that of a size of 1 may be anything
    return x_BCHW.stride(0), stride_p, x_BCHW.stride(1)
