"""The second half of a NAFNet block: LayerNorm, 1×1, gate, 1×1, residual, in one pass over memory.

    a | b = normalise(r) @ expandᵀ + expand_bias;   out = r + (a · b) @ projectᵀ + project_bias

LayerNorm's gain and bias and the block's gamma are folded into the matrices beforehand (depthsr/ops/fold.py). The gated
channels are taken a few columns at a time, so that neither a | b nor the matrices have to fit on the chip at once. The
gradients compute a | b again instead of storing it.

Floors, for P pixels, C channels and s bytes a value:
    forward           bytes P·s·2C               operations 6·P·C²
    gradient of r     bytes P·s·3C               operations 10·P·C²
    of the weights    bytes P·s·2C·⌈C/N⌉         operations 12·P·C²        N columns a program (block_sizes)
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
    normalise,
    normalise_gradient,
    store_matrix,
    store_tile,
    store_vector,
)  # fmt: skip


@triton.jit
def _gates(r_hat, expand_ptr, expand_bias_ptr, first, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr,
           BLOCK_N: tl.constexpr):  # fmt: skip
    """(a, b, rows of expand for a, for b) of the gated columns from `first` on."""
    expand_a = load_matrix(expand_ptr, first, 0, CHANNELS, CHANNELS, BLOCK_N, BLOCK_C)
    expand_b = load_matrix(expand_ptr + CHANNELS * CHANNELS, first, 0, CHANNELS, CHANNELS, BLOCK_N, BLOCK_C)
    a = dot(r_hat, tl.trans(expand_a)) + load_vector(expand_bias_ptr, first, CHANNELS, BLOCK_N)[None, :]
    b = dot(r_hat, tl.trans(expand_b)) + load_vector(expand_bias_ptr + CHANNELS, first, CHANNELS, BLOCK_N)[None, :]
    return a, b, expand_a, expand_b


@triton.jit
def feed_forward_tile(r, expand_ptr, expand_bias_ptr, project_ptr, project_bias_ptr, eps, CHANNELS: tl.constexpr,
                      BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """The result of one tile of r, both float32."""
    r_hat, _rstd = normalise(r, CHANNELS, BLOCK_C, eps)
    r_hat = r_hat.to(expand_ptr.dtype.element_ty)
    out = r + load_vector(project_bias_ptr, 0, CHANNELS, BLOCK_C)[None, :]
    for first in range(0, CHANNELS, BLOCK_N):
        a, b, _, _ = _gates(r_hat, expand_ptr, expand_bias_ptr, first, CHANNELS, BLOCK_C, BLOCK_N)
        project = load_matrix(project_ptr, 0, first, CHANNELS, CHANNELS, BLOCK_C, BLOCK_N)
        out += dot((a * b).to(project.dtype), tl.trans(project))
    return out


@triton.jit(do_not_specialize=["pixels"])
def _forward(r_ptr, expand_ptr, expand_bias_ptr, project_ptr, project_bias_ptr, out_ptr, pixels, eps,
             CHANNELS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
             BLOCK_N: tl.constexpr):  # fmt: skip
    tile = tl.program_id(0)
    r = load_tile(r_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
    out = feed_forward_tile(r, expand_ptr, expand_bias_ptr, project_ptr, project_bias_ptr, eps, CHANNELS, BLOCK_C,
                            BLOCK_N)  # fmt: skip
    store_tile(out_ptr, out, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)


@triton.jit
def _gate_gradients(grad, r_hat, expand_ptr, expand_bias_ptr, project_ptr, first, CHANNELS: tl.constexpr,
                    BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """(a · b, gradients of a and b, rows of expand for a, for b); grad and r_hat in the storage type."""
    a, b, expand_a, expand_b = _gates(r_hat, expand_ptr, expand_bias_ptr, first, CHANNELS, BLOCK_C, BLOCK_N)
    grad_gated = dot(grad, load_matrix(project_ptr, 0, first, CHANNELS, CHANNELS, BLOCK_C, BLOCK_N))
    return a * b, grad_gated * b, grad_gated * a, expand_a, expand_b


@triton.jit(do_not_specialize=["pixels"])
def _backward_input(grad_ptr, r_ptr, expand_ptr, expand_bias_ptr, project_ptr, grad_r_ptr, pixels, eps,
                    CHANNELS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
                    BLOCK_N: tl.constexpr):  # fmt: skip
    tile = tl.program_id(0)
    r = load_tile(r_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
    grad = load_tile(grad_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)
    r_hat, rstd = normalise(r, CHANNELS, BLOCK_C, eps)
    grad_r_hat = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for first in range(0, CHANNELS, BLOCK_N):
        _, grad_a, grad_b, expand_a, expand_b = _gate_gradients(
            grad, r_hat.to(grad.dtype), expand_ptr, expand_bias_ptr, project_ptr, first, CHANNELS, BLOCK_C, BLOCK_N
        )
        grad_r_hat += dot(grad_a.to(grad.dtype), expand_a)
        grad_r_hat += dot(grad_b.to(grad.dtype), expand_b)
    grad_r = grad.to(tl.float32) + normalise_gradient(grad_r_hat, r_hat, rstd, CHANNELS)
    store_tile(grad_r_ptr, grad_r, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)


@triton.jit(do_not_specialize=["pixels", "tiles"])
def _backward_weight(grad_ptr, r_ptr, expand_ptr, expand_bias_ptr, project_ptr, expand_partial_ptr,
                     expand_bias_partial_ptr, project_partial_ptr, project_bias_partial_ptr, pixels, tiles, eps,
                     CHANNELS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
                     BLOCK_N: tl.constexpr):  # fmt: skip
    program = tl.program_id(0)
    first = tl.program_id(1) * BLOCK_N
    grad_expand_a = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    grad_expand_b = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    grad_project = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)  # transposed
    grad_bias_a = tl.zeros((BLOCK_N,), tl.float32)
    grad_bias_b = tl.zeros((BLOCK_N,), tl.float32)
    grad_project_bias = tl.zeros((BLOCK_C,), tl.float32)
    for tile in range(program, tiles, tl.num_programs(0)):
        r = load_tile(r_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C).to(tl.float32)
        grad = load_tile(grad_ptr, tile, 0, pixels, CHANNELS, CHANNELS, BLOCK_P, BLOCK_C)
        r_hat, _ = normalise(r, CHANNELS, BLOCK_C, eps)
        r_hat = r_hat.to(grad.dtype)
        gated, grad_a, grad_b, _, _ = _gate_gradients(
            grad, r_hat, expand_ptr, expand_bias_ptr, project_ptr, first, CHANNELS, BLOCK_C, BLOCK_N
        )
        grad_expand_a += dot(tl.trans(grad_a.to(grad.dtype)), r_hat)
        grad_expand_b += dot(tl.trans(grad_b.to(grad.dtype)), r_hat)
        grad_project += dot(tl.trans(gated.to(grad.dtype)), grad)
        grad_bias_a += tl.sum(grad_a, axis=0)
        grad_bias_b += tl.sum(grad_b, axis=0)
        grad_project_bias += tl.sum(grad.to(tl.float32), axis=0)
    matrix = program * CHANNELS * CHANNELS
    store_matrix(expand_partial_ptr + 2 * matrix, grad_expand_a, first, 0, CHANNELS, CHANNELS, BLOCK_N, BLOCK_C)
    store_matrix(expand_partial_ptr + 2 * matrix + CHANNELS * CHANNELS, grad_expand_b, first, 0, CHANNELS, CHANNELS,
                 BLOCK_N, BLOCK_C)  # fmt: skip
    store_matrix(project_partial_ptr + matrix, grad_project, first, 0, CHANNELS, CHANNELS, BLOCK_N, BLOCK_C)
    store_vector(expand_bias_partial_ptr + program * 2 * CHANNELS, grad_bias_a, first, CHANNELS, BLOCK_N)
    store_vector(expand_bias_partial_ptr + (program * 2 + 1) * CHANNELS, grad_bias_b, first, CHANNELS, BLOCK_N)
    if first == 0:
        store_vector(project_bias_partial_ptr + program * CHANNELS, grad_project_bias, 0, CHANNELS, BLOCK_C)


def _pixels(r_BCHW: Tensor) -> int:
    batch, _, height, width = r_BCHW.shape
    return batch * height * width


def feed_forward(
    r_BCHW: Tensor, expand_2CC: Tensor, expand_bias_2C: Tensor, project_CC: Tensor, project_bias_C: Tensor, eps: float
) -> Tensor:
    """r channels_last, as the result; matrices of r's type; biases float32."""
    channels, pixels = project_CC.shape[0], _pixels(r_BCHW)
    out = torch.empty_like(r_BCHW)
    blocks = blocks_for("input", r_BCHW, channels)
    launcher(_forward)[(triton.cdiv(pixels, blocks.pixels),)](
        r_BCHW, expand_2CC, expand_bias_2C, project_CC, project_bias_C, out, pixels, eps, CHANNELS=channels,
        BLOCK_P=blocks.pixels, BLOCK_C=padded(channels), BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    return out


def feed_forward_backward(
    grad_BCHW: Tensor, r_BCHW: Tensor, expand_2CC: Tensor, expand_bias_2C: Tensor, project_CC: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of r and the four parameters in their order; all but the first float32."""
    channels, pixels = project_CC.shape[0], _pixels(r_BCHW)
    grad_r = torch.empty_like(r_BCHW)
    blocks = blocks_for("input gradient", r_BCHW, channels)
    launcher(_backward_input)[(triton.cdiv(pixels, blocks.pixels),)](
        grad_BCHW, r_BCHW, expand_2CC, expand_bias_2C, project_CC, grad_r, pixels, eps, CHANNELS=channels,
        BLOCK_P=blocks.pixels, BLOCK_C=padded(channels), BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    blocks = blocks_for("weight", r_BCHW, channels)
    tiles = triton.cdiv(pixels, blocks.pixels)
    programs = min(tiles, SUMMING_PROGRAMS)
    expand = r_BCHW.new_empty((programs, 2 * channels, channels), dtype=torch.float32)
    expand_bias = r_BCHW.new_empty((programs, 2 * channels), dtype=torch.float32)
    project = r_BCHW.new_empty((programs, channels, channels), dtype=torch.float32)
    project_bias = r_BCHW.new_empty((programs, channels), dtype=torch.float32)
    launcher(_backward_weight)[(programs, triton.cdiv(channels, blocks.columns))](
        grad_BCHW, r_BCHW, expand_2CC, expand_bias_2C, project_CC, expand, expand_bias, project, project_bias, pixels,
        tiles, eps, CHANNELS=channels,
        BLOCK_P=blocks.pixels, BLOCK_C=padded(channels), BLOCK_N=blocks.columns, num_warps=blocks.warps, num_stages=1,
    )  # fmt: skip
    return grad_r, expand.sum(0), expand_bias.sum(0), project.sum(0).t(), project_bias.sum(0)
