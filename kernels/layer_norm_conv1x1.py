"""K1: LayerNorm without gain and bias, then a 1×1 convolution, in one pass over memory.

    u = normalise(x) @ weightᵀ + bias

LayerNorm's own gain and bias are folded into weight and bias beforehand (depthsr/ops/fold.py), which is exact.

Floors, for P pixels, C channels in, O out and s bytes a value:
    forward           bytes P·s·(C + O)          operations 2·P·C·O
    gradient of x     bytes P·s·(3C + O)         operations 2·P·C·O        (with the residual's gradient added)
    of the weights    bytes P·s·(C·⌈O/N⌉ + O)    operations 2·P·C·O        N columns a program (block_sizes)
The factor ⌈O/N⌉ is re-reading x once for every N columns, from the L2 cache where a frame fits there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.block_sizes import SUMMING_PROGRAMS, blocks_for, padded
from depthsr.kernels.launch import empty_channels_last, launcher
from depthsr.kernels.tiles import (
    dot,
    load_matrix,
    load_tile,
    load_vector,
    normalise,
    normalise_gradient,
    store_matrix,
    store_tile,
    store_vector,
)  # fmt: skip


@triton.jit(do_not_specialize=["pixels"])
def _forward(x_ptr, weight_ptr, bias_ptr, out_ptr, pixels, eps, CHANNELS: tl.constexpr, OUT: tl.constexpr,
             BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    tile = tl.program_id(0)
    x = load_tile(x_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
    x_hat, _ = normalise(x, CHANNELS, BLOCK_C, eps)
    x_hat = x_hat.to(weight_ptr.dtype.element_ty)
    for first in range(0, OUT, BLOCK_N):
        weight = load_matrix(weight_ptr, first, 0, OUT, CHANNELS, BLOCK_N, BLOCK_C)
        out = dot(x_hat, tl.trans(weight)) + load_vector(bias_ptr, first, OUT, BLOCK_N)[None, :]
        store_tile(out_ptr, out, tile, first, pixels, OUT, OUT, BLOCK_P, BLOCK_N)


@triton.jit(do_not_specialize=["pixels"])
def _backward_input(grad_ptr, x_ptr, weight_ptr, residual_grad_ptr, grad_x_ptr, pixels, eps,
                    CHANNELS: tl.constexpr, OUT: tl.constexpr,
                    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    tile = tl.program_id(0)
    grad_x_hat = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for first in range(0, OUT, BLOCK_N):
        grad = load_tile(grad_ptr, tile, first, pixels, OUT, OUT, BLOCK_P, BLOCK_N)
        grad_x_hat += dot(grad, load_matrix(weight_ptr, first, 0, OUT, CHANNELS, BLOCK_N, BLOCK_C))
    x = load_tile(x_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
    x_hat, rstd = normalise(x, CHANNELS, BLOCK_C, eps)
    grad_x = load_tile(residual_grad_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
    grad_x += normalise_gradient(grad_x_hat, x_hat, rstd, CHANNELS)
    store_tile(grad_x_ptr, grad_x, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)


@triton.jit(do_not_specialize=["pixels", "tiles"])
def _backward_weight(grad_ptr, x_ptr, weight_partial_ptr, bias_partial_ptr, pixels, tiles, eps,
                     CHANNELS: tl.constexpr, OUT: tl.constexpr,
                     BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    program = tl.program_id(0)
    first = tl.program_id(1) * BLOCK_N
    grad_weight = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    grad_bias = tl.zeros((BLOCK_N,), tl.float32)
    for tile in range(program, tiles, tl.num_programs(0)):
        x = load_tile(x_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
        x_hat, _ = normalise(x, CHANNELS, BLOCK_C, eps)
        grad = load_tile(grad_ptr, tile, first, pixels, OUT, OUT, BLOCK_P, BLOCK_N)
        grad_weight += dot(tl.trans(grad), x_hat.to(grad.dtype))
        grad_bias += tl.sum(grad.to(tl.float32), axis=0)
    store_matrix(weight_partial_ptr + program * OUT * CHANNELS, grad_weight, first, 0, OUT, CHANNELS, BLOCK_N, BLOCK_C)
    store_vector(bias_partial_ptr + program * OUT, grad_bias, first, OUT, BLOCK_N)


def _pixels(x_BCHW: Tensor) -> int:
    batch, _, height, width = x_BCHW.shape
    return batch * height * width


def layer_norm_conv1x1(x_BCHW: Tensor, weight_OC: Tensor, bias_O: Tensor, eps: float) -> Tensor:
    """x channels_last, as the result; weight of x's type; bias float32."""
    batch, _, height, width = x_BCHW.shape
    outputs, channels = weight_OC.shape  # not x's, which may be symbolic while torch.compile traces
    out = empty_channels_last(batch, outputs, height, width, x_BCHW)
    blocks = blocks_for("input", x_BCHW, channels)
    pixels = _pixels(x_BCHW)
    launcher(_forward)[(triton.cdiv(pixels, blocks.pixels),)](
        x_BCHW, weight_OC, bias_O, out, pixels, eps, CHANNELS=channels, OUT=outputs,
        BLOCK_P=blocks.pixels, BLOCK_C=padded(channels), BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    return out


def layer_norm_conv1x1_backward(
    grad_BOHW: Tensor, x_BCHW: Tensor, weight_OC: Tensor, residual_grad_BCHW: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (with residual_grad, of what else x reached, added), weight and bias; the last two float32."""
    (outputs, channels), pixels = weight_OC.shape, _pixels(x_BCHW)
    grad_x = torch.empty_like(x_BCHW)
    blocks = blocks_for("input", x_BCHW, channels)
    launcher(_backward_input)[(triton.cdiv(pixels, blocks.pixels),)](
        grad_BOHW, x_BCHW, weight_OC, residual_grad_BCHW, grad_x, pixels, eps, CHANNELS=channels, OUT=outputs,
        BLOCK_P=blocks.pixels, BLOCK_C=padded(channels), BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    blocks = blocks_for("weight", x_BCHW, channels)
    tiles = triton.cdiv(pixels, blocks.pixels)
    programs = min(tiles, SUMMING_PROGRAMS)
    weight_partial = x_BCHW.new_empty((programs, outputs, channels), dtype=torch.float32)
    bias_partial = x_BCHW.new_empty((programs, outputs), dtype=torch.float32)
    launcher(_backward_weight)[(programs, triton.cdiv(outputs, blocks.columns))](
        grad_BOHW, x_BCHW, weight_partial, bias_partial, pixels, tiles, eps, CHANNELS=channels, OUT=outputs,
        BLOCK_P=blocks.pixels, BLOCK_C=padded(channels), BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    return grad_x, weight_partial.sum(0), bias_partial.sum(0)
