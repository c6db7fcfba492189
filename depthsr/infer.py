"""A model, or a classical baseline, behind one call: numpy in, numpy out, metres.

predictor = load("edge")
prediction = predictor(rgb, depth, scale=0.001)     # uint8 H×W×3, uint16 h×w millimetres
prediction.depth_m                                   # float32 H×W metres
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from depthsr.inputs import check_depth, check_levels, check_relative, check_rgb, check_sizes
from depthsr.runtime import choose_runtime
from depthsr.types import Prediction, UserError

if TYPE_CHECKING:
    import torch

PROTOCOLS = ("metric", "ais")

#: A value is supported when a measurement lies within this many low-resolution pixels or, in dense maps, within this
#: share of the longer side: the gap an edge-guided fill can be trusted to close.
SUPPORT_PIXELS = 1.5
SUPPORT_SHARE = 1 / 40


class Restorer(Protocol):
    """What Predictor drives: checked arrays in, depth and expected error in metres out (error None: not estimated)."""

    @property
    def takes_relative(self) -> bool: ...

    def __call__(
        self,
        rgb_HW3: np.ndarray,
        depth_m_hw: np.ndarray,
        relative_HW: np.ndarray | None,
        quantisation_step_m: float,
        max_depth_m: float | None,
        protocol: str,
    ) -> tuple[np.ndarray, np.ndarray | None]: ...


@dataclass(frozen=True)
class BaselineRestorer:
    """A classical method from depthsr.models.baselines. It uses no quantisation step and estimates no error."""

    method: Any
    takes_relative = False

    def __call__(self, rgb_HW3, depth_m_hw, relative_HW, quantisation_step_m, max_depth_m, protocol):
        settings = {} if protocol == "metric" else {"protocol": protocol}
        depth_m_HW = self.method(rgb_HW3, depth_m_hw, **settings)
        return np.clip(depth_m_HW, 0, max_depth_m), None


class Predictor:
    """Restores one frame a call. Make one with `load`, or from any Restorer."""

    def __init__(self, name: str, restorer: Restorer) -> None:
        self.name = name
        self.restorer = restorer

    def __call__(
        self,
        rgb: Any,
        depth: Any,
        *,
        relative: Any = None,
        scale: float = 1.0,
        quantisation_step_m: float | None = None,
        max_depth_m: float | None = None,
        protocol: str = "metric",
    ) -> Prediction:
        """Depth in metres at the RGB's resolution.

        rgb       H×W×3, uint8 or floating point in [0, 1].
        depth     h×w with h <= H, w <= W, any integer or floating-point dtype; 0, NaN, inf (and 65535 in uint16) mean
                  no value. With protocol "ais": the challenge's low-resolution levels as they come.
        relative  relative depth of the RGB, larger = nearer, any unit; for models that take it.
        scale     metres per unit of `depth` ("metric" only).
        quantisation_step_m  metres between the levels of the measurement; None or 0: none known.
        max_depth_m          the largest depth there can be, where it is known; the result is clipped to it.
        protocol  "metric": a sensor's depth in some unit. "ais": the 2024 AIS challenge (step 16, known range 300).

        Arrays or torch tensors. Raises UserError when the input cannot be a frame (see depthsr.inputs).
        """
        if protocol not in PROTOCOLS:
            raise UserError(f"protocol {protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}.")
        rgb_HW3 = check_rgb(rgb)
        size = rgb_HW3.shape[:2]
        if protocol == "ais":
            from depthsr.data.degrade import AIS_CLIP_M, AIS_STEP_M, dequantise_ais

            depth_m_hw = dequantise_ais(check_levels(depth))
            quantisation_step_m, max_depth_m = AIS_STEP_M, AIS_CLIP_M
        else:
            depth_m_hw = check_depth(depth, scale)
        _check_positive(quantisation_step_m, "quantisation step", zero_allowed=True)
        _check_positive(max_depth_m, "largest depth")
        check_sizes(size, depth_m_hw.shape)
        depth_m, error_m = self.restorer(
            rgb_HW3, depth_m_hw, self._relative(relative, size), quantisation_step_m or 0.0, max_depth_m, protocol
        )
        if not np.isfinite(depth_m).all():
            raise RuntimeError(f"{self.name} gave {(~np.isfinite(depth_m)).sum()} values that are not finite")
        depth_m = np.maximum(depth_m, _floor_m(depth_m_hw, quantisation_step_m or 0.0))
        if error_m is None:
            error_m = np.full_like(depth_m, np.nan)
        return Prediction(
            depth_m=depth_m,
            error_m=error_m,
            confidence=_confidence(depth_m, error_m),
            valid=supported(np.isfinite(depth_m_hw), size),
        )

    def _relative(self, relative: Any, size: tuple[int, int]) -> np.ndarray | None:
        """At the RGB's size. Raises UserError for a model that has no use for it."""
        if relative is None:
            return None
        if not self.restorer.takes_relative:
            raise UserError(f"{self.name} takes no relative depth; leave it out, or use the model base.")
        return cv2.resize(check_relative(relative, size), size[::-1], interpolation=cv2.INTER_LINEAR)


def load(
    name_or_path: str = "edge", device: str = "auto", dtype: str | torch.dtype = "auto", runtime: str = "auto"
) -> Predictor:
    """A Predictor for a model or a classical baseline.

    name_or_path  "edge", "edge-s", "base", the folder of a saved model, or a baseline's name ("bilinear", ...).
    device        "auto" (a CUDA device when there is one, else the CPU), "cpu", "cuda", "cuda:1", ...
    dtype         "auto" or "fp32"; "fp16" or "bf16": half-precision weights and the fastest arithmetic the device does
                  correctly with them (see depthsr.precision).
    runtime       "torch"; "native": C++ on the CPU without torch, for models without Depth Anything; "auto": native
                  where torch is missing or would compute on the CPU too, if it can run the model (depthsr.runtime).

    Raises UserError for a model that does not exist, is damaged or of another kind, for a missing device, and for what
    the runtime cannot do.
    """
    from depthsr.models.baselines import BASELINES

    if name_or_path in BASELINES:
        return Predictor(name_or_path, BaselineRestorer(BASELINES[name_or_path]))
    if choose_runtime(runtime, name_or_path, device, dtype) == "torch":
        from depthsr.torch_runtime import load_restorer
    else:
        from depthsr.native import load_restorer
    return Predictor(name_or_path, load_restorer(name_or_path, device, dtype))


def supported(valid_hw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """H×W bool: whether a measured pixel of valid_hw is near enough (SUPPORT_PIXELS, SUPPORT_SHARE)."""
    radius = max(SUPPORT_PIXELS, SUPPORT_SHARE * max(valid_hw.shape))
    distance = cv2.distanceTransform((~valid_hw).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = (distance <= radius).astype(np.uint8)
    return cv2.resize(near, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def _floor_m(depth_m_hw: np.ndarray, quantisation_step_m: float) -> np.float32:
    """Half the nearest measurement, less one quantisation step; never 0, because 0 means "no value" in every file."""
    nearest_m = np.nanmin(depth_m_hw)
    return np.float32(max(0.5 * nearest_m - quantisation_step_m, 0.001 * nearest_m))


def _confidence(depth_m: np.ndarray, error_m: np.ndarray) -> np.ndarray:
    """1 / (1 + error / 5 % of the depth); see depthsr.types.Prediction. NaN where no error is estimated."""
    tolerance_m = np.maximum(0.05 * depth_m, np.finfo(np.float32).tiny)
    return (tolerance_m / (tolerance_m + error_m)).astype(np.float32)


def _check_positive(value: float | None, name: str, zero_allowed: bool = False) -> None:
    if value is not None and not (np.isfinite(value) and (value > 0 or (zero_allowed and value == 0))):
        raise UserError(f"{name} {value} is no distance in metres; give a positive number or leave it out.")
