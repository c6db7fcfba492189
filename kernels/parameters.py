"""The parameters of a NAFNet block as its kernels take them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class NAFBlockParameters(NamedTuple):
    """Those of a block of C channels, LayerNorm's gains and biases, beta and gamma folded in.

    conv1 and expand 2C×C, conv3 and project C×C: of x's type. depthwise 9×2C, so that a tap's weights lie beside each
    other, and attention C×C with their biases: of any type. The other biases float32. Biases have 2C values for conv1,
    depthwise and expand, C for the others.
    """

    conv1: Tensor
    conv1_bias: Tensor
    depthwise: Tensor
    depthwise_bias: Tensor
    attention: Tensor
    attention_bias: Tensor
    conv3: Tensor
    conv3_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    project: Tensor
    project_bias: Tensor
