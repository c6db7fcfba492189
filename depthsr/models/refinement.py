"""The last step: where the network is unsure, what lies around in the same colour is heard.

Edges of depth lie where those of the RGB do, at most places, and the network, whose finest stage works at half the
resolution, puts them there only roughly. A joint bilateral filter puts them there to the pixel and blurs all else. So
it is weighted twice: a pixel counts by how sure it is, and takes over as much as it is unsure. The error that the
network expects says both, and its refinement head adjusts it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr import ops

#: Expected error over depth at which a pixel counts half, where the head says nothing. As in Prediction.confidence.
TOLERANCE = 0.05

#: What a fresh head starts with: hardly anything is taken over.
TAKEN_OVER_OFFSET = 1.0

#: The head may change odds by a factor of e to the power of this.
MOST_ADJUSTED = 8.0

#: Depth, in units of Prior.scale_m_B, below which the error is no longer told relative to it.
LEAST_DEPTH = 1e-2


def refine(depth_B1HW: Tensor, error_B1HW: Tensor, adjustment_B8hw: Tensor, rgb_B3HW: Tensor) -> Tensor:
    """B×1×H×W: out_p = (1 - t_p) · d_p + t_p · Σ_q w_pq c_q d_q / Σ_q w_pq c_q, w the weights of ops.bilateral_sum.

    With e the expected error over depth, c = T / (T + e · exp(-b)) is how much a pixel counts and
    t = e / (e + T · exp(1 - a)) how much it takes over; T is TOLERANCE.

    depth, error   float32, in units of Prior.scale_m_B. Neither learns through e.
    adjustment     a, then b, at half the resolution, four values a pixel (pixel shuffle); what lies beyond H×W is cut.
    """
    height, width = depth_B1HW.shape[2:]
    adjustment = F.pixel_shuffle(adjustment_B8hw.to(depth_B1HW.dtype), 2)[..., :height, :width]
    taken_over, counts = adjustment.clamp(-MOST_ADJUSTED, MOST_ADJUSTED).split(1, 1)
    relative_error = error_B1HW.detach() / depth_B1HW.detach().abs().clamp(min=LEAST_DEPTH)
    confidence = TOLERANCE / (TOLERANCE + relative_error * torch.exp(-counts))
    share = relative_error / (relative_error + TOLERANCE * torch.exp(TAKEN_OVER_OFFSET - taken_over))
    around = ops.bilateral_sum(torch.cat([confidence * depth_B1HW, confidence], 1), rgb_B3HW)
    return torch.lerp(depth_B1HW, around[:, :1] / around[:, 1:], share)
