"""What surrounds joint bilateral upsampling (`ops.joint_bilateral_upsample`): two ways of shrinking its guide, and the
coarse pixels around each fine one as they are.

Shapes: B batch, h×w low resolution, H×W the guide's resolution.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.ops.reference import coarse_neighbours

#: (down, right) of a pixel and those around it, row by row.
DIRECTIONS = tuple(product((-1, 0, 1), repeat=2))

#: A measurement on the other side of a hole is looked for so far, coarse pixels; a power of 2.
REACH_OVER_HOLES = 256


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

    x: holes filled; > 0 where valid. Where one of the eight around it is a hole, the next measurement in that direction
    stands in its place, if there is one near: behind what hides it from one of two cameras, a surface goes on.
    """
    rows, _ = coarse_neighbours(x_B1hw.shape[2], size[0], 1, x_B1hw)
    columns, _ = coarse_neighbours(x_B1hw.shape[3], size[1], 1, x_B1hw)
    maps = measured_towards(x_B1hw, valid_B1hw).split(1, 1)
    places = product(rows, columns)
    return torch.cat(
        [x.index_select(2, row).index_select(3, column) for x, (row, column) in zip(maps, places, strict=True)], 1
    )


def measured_towards(x_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    """B×9×h×w: x, but in holes the next valid value in each of DIRECTIONS, if it is less than REACH_OVER_HOLES away.

    x: > 0 where valid.
    """
    height, width = x_B1hw.shape[2:]
    found = torch.where(valid_B1hw, x_B1hw, 0.0).expand(-1, len(DIRECTIONS), -1, -1)
    distance = 1
    while distance < min(REACH_OVER_HOLES, max(height, width)):
        # What is found so far lies less than `distance` away, and twice as much after this.
        padded = F.pad(found, (distance, distance, distance, distance))
        moved = [
            padded[:, i, distance * (1 + down) :, distance * (1 + right) :][:, :height, :width]
            for i, (down, right) in enumerate(DIRECTIONS)
        ]
        found = torch.where(found > 0, found, torch.stack(moved, 1))
        distance *= 2
    return torch.where(found > 0, found, x_B1hw)
