"""Relative depth in the measurement's units: another reading of the frame, sharp where the relative depth is.

Inverse depth is fitted as scale · relative + offset, by weighted least squares in windows of a coarse grid, so that
errors of the relative depth that change slowly across the frame, and bent tones, are taken up by the fit. A share of
the whole frame's moments steadies windows in which the relative depth is flat. A few rounds of reweighting leave out
what does not follow the line (Cauchy's weights), such as cells that a depth edge crosses.

Shapes: B batch, H×W pixels of the RGB, A = len(WINDOWS).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: The fit's grid: one cell for each so many pixels, each way. The challenge's measurement has that resolution.
CELL_PX = 8
#: Sides of the windows in cells. On eight validation frames under the challenge law the larger is the better one where
#: the relative depth is exact (RMSE 6.1 m against 7.2), the smaller one beyond 64 m where it is simulated at strength
#: 0.5 (10.5 against 12.7).
WINDOWS = (5, 15)
#: Share of the whole frame's moments in every window's.
WHOLE_FRAME = 0.05
ROUNDS = 4
#: Depths nearer than this share of the range count as this: inverse depth must not grow without bound.
NEAREST = 1e-3
#: A measurement from this share of the range on is a bound only.
END = 0.97
#: How much it counts where the line is beyond it, and before there is a line.
TRUST_IN_BOUND = 0.02
#: Farthest fitted depth, in units of the range.
FARTHEST = 1.05


@torch.no_grad()
def align_relative(relative_B1HW: Tensor, depth_B1HW: Tensor, uncertainty_B1HW: Tensor) -> Tensor:
    """B×A×H×W float32 depth in [NEAREST, FARTHEST], a map for each of WINDOWS. Not differentiated.

    relative_B1HW     larger = nearer, any scale and offset.
    depth_B1HW        the upsampled measurement, in units of its range (Prior.scale_m_B).
    uncertainty_B1HW  how far that may be off, > 0, same unit (Prior.ambiguity_B1HW).
    """
    height, width = relative_B1HW.shape[-2:]
    planes = torch.cat([relative_B1HW, depth_B1HW, uncertainty_B1HW], 1).float()
    planes = F.pad(planes, (0, -width % CELL_PX, 0, -height % CELL_PX), mode="replicate")
    relative, depth, uncertainty = F.avg_pool2d(planes, CELL_PX).split(1, 1)
    inverse = 1 / depth.clamp(min=NEAREST)
    deviation = uncertainty * inverse.square()
    open_end = depth >= END
    maps = []
    for window in WINDOWS:
        scale, offset = _fit(relative, inverse, deviation, open_end, window)
        line = F.interpolate(torch.cat([scale, offset], 1), scale_factor=CELL_PX, mode="bilinear")
        scale, offset = line[..., :height, :width].split(1, 1)
        fitted = scale * relative_B1HW.float() + offset
        maps.append(1 / fitted.clamp(1 / FARTHEST, 1 / NEAREST))
    return torch.cat(maps, 1)


def _fit(relative: Tensor, inverse: Tensor, deviation: Tensor, open_end: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Scale (not negative) and offset of the line in each cell."""
    # Not the inverse square: the far range, whose inverse depth is known best, would decide everything.
    certainty = 1 / deviation
    trust = torch.where(open_end, TRUST_IN_BOUND, 1.0)
    scale = offset = torch.zeros_like(certainty)
    for _ in range(ROUNDS):
        weight = certainty * trust
        moments = torch.cat([weight, weight * relative, weight * inverse], 1)
        total, of_relative, of_inverse = _windowed(moments, window).split(1, 1)
        mean_relative, mean_inverse = of_relative / total, of_inverse / total
        # Second moments about each window's mean: of raw ones, nothing is left after the subtraction in float32.
        products = torch.cat([weight * relative.square(), weight * relative * inverse], 1)
        square, product = (_windowed(products, window) / total).split(1, 1)
        variance = (square - mean_relative.square()).clamp(min=0)
        scale = ((product - mean_relative * mean_inverse) / (variance + 1e-6)).clamp(min=0)
        offset = mean_inverse - scale * mean_relative
        fitted = scale * relative + offset
        trust = 1 / (1 + ((fitted - inverse) / (2 * deviation)).square())
        # What lies at the end of the range, the sky for instance, may be anywhere beyond it: a line that puts it there
        # is not pulled back.
        trust = torch.where(open_end & (fitted <= inverse), TRUST_IN_BOUND, trust)
    return scale, offset


def _windowed(moments: Tensor, window: int) -> Tensor:
    """Means over the window around each cell, with the whole frame's share."""
    padded = F.pad(moments, (window // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, window, 1) + WHOLE_FRAME * moments.mean((2, 3), keepdim=True)
