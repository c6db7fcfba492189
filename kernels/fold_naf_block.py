"""fold_naf_block in Triton: what it computes is specified by depthsr/ops/fold.py. One launch, where that has thirty.

A program computes one row of one of the four matrices that something is folded into, or of the depthwise weights, which
are only transposed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher
from depthsr.kernels.parameters import NAFBlockParameters
from depthsr.kernels.tiles import load_vector


@triton.jit
def _norm_row(gain_ptr, norm_bias_ptr, weight_ptr, bias_ptr, out_ptr, out_bias_ptr, row,
              CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """(x · gain + norm_bias) @ weightᵀ + bias"""
    channel = tl.arange(0, BLOCK_C)
    weight = load_vector(weight_ptr + row * CHANNELS, 0, CHANNELS, BLOCK_C)
    folded = weight * load_vector(gain_ptr, 0, CHANNELS, BLOCK_C)
    tl.store(out_ptr + row * CHANNELS + channel, folded.to(out_ptr.dtype.element_ty), mask=channel < CHANNELS)
    of_bias = tl.sum(weight * load_vector(norm_bias_ptr, 0, CHANNELS, BLOCK_C), axis=0)
    tl.store(out_bias_ptr + row, tl.load(bias_ptr + row).to(tl.float32) + of_bias)


@triton.jit
def _scale_row(scale_ptr, weight_ptr, bias_ptr, out_ptr, out_bias_ptr, row,
               CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """(x @ weightᵀ + bias) · scale"""
    channel = tl.arange(0, BLOCK_C)
    scale = tl.load(scale_ptr + row).to(tl.float32)
    folded = load_vector(weight_ptr + row * CHANNELS, 0, CHANNELS, BLOCK_C) * scale
    tl.store(out_ptr + row * CHANNELS + channel, folded.to(out_ptr.dtype.element_ty), mask=channel < CHANNELS)
    tl.store(out_bias_ptr + row, tl.load(bias_ptr + row).to(tl.float32) * scale)


@triton.jit
def _tap_row(weight_ptr, out_ptr, tap, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr):
    channel = tl.arange(0, BLOCK_C)
    weight = tl.load(weight_ptr + channel * 9 + tap, mask=channel < CHANNELS)
    tl.store(out_ptr + tap * CHANNELS + channel, weight, mask=channel < CHANNELS)


@triton.jit
def _forward(gain1_ptr, norm_bias1_ptr, conv1_ptr, conv1_bias_ptr, gain2_ptr, norm_bias2_ptr, conv4_ptr, conv4_bias_ptr,
             beta_ptr, conv3_ptr, conv3_bias_ptr, gamma_ptr, conv5_ptr, conv5_bias_ptr, conv2_ptr,
             out1_ptr, out1_bias_ptr, expand_ptr, expand_bias_ptr, out3_ptr, out3_bias_ptr, project_ptr,
             project_bias_ptr, taps_ptr, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    row = tl.program_id(0)
    if row < 2 * CHANNELS:
        _norm_row(gain1_ptr, norm_bias1_ptr, conv1_ptr, conv1_bias_ptr, out1_ptr, out1_bias_ptr, row, CHANNELS, BLOCK_C)
    elif row < 4 * CHANNELS:
        _norm_row(gain2_ptr, norm_bias2_ptr, conv4_ptr, conv4_bias_ptr, expand_ptr, expand_bias_ptr,
                  row - 2 * CHANNELS, CHANNELS, BLOCK_C)  # fmt: skip
    elif row < 5 * CHANNELS:
        _scale_row(beta_ptr, conv3_ptr, conv3_bias_ptr, out3_ptr, out3_bias_ptr, row - 4 * CHANNELS, CHANNELS, BLOCK_C)
    elif row < 6 * CHANNELS:
        _scale_row(gamma_ptr, conv5_ptr, conv5_bias_ptr, project_ptr, project_bias_ptr, row - 5 * CHANNELS, CHANNELS,
                   BLOCK_C)  # fmt: skip
    else:
        _tap_row(conv2_ptr, taps_ptr, row - 6 * CHANNELS, 2 * CHANNELS, 2 * BLOCK_C)


def fold_naf_block(weights: Sequence[Tensor], dtype: torch.dtype) -> NAFBlockParameters:
    """weights: those of ops.NAFBlockWeights in its order, contiguous, of any type. Matrices are folded to `dtype`; what
    nothing is folded into stays as it is.
    """
    (norm1_weight, norm1_bias, conv1_weight, conv1_bias, conv2_weight, conv2_bias, attention_weight, attention_bias,
     conv3_weight, conv3_bias, norm2_weight, norm2_bias, conv4_weight, conv4_bias, conv5_weight, conv5_bias, beta,
     gamma) = weights  # fmt: skip
    channels = norm1_weight.shape[0]

    def room(rows: int) -> tuple[Tensor, Tensor]:
        return conv1_weight.new_empty((rows, channels), dtype=dtype), conv1_bias.new_empty(rows, dtype=torch.float32)

    (conv1, bias1), (expand, expand_bias), (conv3, bias3), (project, project_bias) = map(
        room, (2 * channels, 2 * channels, channels, channels)
    )
    taps = conv2_weight.new_empty((9, 2 * channels))
    launcher(_forward)[(6 * channels + 9,)](
        norm1_weight, norm1_bias, conv1_weight, conv1_bias, norm2_weight, norm2_bias, conv4_weight, conv4_bias,
        beta, conv3_weight, conv3_bias, gamma, conv5_weight, conv5_bias, conv2_weight,
        conv1, bias1, expand, expand_bias, conv3, bias3, project, project_bias, taps,
        CHANNELS=channels, BLOCK_C=triton.next_power_of_2(channels), num_warps=1,
    )  # fmt: skip
    return NAFBlockParameters(
        conv1, bias1, taps, conv2_bias, attention_weight.flatten(1), attention_bias, conv3, bias3, expand,
        expand_bias, project, project_bias,
    )  # fmt: skip
