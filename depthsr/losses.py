"""The training objective: L1 + L1 of Sobel gradients on valid pixels, and the error head's own term."""

from __future__ import annotations

import torch
from torch import Tensor

from depthsr import ops


def restoration_loss(
    depth_B1HW: Tensor,
    error_B1HW: Tensor,
    target_B1HW: Tensor,
    valid_B1HW: Tensor,
    gradient_weight: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Scalar to minimise and its parts, all in the units of the depth given (normalised depth in training).

    L1 + gradient_weight · Sobel L1 (the published loss, weight 1:1; Sobel kernels scaled to unit gain), plus the mean
    deviation of the predicted error from the real one, through which no gradient reaches the depth.
    """
    depth_loss = ops.sobel_l1_loss(depth_B1HW, target_B1HW, valid_B1HW, 1.0, gradient_weight)
    real_error = torch.where(valid_B1HW, (depth_B1HW - target_B1HW).abs(), 0.0).detach()
    deviation = torch.where(valid_B1HW, (error_B1HW - real_error).abs(), 0.0)
    count = valid_B1HW.sum().clamp(min=1)
    parts = {
        "loss": depth_loss.detach(),
        "l1": real_error.sum() / count,
        "error_head": (deviation.sum() / count).detach(),
    }
    return depth_loss + deviation.sum() / count, parts
