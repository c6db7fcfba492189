"""From a poor depth map to what the network sees: normalised, filled, upsampled, with how far it may be wrong.

Shapes: B batch, h×w low resolution, H×W the RGB's resolution.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.models.guided_upsample import area_guide, point_guide
from depthsr.ops import fill_holes, joint_bilateral_upsample, surrounding_measurements

#: Ways of upsampling the measurement, the first of Prior.candidates_BKHW, and how many candidates there are in all; the
#: nearest measurement among them.
UPSAMPLINGS = 3
CANDIDATES = UPSAMPLINGS + 9
NEAREST = UPSAMPLINGS + 4

#: Of the valid depths, the quantile that is mapped to 1 when the range is unknown. Not the maximum: one wild pixel
#: must not rescale the frame.
RANGE_QUANTILE = 0.99

#: A correction of this share of the depth (and of the range) is allowed even where the neighbourhood is flat.
AMBIGUITY_OF_DEPTH = 0.02
AMBIGUITY_OF_RANGE = 0.002

#: In holes the value is a guess: a correction of this share of the depth is natural there.
AMBIGUITY_OF_HOLE = 0.25

#: What a filled hole counts beside a measurement in joint bilateral upsampling: next to nothing, but something where a
#: whole window is a hole.
CONFIDENCE_IN_HOLE = 0.003


class Prior(NamedTuple):
    """The depth measurement at the RGB's resolution, in units of `scale_m_B`.

    candidates_BKHW  what the network chooses between at each pixel, K = UPSAMPLINGS + 9. First the hole-filled depth
                    upsampled in three ways: bilinear (best where there is no edge), joint bilateral for depth that is
                    a mean over its pixel, and joint bilateral for depth that samples its pixel's centre. Then 3×3
                    low-resolution pixels around it as they are, SPACING_PX fine pixels apart at least (in place of a
                    hole, the next measurement in that direction): at an edge one of them is the surface it lies on.
    ambiguity_B1HW  how far they may be off: spread of the 3×3 low-resolution neighbourhood plus quantisation step,
                    larger in holes. The network's correction is multiplied by it, so where the measurement leaves no
                    doubt the result is the measurement, at any depth and in any unit.
    valid_B1HW      1 where measured, 0 in holes, between at their edges.
    condition_B2    quantisation step and log2 of the upsampling factor, both about 0 to 1.
    scale_m_B       metres per unit.
    """

    candidates_BKHW: Tensor
    ambiguity_B1HW: Tensor
    valid_B1HW: Tensor
    condition_B2: Tensor
    scale_m_B: Tensor

    def measurement_uncertainty(self) -> Tensor:
        """B×1×H×W: how far a measured value itself may be off, > 0: half a quantisation step, a share of the depth, and
        holes. Unlike the ambiguity it is not larger at edges, where it is the upsampling that is in doubt.
        """
        depth_B1HW = self.candidates_BKHW[:, :1]
        half_step_B111 = self.condition_B2[:, :1, None, None] / 20
        share = AMBIGUITY_OF_DEPTH + AMBIGUITY_OF_HOLE * (1 - self.valid_B1HW)
        return half_step_B111 + share * depth_B1HW.clamp(min=0) + AMBIGUITY_OF_RANGE


def depth_range_m(depth_m_B1hw: Tensor, valid_B1hw: Tensor) -> Tensor:
    """RANGE_QUANTILE of each sample's valid depths, B, metres; 1 where nothing is valid."""
    depth_m_BN = torch.where(valid_B1hw, depth_m_B1hw, -torch.inf).flatten(1)
    count_B = valid_B1hw.flatten(1).sum(1)
    last_B = (count_B - 1).clamp(min=0)
    farther_B = last_B - (last_B * RANGE_QUANTILE).round().long()
    # No more of a sorted list than a sample without holes needs; TensorRT has none longer than 3840.
    pixels = depth_m_BN.shape[1]
    needed = min(int(pixels * (1 - RANGE_QUANTILE)) + 2, pixels)
    range_B = depth_m_BN.topk(needed).values.gather(1, farther_B[:, None])[:, 0]
    return torch.where((count_B > 0) & (range_B > 0), range_B, 1.0)


def spread(x_B1hw: Tensor) -> Tensor:
    """Maximum minus minimum of each pixel's 3×3 neighbourhood."""
    return F.max_pool2d(x_B1hw, 3, 1, 1) + F.max_pool2d(-x_B1hw, 3, 1, 1)


def make_prior(
    depth_m_B1hw: Tensor,
    valid_B1hw: Tensor,
    rgb_B3HW: Tensor,
    quantisation_step_m_B: Tensor,
    max_depth_m_B: Tensor,
    filling_m_B1hw: Tensor | None = None,
) -> Prior:
    """Normalise, fill, upsample to the size of the guide.

    depth_m_B1hw           float32 metres; anything where valid is False.
    valid_B1hw             bool.
    rgb_B3HW               [0, 1].
    quantisation_step_m_B  metres between the levels of the measurement; 0 = none or unknown.
    max_depth_m_B          known range in metres, mapped to 1; 0 = unknown, taken from the data (`depth_range_m`).
    filling_m_B1hw         float32 metres: what holes are filled with where it is finite; None: nowhere.
    """
    scale_m_B = torch.where(max_depth_m_B > 0, max_depth_m_B, depth_range_m(depth_m_B1hw, valid_B1hw))
    scale_B111 = scale_m_B[:, None, None, None]
    step_B111 = quantisation_step_m_B[:, None, None, None] / scale_B111
    known_m_B1hw, known_B1hw = depth_m_B1hw, valid_B1hw
    if filling_m_B1hw is not None:
        known_m_B1hw = torch.where(valid_B1hw, depth_m_B1hw, filling_m_B1hw)
        known_B1hw = valid_B1hw | torch.isfinite(filling_m_B1hw)
    x = fill_holes(known_m_B1hw / scale_B111, known_B1hw)
    hole = (~valid_B1hw).to(x.dtype)
    ambiguity = spread(x) + step_B111 + (AMBIGUITY_OF_DEPTH + AMBIGUITY_OF_HOLE * hole) * x + AMBIGUITY_OF_RANGE
    low_size, size = (x.shape[2], x.shape[3]), (rgb_B3HW.shape[2], rgb_B3HW.shape[3])
    planes = F.interpolate(torch.cat([x, ambiguity, 1 - hole], 1), size=size, mode="bilinear", align_corners=False)
    bilinear, ambiguity, valid = planes.split(1, 1)
    confidence = torch.where(valid_B1hw, 1.0, CONFIDENCE_IN_HOLE)
    # At full size both guides are the picture; compiled code is not to be special for it.
    one = not torch.compiler.is_compiling() and low_size == size
    guided = [
        joint_bilateral_upsample(x, confidence, rgb_B3HW, guide(rgb_B3HW, low_size))
        for guide in ((area_guide,) if one else (area_guide, point_guide))
    ]
    # The maximum is of whole numbers: of quotients, Inductor of torch 2.10 and 2.11 takes it of their whole parts.
    log2_factor = 0.5 * math.log2(max(size[0], low_size[0]) / low_size[0] * (max(size[1], low_size[1]) / low_size[1]))
    condition_B2 = torch.stack([step_B111.flatten() * 10, torch.full_like(scale_m_B, log2_factor / 4)], 1)
    candidates = torch.cat([bilinear, guided[0], guided[-1], surrounding_measurements(x, valid_B1hw, size)], 1)
    return Prior(candidates, ambiguity, valid, condition_B2, scale_m_B)
