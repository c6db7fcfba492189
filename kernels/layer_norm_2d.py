"""layer_norm_2d in Triton: what it computes is specified by depthsr/ops/reference.py.

A program normalises BLOCK_P neighbouring pixels over all channels, so each value is read once and both passes of the
variance run in registers. Pixels and channels are addressed by strides: contiguous and channels_last are one kernel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher
from depthsr.kernels.pixels import pixel_tile, strides_of

#: Values a program holds, 32 a thread with 4 warps; the gradient, which holds three tiles, half of that: at 128
#: channels in bfloat16 more spilled on sm_86. Chosen to stay clear of register spills, not measured on a GPU yet.
BLOCK_VALUES = 4096
BACKWARD_BLOCK_VALUES = 2048


@triton.jit
def _normalise(x, exists, channels, eps):
    """(normalised x, 1 / standard deviation), both float32; 0 where nothing exists."""
    mean = tl.sum(x, axis=1) / channels
    centred = tl.where(exists, x - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / channels + eps)
    return centred * rstd[:, None], rstd


@triton.jit
def _forward(x_ptr, weight_ptr, bias_ptr, out_ptr, pixels, channels, stride_b, stride_p, stride_c, eps,
             BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    offsets, exists = pixel_tile(pixels, channels, stride_b, stride_p, stride_c, BLOCK_P, BLOCK_C)
    channel = tl.arange(0, BLOCK_C)
    weight = tl.load(weight_ptr + channel, mask=channel < channels, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=channel < channels, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    x_hat, _ = _normalise(x, exists, channels, eps)
    out = x_hat * weight[None, :] + bias[None, :]
    tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), mask=exists)


@triton.jit
def _backward(grad_ptr, x_ptr, weight_ptr, grad_x_ptr, partial_ptr, pixels, channels, stride_b, stride_p, stride_c, eps,
              BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    offsets, exists = pixel_tile(pixels, channels, stride_b, stride_p, stride_c, BLOCK_P, BLOCK_C)
    channel = tl.arange(0, BLOCK_C)
    weight = tl.load(weight_ptr + channel, mask=channel < channels, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    x_hat, rstd = _normalise(x, exists, channels, eps)
    h = grad * weight[None, :]
    mean_h = tl.sum(h, axis=1) / channels
    mean_hx = tl.sum(h * x_hat, axis=1) / channels
    grad_x = rstd[:, None] * (h - mean_h[:, None] - x_hat * mean_hx[:, None])
    tl.store(grad_x_ptr + offsets, grad_x.to(grad_x_ptr.dtype.element_ty), mask=exists)
    # One row of partial sums a program, [weight, bias][channel]: no atomics, so the result is the same every time.
    program = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    row = partial_ptr + program * 2 * channels + channel
    tl.store(row, tl.sum(grad * x_hat, axis=0), mask=channel < channels)
    tl.store(row + channels, tl.sum(grad, axis=0), mask=channel < channels)


def _blocks(x_BCHW: Tensor, values: int) -> tuple[int, int, tuple[int, int]]:
    """(BLOCK_P, BLOCK_C, grid)."""
    batch, channels, height, width = x_BCHW.shape
    block_c = triton.next_power_of_2(channels)
    block_p = max(1, values // block_c)
    return block_p, block_c, (triton.cdiv(height * width, block_p), batch)


def layer_norm_2d(x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float) -> Tensor:
    """x dense in one of the two layouts; the result has the same."""
    out = torch.empty_like(x_BCHW)
    _, channels, height, width = x_BCHW.shape
    block_p, block_c, grid = _blocks(x_BCHW, BLOCK_VALUES)
    launcher(_forward)[grid](
        x_BCHW, weight_C, bias_C, out, height * width, channels, *strides_of(x_BCHW), eps,
        BLOCK_P=block_p, BLOCK_C=block_c,
    )  # fmt: skip
    return out


def layer_norm_2d_backward(
    grad_BCHW: Tensor, x_BCHW: Tensor, weight_C: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """grad and x dense in the same layout. The gradients of weight and bias are float32."""
    grad_x = torch.empty_like(x_BCHW)
    _, channels, height, width = x_BCHW.shape
    block_p, block_c, grid = _blocks(x_BCHW, BACKWARD_BLOCK_VALUES)
    partial = torch.empty((grid[0] * grid[1], 2, channels), dtype=torch.float32, device=x_BCHW.device)
    launcher(_backward)[grid](
        grad_BCHW, x_BCHW, weight_C, grad_x, partial, height * width, channels, *strides_of(x_BCHW), eps,
        BLOCK_P=block_p, BLOCK_C=block_c,
    )  # fmt: skip
    grad_weight, grad_bias = partial.sum(dim=0).unbind()
    return grad_x, grad_weight.clone(), grad_bias.clone()
