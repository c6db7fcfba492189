"""Exact rewritings of a NAFNet block that take elementwise steps out of the kernels, as small differentiable functions.

LayerNorm's gain and bias precede a 1×1 convolution, beta and gamma follow one: both go into its weight and bias. What
does not fold is conv1's bias into the depthwise convolution, whose zero padding lies after that bias.

In training they run each time, on matrices of C×C, and autograd carries the gradients through. Without gradients a
kernel does the same in one launch (kernels/fold_naf_block.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from depthsr.kernels.parameters import NAFBlockParameters
from depthsr.ops.reference import NAFBlockWeights


def fold_norm(gain_C: Tensor, norm_bias_C: Tensor, weight_OC: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
    """(weight', bias') with (x · gain + norm_bias) @ weightᵀ + bias = x @ weight'ᵀ + bias'."""
    return weight_OC * gain_C, bias_O + (weight_OC * norm_bias_C).sum(1)


def fold_scale(scale_O: Tensor, weight_OC: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
    """(weight', bias') with (x @ weightᵀ + bias) · scale = x @ weight'ᵀ + bias'."""
    return weight_OC * scale_O[:, None], bias_O * scale_O


def fold_naf_block(weights: NAFBlockWeights) -> NAFBlockParameters:
    """The block's parameters as its kernels take them, all in float32 (for any storage type)."""
    w = NAFBlockWeights(*(tensor.to(torch.float32) for tensor in weights))
    conv1, conv1_bias = fold_norm(w.norm1_weight, w.norm1_bias, w.conv1_weight.flatten(1), w.conv1_bias)
    conv3, conv3_bias = fold_scale(w.beta.flatten(), w.conv3_weight.flatten(1), w.conv3_bias)
    expand, expand_bias = fold_norm(w.norm2_weight, w.norm2_bias, w.conv4_weight.flatten(1), w.conv4_bias)
    project, project_bias = fold_scale(w.gamma.flatten(), w.conv5_weight.flatten(1), w.conv5_bias)
    return NAFBlockParameters(
        conv1, conv1_bias, w.conv2_weight.flatten(1).t(), w.conv2_bias, w.attention_weight.flatten(1), w.attention_bias,
        conv3, conv3_bias, expand, expand_bias, project, project_bias,
    )  # fmt: skip
