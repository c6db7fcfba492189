"""SCA, the channel attention of a NAFNet block, from the partial sums that K2 leaves: one launch.

    pooled = sum over tiles / pixels;   scale = pooled @ attentionᵀ + bias

A program computes some of a frame's scales, and all of its means for that. Each sum has its fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher
from depthsr.kernels.tiles import load_matrix, load_vector, store_vector

#: Values of a step over the tiles, 32 a thread with 4 warps; and scales a program. Not measured on a GPU yet.
BLOCK_VALUES = 4096
ROWS = 16


@triton.jit(do_not_specialize=["tiles", "pixels"])
def _forward(partial_ptr, attention_ptr, bias_ptr, pooled_ptr, scale_ptr, tiles, pixels, CHANNELS: tl.constexpr,
             ROWS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    first, frame = tl.program_id(0) * ROWS, tl.program_id(1)
    channel = tl.arange(0, BLOCK_C)
    rows = partial_ptr + frame.to(tl.int64) * tiles * CHANNELS
    sums = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)  # added up after the loop: between warps a sum costs a barrier
    for start in range(0, tiles, BLOCK_T):
        tile = start + tl.arange(0, BLOCK_T)
        exists = (tile < tiles)[:, None] & (channel < CHANNELS)[None, :]
        offsets = tile[:, None] * CHANNELS + channel[None, :]
        sums += tl.load(rows + offsets, mask=exists, other=0.0)
    pooled = tl.sum(sums, axis=0) / pixels
    attention = load_matrix(attention_ptr, first, 0, CHANNELS, CHANNELS, ROWS, BLOCK_C).to(tl.float32)
    scale = tl.sum(attention * pooled[None, :], axis=1) + load_vector(bias_ptr, first, CHANNELS, ROWS)
    store_vector(scale_ptr + frame * CHANNELS, scale, first, CHANNELS, ROWS)
    if first == 0:
        store_vector(pooled_ptr + frame * CHANNELS, pooled, 0, CHANNELS, BLOCK_C)


def channel_attention(partial_BTC: Tensor, pixels: int, attention_CC: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
    """(pooled, scale), B×C float32. All contiguous; partial float32."""
    (batch, tiles, _), channels = partial_BTC.shape, attention_CC.shape[0]
    pooled = partial_BTC.new_empty((batch, channels))
    scale = torch.empty_like(pooled)
    block_c = triton.next_power_of_2(channels)
    launcher(_forward)[(triton.cdiv(channels, ROWS), batch)](
        partial_BTC, attention_CC, bias_C, pooled, scale, tiles, pixels, CHANNELS=channels, ROWS=ROWS,
        BLOCK_T=max(1, BLOCK_VALUES // block_c), BLOCK_C=block_c,
    )  # fmt: skip
    return pooled, scale
