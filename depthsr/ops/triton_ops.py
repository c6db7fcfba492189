"""The Triton kernels as torch.ops.depthsr.*_triton.

`triton_op` lets torch.compile see the kernels inside: they are scheduled and their memory planned with the rest of the
graph, which an opaque custom op would prevent. Those that only inference needs are in triton_ops_without_gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.library import triton_op

from depthsr.kernels import adain as adain_kernels
from depthsr.kernels import bilateral_sum as bilateral_kernels
from depthsr.kernels import feed_forward as feed_forward_kernels
from depthsr.kernels import fold_naf_block as fold_kernels
from depthsr.kernels import gated_depthwise as gated_depthwise_kernels
from depthsr.kernels import layer_norm_2d as layer_norm_2d_kernels
from depthsr.kernels import naf_block as naf_block_kernels
from depthsr.kernels import scaled_conv1x1 as scaled_conv1x1_kernels
from depthsr.kernels import simple_gate as simple_gate_kernels
from depthsr.kernels.block_sizes import MAX_BLOCK_CHANNELS_FLOAT32, MAX_CHANNELS
from depthsr.kernels.parameters import NAFBlockParameters
from depthsr.ops import registration
from depthsr.ops.fold import fold_naf_block
from depthsr.ops.reference import (
    BILATERAL_REACH,
    BILATERAL_SIGMA_COLOUR,
    BILATERAL_SIGMA_SPACE,
    FLOOR,
    NAFBlockWeights,
)
from depthsr.ops.registration import layout_of
from depthsr.ops.triton_ops_without_gradient import fill_holes as fill_holes
from depthsr.ops.triton_ops_without_gradient import fit_lines as fit_lines
from depthsr.ops.triton_ops_without_gradient import joint_bilateral_upsample as joint_bilateral_upsample
from depthsr.ops.triton_ops_without_gradient import mix_candidates as mix_candidates
from depthsr.ops.triton_ops_without_gradient import surrounding_measurements as surrounding_measurements
from depthsr.ops.triton_sources import tell_torch_of_kernels


def _dense(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=layout_of(x))


@triton_op("depthsr::layer_norm_2d_triton", mutates_args={})
def layer_norm_2d(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    return layer_norm_2d_kernels.layer_norm_2d(_dense(x), weight.contiguous(), bias.contiguous(), eps)


@triton_op("depthsr::layer_norm_2d_triton_backward", mutates_args={})
def _layer_norm_2d_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    layout = layout_of(x)
    return layer_norm_2d_kernels.layer_norm_2d_backward(
        grad.contiguous(memory_format=layout), x.contiguous(memory_format=layout), weight.contiguous(), eps
    )


layer_norm_2d.register_autograd(
    partial(registration.layer_norm_2d_gradient, _layer_norm_2d_backward),
    setup_context=registration.layer_norm_2d_setup,
)


@triton_op("depthsr::simple_gate_triton", mutates_args={})
def simple_gate(x: Tensor) -> Tensor:
    return simple_gate_kernels.simple_gate(_dense(x))


@triton_op("depthsr::simple_gate_triton_backward", mutates_args={})
def _simple_gate_backward(grad: Tensor, x: Tensor) -> Tensor:
    layout = layout_of(x)
    return simple_gate_kernels.simple_gate_backward(
        grad.contiguous(memory_format=layout), x.contiguous(memory_format=layout)
    )


simple_gate.register_autograd(
    partial(registration.simple_gate_gradient, _simple_gate_backward), setup_context=registration.simple_gate_setup
)


# --- adain -----------------------------------------------------------------------------------------------------


@triton_op("depthsr::adain_statistics_triton", mutates_args={})
def adain_statistics(content: Tensor, style: Tensor, correction: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return adain_kernels.statistics(_dense(content), _dense(style), 1.0, correction)[:4]  # whatever eps: no ratio


@triton_op("depthsr::affine_triton", mutates_args={})
def _affine(x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return adain_kernels.affine(_dense(x), centre.contiguous(), scale.contiguous(), shift.contiguous())


adain_statistics.register_autograd(
    partial(registration.adain_statistics_gradient, _affine), setup_context=registration.adain_statistics_setup
)


@triton_op("depthsr::adain_triton", mutates_args={})
def adain(content: Tensor, style: Tensor, eps: float = 1e-5, correction: int = 0) -> Tensor:
    return adain_kernels.adain(_dense(content), _dense(style), eps, correction)


@triton_op("depthsr::adain_triton_backward", mutates_args={})
def _adain_backward(grad: Tensor, content: Tensor, style: Tensor, eps: float, correction: int) -> tuple[Tensor, Tensor]:
    grad = grad.contiguous(memory_format=layout_of(content))
    return adain_kernels.adain_backward(grad, _dense(content), _dense(style), eps, correction)


adain.register_autograd(partial(registration.adain_gradient, _adain_backward), setup_context=registration.adain_setup)


# --- bilateral_sum ---------------------------------------------------------------------------------------------


@triton_op("depthsr::bilateral_sum_triton", mutates_args={})
def bilateral_sum(x: Tensor, guide: Tensor) -> Tensor:
    return bilateral_kernels.bilateral_sum(
        x.contiguous(), _dense(guide), BILATERAL_REACH, BILATERAL_SIGMA_SPACE, BILATERAL_SIGMA_COLOUR, FLOOR
    )


bilateral_sum.register_autograd(
    partial(registration.bilateral_sum_gradient, bilateral_sum), setup_context=registration.bilateral_sum_setup
)


# --- gated_depthwise -------------------------------------------------------------------------------------------


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _as_of_type(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """float32, as the kernels read vectors, after rounding to the type that it is to be used as."""
    return weight.to(dtype).float().contiguous()


def _by_tap(weight_2C133: Tensor) -> Tensor:
    """9×2C."""
    return weight_2C133.flatten(1).t()


@triton_op("depthsr::gated_depthwise_triton", mutates_args={})
def gated_depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return gated_depthwise_kernels.gated_depthwise(
        _channels_last(x), _as_of_type(_by_tap(weight), x.dtype), _as_of_type(bias, x.dtype)
    )


@triton_op("depthsr::gated_depthwise_triton_backward", mutates_args={})
def _gated_depthwise_backward(
    grad: Tensor, grad_mean: Tensor, x: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, grad_weight, grad_bias = gated_depthwise_kernels.gated_depthwise_backward(
        _channels_last(grad), grad_mean.contiguous(), _channels_last(x), _as_of_type(_by_tap(weight), x.dtype),
        _as_of_type(bias, x.dtype),
    )  # fmt: skip
    return grad_x, grad_weight.t().reshape(weight.shape), grad_bias


gated_depthwise.register_autograd(
    partial(registration.gated_depthwise_gradient, _gated_depthwise_backward),
    setup_context=registration.gated_depthwise_setup,
)


# --- naf_block -------------------------------------------------------------------------------------------------

_MATRICES = ("conv1", "conv3", "expand", "project")
_OF_ANY_TYPE = ("depthwise", "depthwise_bias", "attention", "attention_bias")


def _in_the_kernels_types(parameters: NAFBlockParameters, dtype: torch.dtype) -> NAFBlockParameters:
    """Matrices of x's type, because `tl.dot` multiplies like by like; other results of folding float32."""
    return NAFBlockParameters(
        *(
            (tensor if name in _OF_ANY_TYPE else tensor.to(dtype if name in _MATRICES else torch.float32)).contiguous()
            for name, tensor in zip(NAFBlockParameters._fields, parameters, strict=True)
        )
    )


@triton_op("depthsr::naf_block_triton", mutates_args={})
def _naf_block(
    x: Tensor, conv1: Tensor, conv1_bias: Tensor, depthwise: Tensor, depthwise_bias: Tensor, attention: Tensor,
    attention_bias: Tensor, conv3: Tensor, conv3_bias: Tensor, expand: Tensor, expand_bias: Tensor, project: Tensor,
    project_bias: Tensor, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(result, y, pooled), channels_last; the last two are for the gradient, which computes everything else again."""
    parameters = NAFBlockParameters(
        conv1, conv1_bias, depthwise, depthwise_bias, attention, attention_bias, conv3, conv3_bias, expand, expand_bias,
        project, project_bias,
    )  # fmt: skip
    return naf_block_kernels.naf_block(_channels_last(x), _in_the_kernels_types(parameters, x.dtype), eps)


@triton_op("depthsr::naf_block_triton_backward", mutates_args={})
def _naf_block_backward(
    grad: Tensor, x: Tensor, y: Tensor, pooled: Tensor, parameters: list[Tensor], eps: float
) -> list[Tensor]:
    """Gradients of x and of the parameters, these float32."""
    grad_x, gradients = naf_block_kernels.naf_block_backward(
        _channels_last(grad), _channels_last(x), _channels_last(y), pooled,
        _in_the_kernels_types(NAFBlockParameters(*parameters), x.dtype), eps,
    )  # fmt: skip
    return [grad_x, *gradients]


def _naf_block_setup(ctx, inputs, output):
    x, *parameters, ctx.eps = inputs
    _, y, pooled = output
    ctx.mark_non_differentiable(y, pooled)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, y, pooled, *parameters)


def _naf_block_gradient(ctx, grad, _grad_y, _grad_pooled):
    x, y, pooled, *parameters = ctx.saved_tensors
    gradients = _naf_block_backward(grad, x, y, pooled, parameters, ctx.eps)
    return *(g.to(t.dtype) for g, t in zip(gradients, (x, *parameters), strict=True)), None


_naf_block.register_autograd(_naf_block_gradient, setup_context=_naf_block_setup)


@triton_op("depthsr::naf_block_inference_triton", mutates_args={})
def _naf_block_inference(x: Tensor, weights: list[Tensor], eps: float) -> Tensor:
    """Folds anew each time, in one launch: weights may be changed in place, also between replays of a CUDA graph."""
    parameters = fold_kernels.fold_naf_block([weight.contiguous() for weight in weights], x.dtype)
    return naf_block_kernels.naf_block(_channels_last(x), parameters, eps)[0]


def naf_block(x_BCHW: Tensor, weights: NAFBlockWeights, eps: float = 1e-6) -> Tensor:
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x_BCHW, *weights)):
        return _naf_block(x_BCHW, *fold_naf_block(weights), eps)[0]
    return _naf_block_inference(x_BCHW, list(weights), eps)


def _why_not_so_wide(op: str, x: Tensor, channels: int) -> str | None:
    if channels > MAX_CHANNELS:
        return f"the triton kernels of {op} take at most {MAX_CHANNELS} channels, not {channels}"
    if op == "naf_block" and x.dtype == torch.float32 and channels > MAX_BLOCK_CHANNELS_FLOAT32:
        return (
            f"the triton kernels of {op} take at most {MAX_BLOCK_CHANNELS_FLOAT32} channels in float32, not "
            f"{channels}: their gradient needs more shared memory than many GPUs have"
        )
    if x.numel() == 0:
        return f"the triton kernels of {op} take no empty tensors"
    return None


#: op -> what else keeps its kernels from computing it on these tensors, or None.
_LIMITS: dict[str, Callable[..., str | None]] = {
    "naf_block": lambda x_BCHW, *_: _why_not_so_wide("naf_block", x_BCHW, x_BCHW.shape[1]),
    "adain_fusion": lambda x_BCHW, *_: _why_not_so_wide("adain_fusion", x_BCHW, x_BCHW.shape[1]),
    "gated_depthwise": lambda x_B2CHW, *_: _why_not_so_wide("gated_depthwise", x_B2CHW, x_B2CHW.shape[1] // 2),
    **{op: partial(registration.why_no_gradient, "triton", op) for op in registration.WITHOUT_GRADIENT},
}


def why_not(op: str, *tensors: Tensor) -> str | None:
    """What keeps `op`'s kernels from computing it on these tensors, or None."""
    device = tensors[0].device
    if device.type == "cuda" and torch.cuda.is_available():  # the second: fake tensors on a machine without GPU
        current = torch.cuda.current_device()
        if device.index != current:
            return (
                f"Triton launches on the current GPU, which is cuda:{current}, and {op} was given a tensor on {device} "
                "(torch.cuda.set_device makes that the current one)"
            )
    return _LIMITS[op](*tensors) if op in _LIMITS else None


# --- feed_forward ----------------------------------------------------------------------------------------------


@triton_op("depthsr::feed_forward_triton", mutates_args={})
def feed_forward(
    r: Tensor, expand: Tensor, expand_bias: Tensor, project: Tensor, project_bias: Tensor, eps: float
) -> Tensor:
    """The second half of a NAFNet block alone, its norm and gamma folded in (fold.fold_naf_block)."""
    out = feed_forward_kernels.feed_forward(
        _channels_last(r), expand.to(r.dtype).contiguous(), expand_bias.float().contiguous(),
        project.to(r.dtype).contiguous(), project_bias.float().contiguous(), eps,
    )  # fmt: skip
    return out.contiguous(memory_format=layout_of(r))


@triton_op("depthsr::feed_forward_triton_backward", mutates_args={})
def _feed_forward_backward(
    grad: Tensor, r: Tensor, expand: Tensor, expand_bias: Tensor, project: Tensor, eps: float
) -> list[Tensor]:
    grad_r, *gradients = feed_forward_kernels.feed_forward_backward(
        _channels_last(grad), _channels_last(r), expand.to(r.dtype).contiguous(), expand_bias.float().contiguous(),
        project.to(r.dtype).contiguous(), eps,
    )  # fmt: skip
    return [grad_r.contiguous(memory_format=layout_of(r)), *gradients]


def _feed_forward_setup(ctx, inputs, output):
    r, expand, expand_bias, project, project_bias, ctx.eps = inputs
    ctx.project_bias_dtype = project_bias.dtype
    ctx.save_for_backward(r, expand, expand_bias, project)


def _feed_forward_gradient(ctx, grad):
    r, expand, expand_bias, project = ctx.saved_tensors
    dtypes = r.dtype, expand.dtype, expand_bias.dtype, project.dtype, ctx.project_bias_dtype
    gradients = _feed_forward_backward(grad, r, expand, expand_bias, project, ctx.eps)
    return *(g.to(dtype) for g, dtype in zip(gradients, dtypes, strict=True)), None


feed_forward.register_autograd(_feed_forward_gradient, setup_context=_feed_forward_setup)


# --- scaled_conv1x1 --------------------------------------------------------------------------------------------


@triton_op("depthsr::scaled_conv1x1_triton", mutates_args={})
def scaled_conv1x1(
    x: Tensor, residual: Tensor, centre: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """residual + ((x - centre) · scale + shift) @ weightᵀ + bias; centre, scale, shift B×C, float32; weight C×C.

    AdaIN with the projection and sum that follow it: centre and shift are the means of content and style, scale the
    style's standard deviation over the content's.
    """
    out = scaled_conv1x1_kernels.scaled_conv1x1(
        _channels_last(x), _channels_last(residual.to(x.dtype)), scale.contiguous(),
        weight.to(x.dtype).contiguous(), bias.float().contiguous(), centre.contiguous(), shift.contiguous(),
    )  # fmt: skip
    return out.contiguous(memory_format=layout_of(x))


@triton_op("depthsr::scaled_conv1x1_triton_backward", mutates_args={})
def _scaled_conv1x1_backward(
    grad: Tensor, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor, weight: Tensor
) -> list[Tensor]:
    """Gradients of x, scale, shift, weight, bias."""
    grad_x, *gradients = scaled_conv1x1_kernels.scaled_conv1x1_backward(
        _channels_last(grad), _channels_last(x), scale.contiguous(), weight.to(x.dtype).contiguous(),
        centre.contiguous(), shift.contiguous(),
    )  # fmt: skip
    return [grad_x.contiguous(memory_format=layout_of(x)), *gradients]


def _scaled_conv1x1_setup(ctx, inputs, output):
    x, residual, centre, scale, shift, weight, bias = inputs
    ctx.residual_dtype, ctx.bias_dtype = residual.dtype, bias.dtype
    ctx.save_for_backward(x, centre, scale, shift, weight)


def _scaled_conv1x1_gradient(ctx, grad):
    x, centre, scale, shift, weight = ctx.saved_tensors
    grad_x, grad_scale, grad_shift, grad_weight, grad_bias = _scaled_conv1x1_backward(
        grad, x, centre, scale, shift, weight
    )
    return (
        grad_x, grad.to(ctx.residual_dtype), -scale * grad_shift, grad_scale, grad_shift,
        grad_weight.to(weight.dtype), grad_bias.to(ctx.bias_dtype),
    )  # fmt: skip


scaled_conv1x1.register_autograd(_scaled_conv1x1_gradient, setup_context=_scaled_conv1x1_setup)


# --- adain_fusion ----------------------------------------------------------------------------------------------


@triton_op("depthsr::adain_ratio_triton", mutates_args={})
def _adain_ratio(content: Tensor, style: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """depthsr.kernels.adain.Statistics, with a gradient."""
    return adain_kernels.statistics(_dense(content), _dense(style), eps, 0)[:]


def _adain_ratio_setup(ctx, inputs, output):
    content, style, ctx.eps = inputs
    ctx.save_for_backward(content, style, *output)


def _adain_ratio_gradient(ctx, mean_grad, variance_grad, style_mean_grad, style_variance_grad, ratio_grad):
    """With v and w the variances of content and style and r = sqrt((w + eps) / (v + eps)):
    dr/dv = -r / 2(v + eps), dr/dw = r / 2(w + eps).
    """
    content, style, mean, variance, style_mean, style_variance, ratio = ctx.saved_tensors
    through_ratio = ratio_grad * ratio / 2
    variance_grad = variance_grad - through_ratio / (variance + ctx.eps)
    style_variance_grad = style_variance_grad + through_ratio / (style_variance + ctx.eps)
    gradient = registration.gradient_of_statistics
    return (
        gradient(_affine, content, mean, mean_grad, variance_grad, correction=0),
        gradient(_affine, style, style_mean, style_mean_grad, style_variance_grad, correction=0),
        None,
    )


_adain_ratio.register_autograd(_adain_ratio_gradient, setup_context=_adain_ratio_setup)


def adain_fusion(content: Tensor, style: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Content and style are read for their statistics and once more; what AdaIN makes of them stays in registers."""
    found = adain_kernels.Statistics(*_adain_ratio(content, style, eps))
    return scaled_conv1x1(content, style, found.mean, found.ratio, found.style_mean, weight.flatten(1), bias)


tell_torch_of_kernels()
