"""K3: all of a NAFNet block that follows the channel attention's mean, in one pass over memory.

    r = x + (y · scale) @ weightᵀ + bias;   out = r + feed_forward(r)

The two halves are those of scaled_conv1x1 and feed_forward; between them r stays in registers, in float32. Above
FUSED_CHANNELS they run as two kernels: the row of r, and the weights that meet it, no longer fit beside each other.

Floors, for P pixels, C channels and s bytes a value:
    forward     bytes P·s·3C fused, P·s·5C split     operations 8·P·C²
The gradient runs the two halves' kernels, after computing r again: bytes P·s·(11C + 3C·⌈C/N⌉), operations 34·P·C².
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.block_sizes import blocks_for, padded
from depthsr.kernels.feed_forward import feed_forward, feed_forward_tile
from depthsr.kernels.launch import launcher
from depthsr.kernels.scaled_conv1x1 import scaled_conv1x1, scaled_conv1x1_tile
from depthsr.kernels.tiles import store_tile

#: Most channels (padded) of the fused kernel.
FUSED_CHANNELS = 128


@triton.jit(do_not_specialize=["pixels"])
def _forward(x_ptr, y_ptr, scale_ptr, weight_ptr, bias_ptr, expand_ptr, expand_bias_ptr, project_ptr, project_bias_ptr,
             out_ptr, pixels, eps, CHANNELS: tl.constexpr,
             BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    tile = tl.program_id(0)
    statistics = scale_ptr + tl.program_id(1) * CHANNELS
    frame = tl.program_id(1).to(tl.int64) * CHANNELS * pixels
    r = scaled_conv1x1_tile(y_ptr + frame, x_ptr + frame, statistics, statistics, statistics, weight_ptr, bias_ptr,
                            tile, pixels, False, CHANNELS, BLOCK_P, BLOCK_C, BLOCK_N)  # fmt: skip
    out = feed_forward_tile(r, expand_ptr, expand_bias_ptr, project_ptr, project_bias_ptr, eps, CHANNELS, BLOCK_C,
                            BLOCK_N)  # fmt: skip
    store_tile(out_ptr + frame, out, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)


def naf_block_tail(
    x_BCHW: Tensor, y_BCHW: Tensor, scale_BC: Tensor, weight_CC: Tensor, bias_C: Tensor,
    expand_2CC: Tensor, expand_bias_2C: Tensor, project_CC: Tensor, project_bias_C: Tensor, eps: float,
) -> Tensor:  # fmt: skip
    """x and y channels_last, as the result; matrices of x's type; scale and biases float32."""
    (batch, _, height, width), channels = x_BCHW.shape, weight_CC.shape[0]
    if padded(channels) > FUSED_CHANNELS:
        r = scaled_conv1x1(y_BCHW, x_BCHW, scale_BC, weight_CC, bias_C)
        return feed_forward(r, expand_2CC, expand_bias_2C, project_CC, project_bias_C, eps)
    out = torch.empty_like(x_BCHW)
    blocks = blocks_for("input", x_BCHW, channels)
    pixels = height * width
    launcher(_forward)[(triton.cdiv(pixels, blocks.pixels), batch)](
        x_BCHW, y_BCHW, scale_BC, weight_CC, bias_C, expand_2CC, expand_bias_2C, project_CC, project_bias_C, out,
        pixels, eps, CHANNELS=channels, BLOCK_P=blocks.pixels, BLOCK_C=padded(channels), BLOCK_N=blocks.columns,
        num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    return out
