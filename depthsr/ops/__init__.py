"""The package's operations on tensors. `reference` says what each one means; `choice` which implementation runs."""

from __future__ import annotations

import torch
from torch import Tensor

from depthsr.ops import reference
from depthsr.ops.choice import backend, choose
from depthsr.ops.reference import NAFBlockWeights

__all__ = [
    "NAFBlockWeights",
    "adain",
    "adain_fusion",
    "adain_statistics",
    "backend",
    "bilateral_sum",
    "fill_holes",
    "fit_lines",
    "gated_depthwise",
    "joint_bilateral_upsample",
    "layer_norm_2d",
    "mix_candidates",
    "naf_block",
    "reference",
    "simple_gate",
    "sobel_l1_loss",
    "surrounding_measurements",
]


def _check_image(name: str, tensor: Tensor) -> None:
    if tensor.dim() != 4:
        raise ValueError(f"{name} must be B×C×H×W, but has shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be of a floating-point type, but is {tensor.dtype}")


def layer_norm_2d(x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float = 1e-6) -> Tensor:
    _check_image("x", x_BCHW)
    for name, tensor in (("weight", weight_C), ("bias", bias_C)):
        if tensor.shape != (x_BCHW.shape[1],):
            raise ValueError(f"{name} must have {x_BCHW.shape[1]} values, one a channel, not {tuple(tensor.shape)}")
    return choose("layer_norm_2d", x_BCHW, weight_C, bias_C)(x_BCHW, weight_C, bias_C, eps)


def simple_gate(x_B2CHW: Tensor) -> Tensor:
    _check_image("x", x_B2CHW)
    if x_B2CHW.shape[1] % 2:
        raise ValueError(f"x must have an even number of channels, but has {x_B2CHW.shape[1]}")
    return choose("simple_gate", x_B2CHW)(x_B2CHW)


def gated_depthwise(x_B2CHW: Tensor, weight_2C133: Tensor, bias_2C: Tensor) -> tuple[Tensor, Tensor]:
    _check_image("x", x_B2CHW)
    channels = x_B2CHW.shape[1]
    if channels % 2:
        raise ValueError(f"x must have an even number of channels, but has {channels}")
    for name, tensor, shape in (("weight", weight_2C133, (channels, 1, 3, 3)), ("bias", bias_2C, (channels,))):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape} for {channels} channels, not {tuple(tensor.shape)}")
    return choose("gated_depthwise", x_B2CHW, weight_2C133, bias_2C)(x_B2CHW, weight_2C133, bias_2C)


def _check_planes(content_BCHW: Tensor, style_BCHW: Tensor) -> None:
    _check_image("content", content_BCHW)
    _check_image("style", style_BCHW)
    if content_BCHW.shape[:2] != style_BCHW.shape[:2]:
        raise ValueError(
            "content and style must have the same batch and channels, "
            f"but are {tuple(content_BCHW.shape)} and {tuple(style_BCHW.shape)}"
        )


def adain_statistics(
    content_BCHW: Tensor, style_BCHW: Tensor, correction: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_planes(content_BCHW, style_BCHW)
    if content_BCHW.dtype != style_BCHW.dtype:  # as in adain
        wider = torch.promote_types(content_BCHW.dtype, style_BCHW.dtype)
        content_BCHW, style_BCHW = content_BCHW.to(wider), style_BCHW.to(wider)
    return choose("adain_statistics", content_BCHW, style_BCHW)(content_BCHW, style_BCHW, correction)


def adain(content_BCHW: Tensor, style_BCHW: Tensor, eps: float = 1e-5, correction: int = 0) -> Tensor:
    _check_planes(content_BCHW, style_BCHW)
    if content_BCHW.dtype != style_BCHW.dtype:  # kernels take one storage type: the wider, which loses nothing
        wider = torch.promote_types(content_BCHW.dtype, style_BCHW.dtype)
        return adain(content_BCHW.to(wider), style_BCHW.to(wider), eps, correction).to(content_BCHW.dtype)
    return choose("adain", content_BCHW, style_BCHW)(content_BCHW, style_BCHW, eps, correction)


def adain_fusion(
    content_BCHW: Tensor, style_BCHW: Tensor, weight_CC11: Tensor, bias_C: Tensor, eps: float = 1e-5
) -> Tensor:
    _check_planes(content_BCHW, style_BCHW)
    channels = style_BCHW.shape[1]
    if content_BCHW.shape != style_BCHW.shape:
        raise ValueError(
            "content and style must have the same height and width, "
            f"but are {tuple(content_BCHW.shape)} and {tuple(style_BCHW.shape)}"
        )
    for name, tensor, shape in (("weight", weight_CC11, (channels, channels, 1, 1)), ("bias", bias_C, (channels,))):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape} for {channels} channels, not {tuple(tensor.shape)}")
    if content_BCHW.dtype != style_BCHW.dtype:  # as in adain
        wider = torch.promote_types(content_BCHW.dtype, style_BCHW.dtype)
        content_BCHW, style_BCHW = content_BCHW.to(wider), style_BCHW.to(wider)
    tensors = (content_BCHW, style_BCHW, weight_CC11, bias_C)
    return choose("adain_fusion", *tensors)(*tensors, eps)


def sobel_l1_loss(
    pred_B1HW: Tensor,
    target_B1HW: Tensor,
    valid_B1HW: Tensor | None = None,
    l1_weight: float = 1.0,
    gradient_weight: float = 1.0,
) -> Tensor:
    _check_image("pred", pred_B1HW)
    if pred_B1HW.shape[1] != 1:
        raise ValueError(f"pred must have one channel, but has shape {tuple(pred_B1HW.shape)}")
    for name, tensor in (("target", target_B1HW), ("valid", valid_B1HW)):
        if tensor is not None and tensor.shape != pred_B1HW.shape:
            raise ValueError(f"{name} must have pred's shape {tuple(pred_B1HW.shape)}, not {tuple(tensor.shape)}")
    if valid_B1HW is not None and valid_B1HW.dtype != torch.bool:
        raise ValueError(f"valid must be bool, but is {valid_B1HW.dtype}")
    if pred_B1HW.dtype != target_B1HW.dtype:  # as in adain; a network's half-precision output against float32 depth
        wider = torch.promote_types(pred_B1HW.dtype, target_B1HW.dtype)
        pred_B1HW, target_B1HW = pred_B1HW.to(wider), target_B1HW.to(wider)
    compute = choose("sobel_l1_loss", pred_B1HW, target_B1HW)
    return compute(pred_B1HW, target_B1HW, valid_B1HW, l1_weight, gradient_weight)


def _check_measurement(x_B1hw: Tensor, valid_B1hw: Tensor, x_name: str = "x", valid_name: str = "valid") -> None:
    _check_image(x_name, x_B1hw)
    if x_B1hw.shape[1] != 1 or 0 in x_B1hw.shape[2:]:
        raise ValueError(f"{x_name} must have one channel, and pixels, but has shape {tuple(x_B1hw.shape)}")
    if valid_B1hw.shape != x_B1hw.shape or valid_B1hw.dtype != torch.bool:
        raise ValueError(
            f"{valid_name} must be bool and have {x_name}'s shape {tuple(x_B1hw.shape)}, "
            f"but is {valid_B1hw.dtype} of {tuple(valid_B1hw.shape)}"
        )


def fill_holes(x_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    _check_measurement(x_B1hw, valid_B1hw)
    return choose("fill_holes", x_B1hw)(x_B1hw, valid_B1hw)


def surrounding_measurements(x_B1hw: Tensor, valid_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    _check_measurement(x_B1hw, valid_B1hw)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be a height and a width, both at least 1, not {tuple(size)}")
    return choose("surrounding_measurements", x_B1hw)(x_B1hw, valid_B1hw, size)


def joint_bilateral_upsample(x_B1hw: Tensor, confidence_B1hw: Tensor, guide_B3HW: Tensor, guide_B3hw: Tensor) -> Tensor:
    batch, _, *size = x_B1hw.shape if x_B1hw.dim() == 4 else (0, 0, 0, 0)
    tensors = (x_B1hw, confidence_B1hw, guide_B3HW, guide_B3hw)
    names = ("x", "confidence", "guide", "coarse guide")
    for name, tensor, channels in zip(names, tensors, (1, 1, 3, 3), strict=True):
        _check_image(name, tensor)
        if tensor.shape[:2] != (batch, channels):
            raise ValueError(f"{name} must be {batch}×{channels}×H×W, but has shape {tuple(tensor.shape)}")
        if 0 in tensor.shape[2:]:
            raise ValueError(f"{name} must have pixels, but has shape {tuple(tensor.shape)}")
    for name, tensor in (("confidence", confidence_B1hw), ("coarse guide", guide_B3hw)):
        if list(tensor.shape[2:]) != size:
            raise ValueError(f"the {name} must have x's size {tuple(size)}, not {tuple(tensor.shape[2:])}")
    return choose("joint_bilateral_upsample", *tensors)(*tensors)


def bilateral_sum(x_BCHW: Tensor, guide_B3HW: Tensor) -> Tensor:
    _check_image("x", x_BCHW)
    _check_image("guide", guide_B3HW)
    batch, _, height, width = x_BCHW.shape
    if guide_B3HW.shape != (batch, 3, height, width):
        raise ValueError(f"guide must be {batch}×3×{height}×{width}, as x, but has shape {tuple(guide_B3HW.shape)}")
    return choose("bilateral_sum", x_BCHW, guide_B3HW)(x_BCHW, guide_B3HW)


def fit_lines(
    relative_B1hw: Tensor, inverse_B1hw: Tensor, deviation_B1hw: Tensor, open_end_B1hw: Tensor, window: int
) -> tuple[Tensor, Tensor]:
    _check_measurement(relative_B1hw, open_end_B1hw, "relative", "open_end")
    for name, tensor in (("inverse", inverse_B1hw), ("deviation", deviation_B1hw)):
        _check_image(name, tensor)
        if tensor.shape != relative_B1hw.shape:
            shape = tuple(relative_B1hw.shape)
            raise ValueError(f"{name} must have relative's shape {shape}, not {tuple(tensor.shape)}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and at least 1, not {window}")
    tensors = (relative_B1hw, inverse_B1hw, deviation_B1hw)
    return choose("fit_lines", *tensors)(*tensors, open_end_B1hw, window)


def mix_candidates(
    logits_BNhw: Tensor, correction_B4hw: Tensor, error_B4hw: Tensor, candidates_BKHW: Tensor, ambiguity_B1HW: Tensor
) -> tuple[Tensor, Tensor]:
    tensors = (logits_BNhw, correction_B4hw, error_B4hw, candidates_BKHW, ambiguity_B1HW)
    for name, tensor in zip(("logits", "correction", "error", "candidates", "ambiguity"), tensors, strict=True):
        _check_image(name, tensor)
    batch, count, height, width = candidates_BKHW.shape
    half = logits_BNhw.shape[2:]
    if 0 in candidates_BKHW.shape[1:] or 2 * half[0] < height or 2 * half[1] < width:
        raise ValueError(f"{count} candidates of {height}×{width} do not go with logits of {half[0]}×{half[1]}")
    for name, tensor, shape in (
        ("logits", logits_BNhw, (batch, 4 * count, *half)),
        ("correction", correction_B4hw, (batch, 4, *half)),
        ("error", error_B4hw, (batch, 4, *half)),
        ("ambiguity", ambiguity_B1HW, (batch, 1, height, width)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}")
    return choose("mix_candidates", *tensors)(*tensors)


def naf_block(x_BCHW: Tensor, weights: NAFBlockWeights, eps: float = 1e-6) -> Tensor:
    _check_image("x", x_BCHW)
    channels = x_BCHW.shape[1]
    for name, tensor, shape in zip(weights._fields, weights, NAFBlockWeights.shapes(channels), strict=True):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape} for {channels} channels, not {tuple(tensor.shape)}")
    return choose("naf_block", x_BCHW, *weights)(x_BCHW, weights, eps)


for _op in (
    adain, adain_fusion, adain_statistics, bilateral_sum, fill_holes, fit_lines, gated_depthwise,
    joint_bilateral_upsample, layer_norm_2d, mix_candidates, naf_block, simple_gate, sobel_l1_loss,
    surrounding_measurements,
):  # fmt: skip
    _specification = getattr(reference, _op.__name__).__doc__
    _op.__doc__ = f"{_specification}\n    Raises ValueError for shapes or types that do not fit."
