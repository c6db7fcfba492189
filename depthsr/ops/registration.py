"""torch.ops.depthsr.*: schema, fake and gradient of each op, said once for all implementations.

The compiled modules add the implementations: importing depthsr._C_cpu registers the CPU's. Layout: a channels_last
input gives a channels_last result, any other input a contiguous one. Autocast leaves these ops alone: they take every
storage type and keep float32 statistics, so there is nothing to cast.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCHEMAS = {
    "layer_norm_2d": "(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor",
    "layer_norm_2d_backward": "(Tensor grad, Tensor x, Tensor weight, float eps) -> (Tensor, Tensor, Tensor)",
    "simple_gate": "(Tensor x) -> Tensor",
    "simple_gate_backward": "(Tensor grad, Tensor x) -> Tensor",
    "adain": "(Tensor content, Tensor style, float eps, int correction) -> Tensor",
    "adain_backward": "(Tensor grad, Tensor content, Tensor style, float eps, int correction) -> (Tensor, Tensor)",
    "sobel_l1_loss": "(Tensor pred, Tensor target, Tensor? valid, float l1_weight, float gradient_weight) -> Tensor",
    "sobel_l1_loss_backward": (
        "(Tensor grad, Tensor pred, Tensor target, Tensor? valid, float l1_weight, float gradient_weight) -> Tensor"
    ),
}

for _name, _schema in SCHEMAS.items():
    torch.library.define(f"depthsr::{_name}", _schema, tags=torch.Tag.pt2_compliant_tag)


def _layout(x: Tensor) -> torch.memory_format:
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=_layout(x))


# --- layer_norm_2d ---------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::layer_norm_2d")
def _(x, weight, bias, eps):
    return _like(x)


@torch.library.register_fake("depthsr::layer_norm_2d_backward")
def _(grad, x, weight, eps):
    grad_weight = torch.empty_like(weight, dtype=torch.float32, memory_format=torch.contiguous_format)
    return _like(x), grad_weight, torch.empty_like(grad_weight)


def _layer_norm_2d_setup(ctx, inputs, output):
    x, weight, bias, ctx.eps = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, weight)


def _layer_norm_2d_gradient(ctx, grad):
    x, weight = ctx.saved_tensors
    grad_x, grad_weight, grad_bias = torch.ops.depthsr.layer_norm_2d_backward(grad, x, weight, ctx.eps)
    return grad_x, grad_weight.to(weight.dtype), grad_bias.to(ctx.bias_dtype), None


torch.library.register_autograd(
    "depthsr::layer_norm_2d", _layer_norm_2d_gradient, setup_context=_layer_norm_2d_setup
)


# --- simple_gate -----------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::simple_gate")
def _(x):
    batch, channels, height, width = x.shape
    return torch.empty(
        (batch, channels // 2, height, width), dtype=x.dtype, device=x.device, memory_format=_layout(x)
    )


@torch.library.register_fake("depthsr::simple_gate_backward")
def _(grad, x):
    return _like(x)


def _simple_gate_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _simple_gate_gradient(ctx, grad):
    return torch.ops.depthsr.simple_gate_backward(grad, *ctx.saved_tensors)


torch.library.register_autograd("depthsr::simple_gate", _simple_gate_gradient, setup_context=_simple_gate_setup)


# --- adain -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::adain")
def _(content, style, eps, correction):
    return _like(content)


@torch.library.register_fake("depthsr::adain_backward")
def _(grad, content, style, eps, correction):
    return _like(content), _like(style)


def _adain_setup(ctx, inputs, output):
    content, style, ctx.eps, ctx.correction = inputs
    ctx.save_for_backward(content, style)


def _adain_gradient(ctx, grad):
    grads = torch.ops.depthsr.adain_backward(grad, *ctx.saved_tensors, ctx.eps, ctx.correction)
    return *grads, None, None


torch.library.register_autograd("depthsr::adain", _adain_gradient, setup_context=_adain_setup)


# --- sobel_l1_loss ---------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::sobel_l1_loss")
def _(pred, target, valid, l1_weight, gradient_weight):
    return pred.new_empty((), dtype=torch.float32)


@torch.library.register_fake("depthsr::sobel_l1_loss_backward")
def _(grad, pred, target, valid, l1_weight, gradient_weight):
    return torch.empty_like(pred, memory_format=torch.contiguous_format)


def _sobel_l1_loss_setup(ctx, inputs, output):
    pred, target, valid, ctx.l1_weight, ctx.gradient_weight = inputs
    ctx.save_for_backward(pred, target, valid)


def _sobel_l1_loss_gradient(ctx, grad):
    grad_pred = torch.ops.depthsr.sobel_l1_loss_backward(
        grad, *ctx.saved_tensors, ctx.l1_weight, ctx.gradient_weight
    )
    grad_target = -grad_pred if ctx.needs_input_grad[1] else None
    return grad_pred, grad_target, None, None, None


torch.library.register_autograd(
    "depthsr::sobel_l1_loss", _sobel_l1_loss_gradient, setup_context=_sobel_l1_loss_setup
)
