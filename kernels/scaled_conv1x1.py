"""A 1×1 convolution of channels that are centred, scaled and shifted by frame, added to a residual.

    out = residual + ((x - centre) · scale + shift) @ weightᵀ + bias

Two parts of the network have this form. The first half of a NAFNet block ends in it: scale is SCA's, centre and shift
are absent, beta is folded into weight and bias (depthsr/ops/fold.py). AdaIN with its projection is it: centre and scale
take the content's statistics away, scale and shift bring the style's.

Floors, for P pixels, C channels in and out and s bytes a value:
    forward           bytes P·s·3C               operations 2·P·C²
    gradient of x     bytes P·s·3C               operations 2·P·C²
    of the weight     bytes P·s·(C + C·⌈C/N⌉)    operations 2·P·C²         N columns a program (block_sizes)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.block_sizes import SUMMING_PROGRAMS, blocks_for, padded
from depthsr.kernels.launch import launcher
from depthsr.kernels.tiles import (
    dot,
    load_matrix,
    load_tile,
    load_vector,
    store_matrix,
    store_tile,
    store_vector,
)  # fmt: skip


@triton.jit
def scaled_tile(x_ptr, centre_ptr, scale_ptr, shift_ptr, tile, first, pixels, CENTRED: tl.constexpr,
                CHANNELS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """((x - centre) · scale + shift, x - centre) of the columns from `first` on, float32; pointers to the frame's."""
    x = load_tile(x_ptr, tile, first, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_N).to(tl.float32)
    scale = load_vector(scale_ptr, first, CHANNELS, BLOCK_N)[None, :]
    if CENTRED:
        x -= load_vector(centre_ptr, first, CHANNELS, BLOCK_N)[None, :]
        return x * scale + load_vector(shift_ptr, first, CHANNELS, BLOCK_N)[None, :], x
    else:
        return x * scale, x


@triton.jit
def scaled_conv1x1_tile(x_ptr, residual_ptr, centre_ptr, scale_ptr, shift_ptr, weight_ptr, bias_ptr, tile, pixels,
                        CENTRED: tl.constexpr, CHANNELS: tl.constexpr,
                        BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """The result of one tile, float32."""
    out = load_tile(residual_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
    out += load_vector(bias_ptr, 0, CHANNELS, BLOCK_C)[None, :]
    for first in range(0, CHANNELS, BLOCK_N):
        scaled, _ = scaled_tile(x_ptr, centre_ptr, scale_ptr, shift_ptr, tile, first, pixels, CENTRED, CHANNELS,
                                BLOCK_P, BLOCK_N)  # fmt: skip
        weight = load_matrix(weight_ptr, 0, first, CHANNELS, CHANNELS, BLOCK_C, BLOCK_N)
        out += dot(scaled.to(weight.dtype), tl.trans(weight))
    return out


@triton.jit(do_not_specialize=["pixels"])
def _forward(x_ptr, residual_ptr, centre_ptr, scale_ptr, shift_ptr, weight_ptr, bias_ptr, out_ptr, pixels,
             CENTRED: tl.constexpr, CHANNELS: tl.constexpr,
             BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    tile = tl.program_id(0)
    statistics = tl.program_id(1) * CHANNELS
    frame = statistics.to(tl.int64) * pixels
    out = scaled_conv1x1_tile(
        x_ptr + frame, residual_ptr + frame, centre_ptr + statistics, scale_ptr + statistics, shift_ptr + statistics,
        weight_ptr, bias_ptr, tile, pixels, CENTRED, CHANNELS, BLOCK_P, BLOCK_C, BLOCK_N,
    )  # fmt: skip
    store_tile(out_ptr + frame, out, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)


@triton.jit(do_not_specialize=["pixels"])
def _backward_input(grad_ptr, x_ptr, centre_ptr, scale_ptr, weight_ptr, grad_x_ptr, partial_ptr, pixels,
                    CENTRED: tl.constexpr, CHANNELS: tl.constexpr,
                    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """Gradient of x; and by program, [scale, shift][channel] of the gradient of the statistics."""
    tile = tl.program_id(0)
    statistics = tl.program_id(1) * CHANNELS
    frame = statistics.to(tl.int64) * pixels
    grad_scaled = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for first in range(0, CHANNELS, BLOCK_N):
        grad = load_tile(grad_ptr + frame, tile, first, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_N)
        grad_scaled += dot(grad, load_matrix(weight_ptr, first, 0, CHANNELS, CHANNELS, BLOCK_N, BLOCK_C))
    _, centred = scaled_tile(x_ptr + frame, centre_ptr + statistics, scale_ptr + statistics, scale_ptr + statistics,
                             tile, 0, pixels, CENTRED, CHANNELS, BLOCK_P, BLOCK_C)  # fmt: skip
    program = (tl.program_id(1) * tl.num_programs(0) + tile).to(tl.int64)
    partial_ptr += program * 2 * CHANNELS
    store_vector(partial_ptr, tl.sum(grad_scaled * centred, axis=0), 0, CHANNELS, BLOCK_C)
    store_vector(partial_ptr + CHANNELS, tl.sum(grad_scaled, axis=0), 0, CHANNELS, BLOCK_C)
    grad_x = grad_scaled * load_vector(scale_ptr + statistics, 0, CHANNELS, BLOCK_C)[None, :]
    store_tile(grad_x_ptr + frame, grad_x, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)


@triton.jit(do_not_specialize=["pixels", "tiles"])
def _backward_weight(grad_ptr, x_ptr, centre_ptr, scale_ptr, shift_ptr, weight_partial_ptr, bias_partial_ptr, pixels,
                     tiles, CENTRED: tl.constexpr, CHANNELS: tl.constexpr,
                     BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    first = tl.program_id(1) * BLOCK_N
    statistics = tl.program_id(2) * CHANNELS
    frame = statistics.to(tl.int64) * pixels
    grad_weight = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    grad_bias = tl.zeros((BLOCK_N,), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        scaled, _ = scaled_tile(x_ptr + frame, centre_ptr + statistics, scale_ptr + statistics, shift_ptr + statistics,
                                tile, 0, pixels, CENTRED, CHANNELS, BLOCK_P, BLOCK_C)  # fmt: skip
        grad = load_tile(grad_ptr + frame, tile, first, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_N)
        grad_weight += dot(tl.trans(grad), scaled.to(grad.dtype))
        grad_bias += tl.sum(grad.to(tl.float32), axis=0)
    program = tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)
    store_matrix(weight_partial_ptr + program * CHANNELS * CHANNELS, grad_weight, first, 0, CHANNELS, CHANNELS, BLOCK_N,
                 BLOCK_C)  # fmt: skip
    store_vector(bias_partial_ptr + program * CHANNELS, grad_bias, first, CHANNELS, BLOCK_N)


def scaled_conv1x1(
    x_BCHW: Tensor, residual_BCHW: Tensor, scale_BC: Tensor, weight_CC: Tensor, bias_C: Tensor,
    centre_BC: Tensor | None = None, shift_BC: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """x and residual channels_last, as the result; weight of x's type; all else float32. No centre, then no shift."""
    (batch, _, height, width), channels = x_BCHW.shape, weight_CC.shape[0]
    out = torch.empty_like(x_BCHW)
    blocks = blocks_for("input", x_BCHW, channels)
    pixels = height * width
    launcher(_forward)[(triton.cdiv(pixels, blocks.pixels), batch)](
        x_BCHW, residual_BCHW, scale_BC if centre_BC is None else centre_BC, scale_BC,
        scale_BC if shift_BC is None else shift_BC, weight_CC, bias_C, out, pixels,
        CENTRED=centre_BC is not None, CHANNELS=channels, BLOCK_P=blocks.pixels, BLOCK_C=padded(channels),
        BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    return out


def scaled_conv1x1_backward(
    grad_BCHW: Tensor, x_BCHW: Tensor, scale_BC: Tensor, weight_CC: Tensor,
    centre_BC: Tensor | None = None, shift_BC: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, scale, shift, weight, bias; all but the first float32.

    That of the residual is grad itself, that of centre is -scale times that of shift.
    """
    (batch, _, height, width), channels = x_BCHW.shape, weight_CC.shape[0]
    pixels, centred = height * width, centre_BC is not None
    centre_BC = scale_BC if centre_BC is None else centre_BC
    shift_BC = scale_BC if shift_BC is None else shift_BC
    grad_x = torch.empty_like(x_BCHW)
    blocks = blocks_for("input", x_BCHW, channels)
    tiles = triton.cdiv(pixels, blocks.pixels)
    statistics_partial = x_BCHW.new_empty((batch, tiles, 2, channels), dtype=torch.float32)
    launcher(_backward_input)[(tiles, batch)](
        grad_BCHW, x_BCHW, centre_BC, scale_BC, weight_CC, grad_x, statistics_partial, pixels,
        CENTRED=centred, CHANNELS=channels, BLOCK_P=blocks.pixels, BLOCK_C=padded(channels),
        BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    blocks = blocks_for("weight", x_BCHW, channels)
    tiles = triton.cdiv(pixels, blocks.pixels)
    programs = min(tiles, max(SUMMING_PROGRAMS // batch, 1))
    weight_partial = x_BCHW.new_empty((batch * programs, channels, channels), dtype=torch.float32)
    bias_partial = x_BCHW.new_empty((batch * programs, channels), dtype=torch.float32)
    launcher(_backward_weight)[(programs, triton.cdiv(channels, blocks.columns), batch)](
        grad_BCHW, x_BCHW, centre_BC, scale_BC, shift_BC, weight_partial, bias_partial, pixels, tiles,
        CENTRED=centred, CHANNELS=channels, BLOCK_P=blocks.pixels, BLOCK_C=padded(channels),
        BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    grad_scale, grad_shift = statistics_partial.sum(1).unbind(1)
    return grad_x, grad_scale.clone(), grad_shift.clone(), weight_partial.sum(0), bias_partial.sum(0)
