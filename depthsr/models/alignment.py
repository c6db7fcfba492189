"""Relative depth in the measurement's units: another reading of the frame, sharp where the relative depth is.

Inverse depth is fitted as scale · relative + offset in windows of a coarse grid (`ops.fit_lines`), so that errors of
the relative depth that change slowly across the frame, and bent tones, are taken up by the fit.

Shapes: B batch, H×W pixels of the RGB, A = len(WINDOWS).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.ops import fit_lines

#: The fit's grid: one cell for each so many pixels, each way. The challenge's measurement has that resolution.
CELL_PX = 8
#: Sides of the windows in cells. On eight validation frames under the challenge law the larger is the better one where
#: the relative depth is exact (RMSE 6.1 m against 7.2), the smaller one beyond 64 m where it is simulated at strength
#: 0.5 (10.5 against 12.7).
WINDOWS = (5, 15)
#: Depths nearer than this share of the range count as this: inverse depth must not grow without bound.
NEAREST = 1e-3
#: A measurement from this share of the range on is a bound only.
END = 0.97
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
        scale, offset = fit_lines(relative, inverse, deviation, open_end, window)
        line = F.interpolate(torch.cat([scale, offset], 1), scale_factor=CELL_PX, mode="bilinear")
        scale, offset = line[..., :height, :width].split(1, 1)
        fitted = scale * relative_B1HW.float() + offset
        maps.append(1 / fitted.clamp(1 / FARTHEST, 1 / NEAREST))
    return torch.cat(maps, 1)
