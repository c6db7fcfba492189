"""Conventions every module shares: what a depth map is, what a prediction holds, how a user's mistake is told.

Depth is float32 metres along the optical axis; ``NaN``, ``inf`` or 0 means "no value", and nothing is negative.
RGB is float in [0, 1]. Arrays are H×W (depth) and H×W×3 (RGB); tensors B×C×H×W.
Lower-case h, w = low resolution; upper-case H, W = the RGB's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Largest float16; the challenge and MVS-Synth write the sky with it.
SKY_FLOAT16 = 65504.0

#: Metres per unit of integer depth, where nothing else is said; floating-point depth is in metres.
MILLIMETRE_M = 0.001

#: No network's result goes further than the largest measured depth times this and half a quantisation step.
FARTHEST_OVER_MEASURED = 1.05

#: Relative depth is inverse depth up to scale and offset: these quantiles of a frame are mapped to 0 (far) and 1
#: (near), and what lies beyond is clipped at these limits.
RELATIVE_QUANTILES = (0.02, 0.98)
RELATIVE_LIMITS = (-0.5, 1.5)


class UserError(ValueError):
    """A mistake in what the user gave. The message is one sentence: what is wrong, where, what to do.

    The command line prints it without a traceback and exits with status 2; library callers catch ValueError.
    """


class SetupError(UserError):
    """A UserError that has nothing to do with the frame at hand: every other one would meet it too."""


@dataclass(frozen=True)
class Prediction:
    """A restored depth map at the RGB's resolution.

    depth_m     H×W float32, metres along the optical axis; finite everywhere.
    error_m     H×W float32, metres: the mean absolute error that the model expects there; NaN from a method that
                estimates none.
    confidence  H×W float32 in [0, 1]: 1 / (1 + error_m / (0.05 * depth_m)); 0.5 where the expected error is 5 % of
                the depth.
    valid       H×W bool: False where the input had no measurement near enough to support the value.
    """

    depth_m: np.ndarray
    error_m: np.ndarray
    confidence: np.ndarray
    valid: np.ndarray
