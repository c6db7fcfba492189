"""Joint bilateral upsampling (Kopf et al. 2007): each fine pixel is a mean of the coarse pixels whose colour it has.

Shapes: B batch, h×w low resolution, H×W the guide's resolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Standard deviations of the spatial weight, in low-resolution pixels, and of the colour weight, RGB in [0, 1]. Near
#: the best of a few settings tried (0.6 to 0.8; 20, 30 and 45 of 255); not tuned further, as the network weighs it.
SIGMA_SPACE = 0.7
SIGMA_COLOUR = 30 / 255

#: Weight of a coarse pixel of quite another colour: where none fits, the spatial weights alone decide.
FLOOR = 1e-4


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


def joint_bilateral_upsample(x_B1hw: Tensor, guide_B3HW: Tensor, guide_B3hw: Tensor) -> Tensor:
    """B×1×H×W: for each fine pixel the weighted mean of the 3×3 coarse pixels around it.

    Weight: exp(-distance² / 2σ_space²) · (exp(-|colour difference|² / 2σ_colour²) + FLOOR).
    """
    total = torch.zeros_like(guide_B3HW[:, :1])
    weights = torch.zeros_like(total)
    rows, row_weights = _around(x_B1hw.shape[2], guide_B3HW.shape[2], x_B1hw)
    columns, column_weights = _around(x_B1hw.shape[3], guide_B3HW.shape[3], x_B1hw)
    for row, row_weight_H in zip(rows, row_weights, strict=True):
        x_rows, guide_rows = x_B1hw.index_select(2, row), guide_B3hw.index_select(2, row)
        for column, column_weight_W in zip(columns, column_weights, strict=True):
            difference = guide_B3HW - guide_rows.index_select(3, column)
            distance = difference.square().sum(1, keepdim=True)
            weight = torch.exp(distance * (-0.5 / SIGMA_COLOUR**2)) + FLOOR
            weight = weight * (row_weight_H[:, None] * column_weight_W)
            total = total + weight * x_rows.index_select(3, column)
            weights = weights + weight
    return total / weights


def neighbours(x_B1hw: Tensor, size: tuple[int, int]) -> Tensor:
    """B×9×H×W: for each pixel of `size` the 3×3 coarse pixels around it, row by row."""
    rows, _ = _around(x_B1hw.shape[2], size[0], x_B1hw)
    columns, _ = _around(x_B1hw.shape[3], size[1], x_B1hw)
    return torch.cat([x_B1hw.index_select(2, row).index_select(3, column) for row in rows for column in columns], 1)


def _around(coarse: int, fine: int, like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Along one axis, for the coarse pixel nearest to each fine one and for both its sides: indices and weights."""
    position = (torch.arange(fine, device=like.device, dtype=like.dtype) + 0.5) * (coarse / fine) - 0.5
    nearest = position.round()
    indices, weights = [], []
    for offset in (-1, 0, 1):
        neighbour = nearest + offset
        indices.append(neighbour.long().clamp(0, coarse - 1))
        weights.append(torch.exp((neighbour - position).square() * (-0.5 / SIGMA_SPACE**2)))
    return indices, weights
