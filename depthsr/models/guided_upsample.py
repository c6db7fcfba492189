"""What surrounds joint bilateral upsampling (`ops.joint_bilateral_upsample`): two ways of shrinking its guide, and the
coarse pixels around each fine one as they are.

Shapes: B batch, h×w low resolution, H×W the guide's resolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.ops.reference import coarse_neighbours


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


def neighbours(x_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """B×9×H×W: for each pixel of `size` the 3×3 coarse pixels around it, row by row."""
    rows, _ = coarse_neighbours(x_B1hw.shape[2], size[0], 1, x_B1hw)
    columns, _ = coarse_neighbours(x_B1hw.shape[3], size[1], 1, x_B1hw)
    return torch.cat([x_B1hw.index_select(2, row).index_select(3, column) for row in rows for column in columns], 1)
