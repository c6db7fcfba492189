"""Classical upsampling behind one call: numpy in, numpy out, metres. What a learnt model has to beat.

BASELINES[name](rgb_HW3, depth_m_hw, protocol=None) -> depth_m_HW
    rgb_HW3      float in [0, 1].
    depth_m_hw   float metres, h <= H, w <= W; NaN, inf or <= 0 = no value (filled from what was measured nearby).
    protocol     name of the degradation (depthsr.data.degrade.PROTOCOLS), for which the edge-aware methods have their
                 own settings; None: unknown, and settings for noisy depth at this scale are used.
    depth_m_HW   float32 metres, finite everywhere, within the range of the input.
ValueError when no pixel of depth_m_hw has a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from depthsr.models.baselines.fast_global_smoother import fast_global_smoother
from depthsr.models.baselines.guided_filter import guided_filter
from depthsr.models.baselines.joint_bilateral import joint_bilateral
from depthsr.models.baselines.resample import bicubic, bilinear, fill_from_behind, median_of_measured, nearest
from depthsr.models.baselines.settings import settings_for

__all__ = ["BASELINES", "EDGE_AWARE", "INTERPOLATIONS"]

INTERPOLATIONS: dict[str, Callable[..., np.ndarray]] = {"nearest": nearest, "bilinear": bilinear, "bicubic": bicubic}
#: Methods that follow the RGB; they take keyword settings.
EDGE_AWARE: dict[str, Callable[..., np.ndarray]] = {
    "guided_filter": guided_filter,
    "joint_bilateral": joint_bilateral,
    "fast_global_smoother": fast_global_smoother,
}


def _without_settings(method: Callable) -> Callable:
    def baseline(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray, protocol: str | None = None) -> np.ndarray:
        return method(rgb_HW3, depth_m_hw)

    return baseline


def _with_settings(name: str, method: Callable) -> Callable:
    def baseline(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray, protocol: str | None = None) -> np.ndarray:
        scale = math.sqrt(rgb_HW3.shape[0] * rgb_HW3.shape[1] / depth_m_hw.size)
        return method(rgb_HW3, depth_m_hw, **settings_for(name, protocol, scale))

    return baseline


def _after(prepare: Callable[[np.ndarray], np.ndarray], baseline: Callable) -> Callable:
    """The same method on a measurement that was prepared."""

    def of_prepared(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray, protocol: str | None = None) -> np.ndarray:
        return baseline(rgb_HW3, prepare(depth_m_hw), protocol)

    return of_prepared


BASELINES: dict[str, Callable[..., np.ndarray]] = {
    **{name: _without_settings(method) for name, method in INTERPOLATIONS.items()},
    **{name: _with_settings(name, method) for name, method in EDGE_AWARE.items()},
}
#: What one would try first against noise and wild pixels, and against what a stereo camera does not see.
BASELINES |= {f"median_{name}": _after(median_of_measured, BASELINES[name]) for name in ("bilinear", "joint_bilateral")}
BASELINES["behind_fast_global_smoother"] = _after(fill_from_behind, BASELINES["fast_global_smoother"])
