"""Two ways of shrinking the guide of joint bilateral upsampling (`ops.joint_bilateral_upsample`).

Shapes: B batch, H×W the guide's resolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def area_guide(guide_B3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """The guide's mean over each coarse pixel, for a measurement that is itself a mean."""
    return F.adaptive_avg_pool2d(guide_B3HW, size)


def point_guide(guide_B3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """The guide's pixel at each coarse pixel's centre, for a measurement that is a sample of one point."""
    for axis in (2, 3):
        fine, coarse = guide_B3HW.shape[axis], size[axis - 2]
        centres = ((torch.arange(coarse, device=guide_B3HW.device) + 0.5) * (fine / coarse)).long()
        guide_B3HW = guide_B3HW.index_select(axis, centres)
    return guide_B3HW
