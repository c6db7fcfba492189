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


def neighbours(x_B1hw: Tensor, valid_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """B×9×H×W: for each pixel of `size` the 3×3 coarse pixels around it, row by row.

    x: holes filled. Where one of the eight around it is a hole, the next measurement in that direction stands in its
    place, if there is one: beside what hides it from one of two cameras, a surface goes on as it is on the other side.
    """
    rows, _ = coarse_neighbours(x_B1hw.shape[2], size[0], 1, x_B1hw)
    columns, _ = coarse_neighbours(x_B1hw.shape[3], size[1], 1, x_B1hw)
    return torch.cat(
        [
            measured_towards(x_B1hw, valid_B1hw, i - 1, j - 1).index_select(2, row).index_select(3, column)
            for i, row in enumerate(rows)
            for j, column in enumerate(columns)
        ],
        1,
    )


def measured_towards(x_B1hw: Tensor, valid_B1hw: Tensor, down: int, right: int) -> Tensor:
    """x, but in holes the next valid value `down` and `right` of it (each -1, 0 or 1), where there is one."""
    if down == right == 0:
        return x_B1hw
    planes = torch.cat([x_B1hw, valid_B1hw.to(x_B1hw.dtype)], 1)
    distance = 1
    while distance < max(x_B1hw.shape[2:]):
        # What is found so far lies less than `distance` away, and twice as much after this.
        planes = torch.where(planes[:, 1:] > 0, planes, _moved(planes, distance * down, distance * right))
        distance *= 2
    return torch.where(planes[:, 1:] > 0, planes[:, :1], x_B1hw)


def _moved(x_BKhw: Tensor, down: int, right: int) -> Tensor:
    """What lies `down` and `right` of each pixel; 0 beyond the border."""
    height, width = x_BKhw.shape[2:]
    down, right = max(-height, min(down, height)), max(-width, min(right, width))
    padded = F.pad(x_BKhw, (max(-right, 0), max(right, 0), max(-down, 0), max(down, 0)))
    top, left = max(down, 0), max(right, 0)
    return padded[:, :, top : top + height, left : left + width]
