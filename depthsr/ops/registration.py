"""torch.ops.depthsr.*: schema, fake and gradient of each op, said once for all implementations.

The compiled modules add the implementations: importing depthsr._C_cpu registers the CPU's. Layout: a channels_last
input gives a channels_last result, any other input a contiguous one. Autocast leaves these ops alone: they take every
storage type and keep float32 statistics, so there is nothing to cast.

The `*_gradient` functions take the backward op first: implementations that are ops of their own, as those of
triton_ops, share them.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.ops.reference import NAFBlockWeights

_BLOCK_WEIGHTS = ", ".join(f"Tensor {name}" for name in NAFBlockWeights._fields)

SCHEMAS = {
    "layer_norm_2d": "(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor",
    "layer_norm_2d_backward": "(Tensor grad, Tensor x, Tensor weight, float eps) -> (Tensor, Tensor, Tensor)",
    "simple_gate": "(Tensor x) -> Tensor",
    "simple_gate_backward": "(Tensor grad, Tensor x) -> Tensor",
    "gated_depthwise": "(Tensor x, Tensor weight, Tensor bias) -> (Tensor, Tensor)",
    "gated_depthwise_backward": (
        "(Tensor grad, Tensor grad_mean, Tensor x, Tensor weight, Tensor bias) -> (Tensor, Tensor, Tensor)"
    ),
    "adain_statistics": "(Tensor content, Tensor style, int correction) -> (Tensor, Tensor, Tensor, Tensor)",
    "adain": "(Tensor content, Tensor style, float eps, int correction) -> Tensor",
    "adain_backward": "(Tensor grad, Tensor content, Tensor style, float eps, int correction) -> (Tensor, Tensor)",
    "sobel_l1_loss": "(Tensor pred, Tensor target, Tensor? valid, float l1_weight, float gradient_weight) -> Tensor",
    "sobel_l1_loss_backward": (
        "(Tensor grad, Tensor pred, Tensor target, Tensor? valid, float l1_weight, float gradient_weight) -> Tensor"
    ),
    "naf_block": f"(Tensor x, {_BLOCK_WEIGHTS}, float eps) -> Tensor",
    "naf_block_backward": (
        f"(Tensor grad, Tensor x, {_BLOCK_WEIGHTS}, float eps) -> "
        f"({', '.join(['Tensor'] * (1 + len(NAFBlockWeights._fields)))})"
    ),
    "fill_holes": "(Tensor x, Tensor valid) -> Tensor",
    "surrounding_measurements": "(Tensor x, Tensor valid, SymInt height, SymInt width) -> Tensor",
    "joint_bilateral_upsample": "(Tensor x, Tensor confidence, Tensor guide, Tensor coarse_guide) -> Tensor",
    "bilateral_sum": "(Tensor x, Tensor guide) -> Tensor",
    "mix_candidates": (
        "(Tensor logits, Tensor correction, Tensor error, Tensor candidates, Tensor ambiguity) -> (Tensor, Tensor)"
    ),
    "fit_lines": (
        "(Tensor relative, Tensor inverse, Tensor deviation, Tensor open_end, int window) -> (Tensor, Tensor)"
    ),
}

for _name, _schema in SCHEMAS.items():
    torch.library.define(f"depthsr::{_name}", _schema, tags=torch.Tag.pt2_compliant_tag)


def layout_of(x: Tensor) -> torch.memory_format:
    """The layout that kernels work in and answer in. What is dense in neither is copied to contiguous."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=layout_of(x))


# --- layer_norm_2d ---------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::layer_norm_2d")
def _(x, weight, bias, eps):
    return _like(x)


@torch.library.register_fake("depthsr::layer_norm_2d_backward")
def _(grad, x, weight, eps):
    grad_weight = torch.empty_like(weight, dtype=torch.float32, memory_format=torch.contiguous_format)
    return _like(x), grad_weight, torch.empty_like(grad_weight)


def layer_norm_2d_setup(ctx, inputs, output):
    x, weight, bias, ctx.eps = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, weight)


def layer_norm_2d_gradient(backward, ctx, grad):
    x, weight = ctx.saved_tensors
    grad_x, grad_weight, grad_bias = backward(grad, x, weight, ctx.eps)
    return grad_x, grad_weight.to(weight.dtype), grad_bias.to(ctx.bias_dtype), None


# --- simple_gate -----------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::simple_gate")
def _(x):
    batch, channels, height, width = x.shape
    return torch.empty(
        (batch, channels // 2, height, width), dtype=x.dtype, device=x.device, memory_format=layout_of(x)
    )


@torch.library.register_fake("depthsr::simple_gate_backward")
def _(grad, x):
    return _like(x)


def simple_gate_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def simple_gate_gradient(backward, ctx, grad):
    return backward(grad, *ctx.saved_tensors)


# --- gated_depthwise -------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::gated_depthwise")
def _(x, weight, bias):
    """Always channels_last, as it computes."""
    batch, doubled, height, width = x.shape
    sizes = (batch, doubled // 2, height, width)
    gated = torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return gated, x.new_empty((batch, doubled // 2), dtype=torch.float32)


@torch.library.register_fake("depthsr::gated_depthwise_backward")
def _(grad, grad_mean, x, weight, bias):
    gradients = (
        torch.empty_like(t, dtype=torch.float32, memory_format=torch.contiguous_format) for t in (weight, bias)
    )
    return torch.empty_like(x, memory_format=torch.channels_last), *gradients


def gated_depthwise_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def gated_depthwise_gradient(backward, ctx, grad, grad_mean):
    x, weight, bias = ctx.saved_tensors
    grad_x, grad_weight, grad_bias = backward(grad, grad_mean, x, weight, bias)
    return grad_x, grad_weight.to(weight.dtype), grad_bias.to(bias.dtype)


# --- adain_statistics ------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::adain_statistics")
def _(content, style, correction):
    return tuple(content.new_empty(content.shape[:2], dtype=torch.float32) for _ in range(4))


def adain_statistics_setup(ctx, inputs, output):
    content, style, ctx.correction = inputs
    content_mean, _, style_mean, _ = output
    ctx.save_for_backward(content, style, content_mean, style_mean)


def adain_statistics_gradient(
    affine, ctx, content_mean_grad, content_variance_grad, style_mean_grad, style_variance_grad
):
    content, style, content_mean, style_mean = ctx.saved_tensors
    gradient = partial(gradient_of_statistics, affine, correction=ctx.correction)
    return (
        gradient(content, content_mean, content_mean_grad, content_variance_grad),
        gradient(style, style_mean, style_mean_grad, style_variance_grad),
        None,
    )


def gradient_of_statistics(affine, x: Tensor, mean: Tensor, mean_grad: Tensor, variance_grad: Tensor, correction: int):
    """That of x, whose mean and variance, B×C, have these gradients.

    affine(x, centre, scale, shift): (x - centre) · scale + shift, the last three B×C, in x's type.
    """
    pixels = x.shape[2] * x.shape[3]
    return affine(x, mean, variance_grad * (2 / max(pixels - correction, 1)), mean_grad / pixels)


def _affine(x: Tensor, *vectors: Tensor) -> Tensor:
    """In torch's own operations: one pass over memory, which torch.compile makes of them."""
    centre, scale, shift = (vector[:, :, None, None] for vector in vectors)
    return ((x - centre) * scale + shift).to(x.dtype)


torch.library.register_autograd(
    "depthsr::adain_statistics", partial(adain_statistics_gradient, _affine), setup_context=adain_statistics_setup
)


# --- adain -----------------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::adain")
def _(content, style, eps, correction):
    return _like(content)


@torch.library.register_fake("depthsr::adain_backward")
def _(grad, content, style, eps, correction):
    return _like(content), _like(style)


def adain_setup(ctx, inputs, output):
    content, style, ctx.eps, ctx.correction = inputs
    ctx.save_for_backward(content, style)


def adain_gradient(backward, ctx, grad):
    grads = backward(grad, *ctx.saved_tensors, ctx.eps, ctx.correction)
    return *grads, None, None


def adain_fusion(content: Tensor, style: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """The reference's, with torch.ops.depthsr.adain in it."""
    styled = torch.ops.depthsr.adain.default(content, style, eps, 0)
    return style + F.conv2d(styled, weight.to(styled.dtype), bias.to(styled.dtype))


# --- sobel_l1_loss ---------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::sobel_l1_loss")
def _(pred, target, valid, l1_weight, gradient_weight):
    return pred.new_empty((), dtype=torch.float32)


@torch.library.register_fake("depthsr::sobel_l1_loss_backward")
def _(grad, pred, target, valid, l1_weight, gradient_weight):
    return torch.empty_like(pred, memory_format=torch.contiguous_format)


def sobel_l1_loss_setup(ctx, inputs, output):
    pred, target, valid, ctx.l1_weight, ctx.gradient_weight = inputs
    ctx.save_for_backward(pred, target, valid)


def sobel_l1_loss_gradient(backward, ctx, grad):
    grad_pred = backward(grad, *ctx.saved_tensors, ctx.l1_weight, ctx.gradient_weight)
    grad_target = -grad_pred if ctx.needs_input_grad[1] else None
    return grad_pred, grad_target, None, None, None


# --- naf_block -------------------------------------------------------------------------------------------------


def naf_block(x: Tensor, weights: NAFBlockWeights, eps: float = 1e-6) -> Tensor:
    """torch.ops.depthsr.naf_block with the reference's signature. Always answers in channels_last, as it computes."""
    return torch.ops.depthsr.naf_block.default(x, *weights, eps)


@torch.library.register_fake("depthsr::naf_block")
def _(x, *rest):
    return torch.empty_like(x, memory_format=torch.channels_last)


@torch.library.register_fake("depthsr::naf_block_backward")
def _(grad, x, *rest):
    *weights, _ = rest
    gradients = (
        torch.empty_like(weight, dtype=torch.float32, memory_format=torch.contiguous_format) for weight in weights
    )
    return torch.empty_like(x, memory_format=torch.channels_last), *gradients


def naf_block_setup(ctx, inputs, output):
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def naf_block_gradient(backward, ctx, grad):
    tensors = ctx.saved_tensors  # once: under activation checkpointing they are computed for it, and only once
    grads = backward(grad, *tensors, ctx.eps)
    return *(g.to(tensor.dtype) for g, tensor in zip(grads, tensors, strict=True)), None


# --- what makes a network's input (fill_holes, surrounding_measurements, joint_bilateral_upsample) and the depth of its
# output (mix_candidates) -----------------------------------------------------------------------------------------

#: Nobody asks a gradient of a network's input; `choice` takes the reference where somebody does, as training does of
#: the last.
WITHOUT_GRADIENT = (
    "fill_holes", "surrounding_measurements", "joint_bilateral_upsample", "mix_candidates", "fit_lines",
)  # fmt: skip


@torch.library.register_fake("depthsr::fill_holes")
def _(x, valid):
    """Always contiguous, as the next two: it has one channel."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def surrounding_measurements(x_B1hw: Tensor, valid_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """torch.ops.depthsr.surrounding_measurements with the reference's signature."""
    return torch.ops.depthsr.surrounding_measurements.default(x_B1hw, valid_B1hw, *size)


@torch.library.register_fake("depthsr::surrounding_measurements")
def _(x, valid, height, width):
    return x.new_empty((x.shape[0], 9, height, width))


@torch.library.register_fake("depthsr::joint_bilateral_upsample")
def _(x, confidence, guide, coarse_guide):
    return x.new_empty((x.shape[0], 1, *guide.shape[2:]))


@torch.library.register_fake("depthsr::mix_candidates")
def _(logits, correction, error, candidates, ambiguity):
    sizes = (candidates.shape[0], 1, *candidates.shape[2:])
    return candidates.new_empty(sizes), candidates.new_empty(sizes)


@torch.library.register_fake("depthsr::fit_lines")
def _(relative, inverse, deviation, open_end, window):
    scale = relative.new_empty(relative.shape, dtype=torch.float32)
    return scale, torch.empty_like(scale)


def no_gradient(op, ctx, *grads):
    raise NotImplementedError(
        f"this kernel of {op} has no gradient; depthsr.ops.{op} has, by the reference implementation."
    )


def wants_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def why_no_gradient(implementation: str, op: str, *tensors: Tensor) -> str | None:
    """Why the kernel of `op` called `implementation` may not be used on these tensors."""
    if wants_gradient(*tensors):
        return f"the {implementation} {op} has no gradient, and one of its inputs requires it"
    return None


# --- bilateral_sum ---------------------------------------------------------------------------------------------


@torch.library.register_fake("depthsr::bilateral_sum")
def _(x, guide):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def bilateral_sum_setup(ctx, inputs, output):
    _, guide = inputs
    ctx.save_for_backward(guide)


def bilateral_sum_gradient(forward, ctx, grad):
    """Its weights are symmetric, so that it is its own adjoint."""
    (guide,) = ctx.saved_tensors
    return forward(grad, guide), None


torch.library.register_autograd(
    "depthsr::bilateral_sum",
    partial(bilateral_sum_gradient, torch.ops.depthsr.bilateral_sum.default),
    setup_context=bilateral_sum_setup,
)

for _name in WITHOUT_GRADIENT:
    torch.library.register_autograd(f"depthsr::{_name}", partial(no_gradient, _name))

# ---------------------------------------------------------------------------------------------------------------

for _name, _setup, _gradient in (
    ("layer_norm_2d", layer_norm_2d_setup, layer_norm_2d_gradient),
    ("simple_gate", simple_gate_setup, simple_gate_gradient),
    ("gated_depthwise", gated_depthwise_setup, gated_depthwise_gradient),
    ("adain", adain_setup, adain_gradient),
    ("sobel_l1_loss", sobel_l1_loss_setup, sobel_l1_loss_gradient),
    ("naf_block", naf_block_setup, naf_block_gradient),
):
    _backward = getattr(torch.ops.depthsr, f"{_name}_backward").default
    torch.library.register_autograd(f"depthsr::{_name}", partial(_gradient, _backward), setup_context=_setup)
