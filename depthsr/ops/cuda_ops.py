"""The CUDA kernels as the functions of the `cuda` implementation.

The loss has an op of its own: its forward pass can leave, in a byte a pixel, all that the gradient needs, so that
backward reads neither frames nor mask again.
"""

from __future__ import annotations

import torch
from torch import Tensor

torch.library.define(
    "depthsr::sobel_l1_loss_with_slopes",
    "(Tensor pred, Tensor target, Tensor? valid, float l1_weight, float gradient_weight) -> (Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.define(
    "depthsr::sobel_l1_loss_from_slopes",
    "(Tensor grad, Tensor slopes, Tensor scales, Tensor pred) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)


@torch.library.register_fake("depthsr::sobel_l1_loss_with_slopes")
def _(pred, target, valid, l1_weight, gradient_weight):
    loss = pred.new_empty((), dtype=torch.float32)
    return loss, pred.new_empty(pred.numel(), dtype=torch.uint8), pred.new_empty(2, dtype=torch.float32)


@torch.library.register_fake("depthsr::sobel_l1_loss_from_slopes")
def _(grad, slopes, scales, pred):
    return torch.empty_like(pred, memory_format=torch.contiguous_format)


def _setup(ctx, inputs, output):
    pred, *_ = inputs
    _, slopes, scales = output
    ctx.mark_non_differentiable(slopes, scales)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(slopes, scales, pred)


def _gradient(ctx, grad, _slopes_grad, _scales_grad):
    grad_pred = torch.ops.depthsr.sobel_l1_loss_from_slopes.default(grad, *ctx.saved_tensors)
    return grad_pred, -grad_pred if ctx.needs_input_grad[1] else None, None, None, None


torch.library.register_autograd("depthsr::sobel_l1_loss_with_slopes", _gradient, setup_context=_setup)


def gated_depthwise(x_B2CHW: Tensor, weight_2C133: Tensor, bias_2C: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.depthsr.gated_depthwise.default(x_B2CHW, weight_2C133, bias_2C)


def adain_statistics(
    content_BCHW: Tensor, style_BCHW: Tensor, correction: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.depthsr.adain_statistics.default(content_BCHW, style_BCHW, correction)


def sobel_l1_loss(
    pred_B1HW: Tensor,
    target_B1HW: Tensor,
    valid_B1HW: Tensor | None = None,
    l1_weight: float = 1.0,
    gradient_weight: float = 1.0,
) -> Tensor:
    arguments = (pred_B1HW, target_B1HW, valid_B1HW, l1_weight, gradient_weight)
    if torch.is_grad_enabled() and (pred_B1HW.requires_grad or target_B1HW.requires_grad):
        return torch.ops.depthsr.sobel_l1_loss_with_slopes.default(*arguments)[0]
    return torch.ops.depthsr.sobel_l1_loss.default(*arguments)
