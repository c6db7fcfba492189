"""Relative depth as the network takes it, whoever made it. Shapes: B batch, H×W pixels of the RGB."""

from __future__ import annotations

from torch import Tensor

from depthsr.types import RELATIVE_LIMITS, RELATIVE_QUANTILES


def normalise_relative(relative_B1HW: Tensor) -> Tensor:
    """Affine-invariant inverse depth -> 0 (far) to 1 (near) at RELATIVE_QUANTILES of each frame, clipped at
    RELATIVE_LIMITS.
    """
    ordered_BN = relative_B1HW.flatten(1).sort(1).values
    last = ordered_BN.shape[1] - 1
    low_B, high_B = (ordered_BN[:, round(last * q)] for q in RELATIVE_QUANTILES)
    span_B111 = (high_B - low_B).clamp(min=1e-6)[:, None, None, None]
    return ((relative_B1HW - low_B[:, None, None, None]) / span_B111).clamp(*RELATIVE_LIMITS)
