"""A NAFNet block of three kernels: K1 (layer_norm_conv1x1), K2 (gated_depthwise), K3 (naf_block_tail).

Between K2 and K3 stands the channel attention's 1×1 on B×C means, a small kernel (channel_attention).

Floors, for P pixels, C channels and s bytes a value:
    forward     bytes P·s·9C      operations P·(12·C² + 36·C)
    gradient    the sums of the parts' (their docstrings) and K1's forward once more: of what is between the kernels
                only y is kept, the 2C channels of u are computed again.
"""

from __future__ import annotations

from torch import Tensor

from depthsr.kernels.channel_attention import channel_attention
from depthsr.kernels.feed_forward import feed_forward_backward
from depthsr.kernels.gated_depthwise import gated_depthwise_backward, gated_depthwise_with_partial_sums
from depthsr.kernels.layer_norm_conv1x1 import layer_norm_conv1x1, layer_norm_conv1x1_backward
from depthsr.kernels.naf_block_tail import naf_block_tail
from depthsr.kernels.parameters import NAFBlockParameters
from depthsr.kernels.scaled_conv1x1 import scaled_conv1x1, scaled_conv1x1_backward


def _product(a_BK: Tensor, b_KN: Tensor) -> Tensor:
    """a @ b in float32 whatever autocast or TF32 would make of a matrix product; the two are small."""
    return (a_BK[:, :, None] * b_KN[None]).sum(1)


def naf_block(x_BCHW: Tensor, parameters: NAFBlockParameters, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(result, y, pooled): the last two are what the gradient needs. x channels_last, as result and y."""
    p = parameters
    u = layer_norm_conv1x1(x_BCHW, p.conv1, p.conv1_bias, eps)
    y, partial_BTC = gated_depthwise_with_partial_sums(u, p.depthwise, p.depthwise_bias)
    pixels = x_BCHW.shape[2] * x_BCHW.shape[3]
    pooled_BC, scale_BC = channel_attention(partial_BTC, pixels, p.attention, p.attention_bias)
    out = naf_block_tail(
        x_BCHW, y, scale_BC, p.conv3, p.conv3_bias, p.expand, p.expand_bias, p.project, p.project_bias, eps
    )
    return out, y, pooled_BC


def naf_block_backward(
    grad_BCHW: Tensor, x_BCHW: Tensor, y_BCHW: Tensor, pooled_BC: Tensor, parameters: NAFBlockParameters, eps: float
) -> tuple[Tensor, NAFBlockParameters]:
    """Gradients of x and of the parameters, these float32. grad, x and y channels_last."""
    p = parameters
    scale_BC = _product(pooled_BC, p.attention.t()) + p.attention_bias
    r = scaled_conv1x1(y_BCHW, x_BCHW, scale_BC, p.conv3, p.conv3_bias)
    grad_r, expand, expand_bias, project, project_bias = feed_forward_backward(
        grad_BCHW, r, p.expand, p.expand_bias, p.project, eps
    )
    del r
    grad_y, grad_scale_BC, _, conv3, conv3_bias = scaled_conv1x1_backward(grad_r, y_BCHW, scale_BC, p.conv3)
    u = layer_norm_conv1x1(x_BCHW, p.conv1, p.conv1_bias, eps)
    grad_u, depthwise, depthwise_bias = gated_depthwise_backward(
        grad_y, _product(grad_scale_BC, p.attention), u, p.depthwise, p.depthwise_bias
    )
    del u, grad_y
    grad_x, conv1, conv1_bias = layer_norm_conv1x1_backward(grad_u, x_BCHW, p.conv1, grad_r, eps)
    attention, attention_bias = _product(grad_scale_BC.t(), pooled_BC), grad_scale_BC.sum(0)
    return grad_x, NAFBlockParameters(
        conv1, conv1_bias, depthwise, depthwise_bias, attention, attention_bias, conv3, conv3_bias, expand, expand_bias,
        project, project_bias,
    )  # fmt: skip
