"""Two ways of shrinking the guide of joint bilateral upsampling (`ops.joint_bilateral_upsample`).

Shapes: B batch, H×W the guide's resolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.ops.choice import is_exporting


def area_guide(guide_B3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """The guide's mean over each coarse pixel, for a measurement that is itself a mean."""
    if torch.compiler.is_compiling() and not is_exporting():
        return _means(_means(guide_B3HW, size[0], 2), size[1], 3)
    return F.adaptive_avg_pool2d(guide_B3HW, size)


def _means(x_BCHW: Tensor, coarse: int, axis: int) -> Tensor:
    """F.adaptive_avg_pool2d along one axis, for Inductor, which cannot lower that one to a size it does not know."""
    fine = x_BCHW.shape[axis]
    index = torch.arange(coarse, device=x_BCHW.device)
    first, last = index * fine // coarse, ((index + 1) * fine + coarse - 1) // coarse
    sums = x_BCHW.cumsum(axis, dtype=torch.float64)  # in float32 the small difference of two large sums is rounded
    sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums], axis)
    shape = [-1 if i == axis else 1 for i in range(4)]
    totals = sums.index_select(axis, last) - sums.index_select(axis, first)
    return (totals / (last - first).view(shape)).to(x_BCHW.dtype)


def point_guide(guide_B3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """The guide's pixel at each coarse pixel's centre, for a measurement that is a sample of one point."""
    for axis in (2, 3):
        fine, coarse = guide_B3HW.shape[axis], size[axis - 2]
        centres = ((torch.arange(coarse, device=guide_B3HW.device) + 0.5) * (fine / coarse)).long()
        guide_B3HW = guide_B3HW.index_select(axis, centres)
    return guide_B3HW
