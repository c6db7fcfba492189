"""The Triton kernels of what lies around the network, before it and after: the ops of registration.WITHOUT_GRADIENT."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.library import triton_op

from depthsr.kernels import fill_holes as fill_holes_kernels
from depthsr.kernels import fit_lines as fit_lines_kernels
from depthsr.kernels import joint_bilateral_upsample as joint_bilateral_kernels
from depthsr.kernels import mix_candidates as mix_kernels
from depthsr.kernels import surrounding_measurements as surrounding_kernels
from depthsr.ops import registration
from depthsr.ops.reference import (
    ERROR_OFFSET,
    FLOOR,
    LEAST_VARIANCE,
    REACH,
    REACH_OVER_HOLES,
    ROUNDS,
    SIGMA_COLOUR,
    SIGMA_SPACE,
    TRUST_IN_BOUND,
    WHOLE_FRAME,
    coarse_spacing,
)
from depthsr.ops.registration import layout_of


@triton_op("depthsr::fill_holes_triton", mutates_args={})
def fill_holes(x: Tensor, valid: Tensor) -> Tensor:
    return fill_holes_kernels.fill_holes(x.contiguous(), valid.contiguous())


@triton_op("depthsr::surrounding_measurements_triton", mutates_args={})
def _surrounding_measurements(x: Tensor, valid: Tensor, height: int, width: int) -> Tensor:
    spacing = coarse_spacing(x.shape[2], height), coarse_spacing(x.shape[3], width)
    return surrounding_kernels.surrounding_measurements(
        x.contiguous(), valid.contiguous(), (height, width), spacing, REACH_OVER_HOLES
    )


def surrounding_measurements(x_B1hw: Tensor, valid_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    return _surrounding_measurements(x_B1hw, valid_B1hw, *size)


fill_holes.register_autograd(partial(registration.no_gradient, "fill_holes"))
_surrounding_measurements.register_autograd(partial(registration.no_gradient, "surrounding_measurements"))


# --- mix_candidates --------------------------------------------------------------------------------------------


@triton_op("depthsr::mix_candidates_triton", mutates_args={})
def mix_candidates(
    logits: Tensor, correction: Tensor, error: Tensor, candidates: Tensor, ambiguity: Tensor
) -> tuple[Tensor, Tensor]:
    logits, correction, error = (
        half.contiguous(memory_format=torch.channels_last) for half in (logits, correction, error)
    )
    return mix_kernels.mix_candidates(
        logits, correction, error, candidates.contiguous(), ambiguity.contiguous(), ERROR_OFFSET
    )


mix_candidates.register_autograd(partial(registration.no_gradient, "mix_candidates"))


# --- joint_bilateral_upsample ----------------------------------------------------------------------------------


@triton_op("depthsr::joint_bilateral_upsample_triton", mutates_args={})
def joint_bilateral_upsample(x: Tensor, confidence: Tensor, guide: Tensor, coarse_guide: Tensor) -> Tensor:
    return joint_bilateral_kernels.joint_bilateral_upsample(
        x.contiguous(), confidence.contiguous(), guide.contiguous(memory_format=layout_of(guide)),
        coarse_guide.contiguous(), REACH, SIGMA_SPACE, SIGMA_COLOUR, FLOOR,
    )  # fmt: skip


joint_bilateral_upsample.register_autograd(partial(registration.no_gradient, "joint_bilateral_upsample"))


# --- fit_lines -------------------------------------------------------------------------------------------------


@triton_op("depthsr::fit_lines_triton", mutates_args={})
def fit_lines(
    relative: Tensor, inverse: Tensor, deviation: Tensor, open_end: Tensor, window: int
) -> tuple[Tensor, Tensor]:
    relative, inverse, deviation = (tensor.float().contiguous() for tensor in (relative, inverse, deviation))
    return fit_lines_kernels.fit_lines(
        relative, inverse, deviation, open_end.contiguous(), window, ROUNDS, WHOLE_FRAME, TRUST_IN_BOUND,
        LEAST_VARIANCE,
    )  # fmt: skip


fit_lines.register_autograd(partial(registration.no_gradient, "fit_lines"))
