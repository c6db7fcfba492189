"""One frame as its owner gives it, and as those who restore it get it: checked, in metres."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from depthsr.data.resample import KERNELS
from depthsr.inputs import check_depth, check_levels, check_picture, check_relative, check_sizes
from depthsr.types import UserError

PROTOCOLS = ("metric", "ais")


@dataclass(frozen=True)
class Settings:
    """What is known of a measurement; `depthsr.infer.Predictor` says what each field means.

    Raises UserError for a protocol that does not exist and for distances that are none.
    """

    scale: float = 1.0
    quantisation_step_m: float | None = None
    max_depth_m: float | None = None
    protocol: str = "metric"
    downsampling: str | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UserError(f"protocol {self.protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}.")
        if self.downsampling not in (None, *KERNELS):
            raise UserError(f"downsampling {self.downsampling!r} is unknown; choose one of {', '.join(KERNELS)}.")
        if self.downsampling is not None and self.protocol == "ais":
            raise UserError("the challenge keeps single pixels, which no downsampling describes; leave it out.")
        _check_positive(self.quantisation_step_m, "quantisation step", zero_allowed=True)
        _check_positive(self.max_depth_m, "largest depth")


@dataclass(frozen=True, eq=False)
class CheckedFrame:
    """A frame that can be restored.

    rgb_HW3              uint8, or float32 in [0, 1].
    depth_m_hw           float32 metres, NaN = no value; at least one value.
    relative_HW          float32, larger = nearer, any unit; or None.
    quantisation_step_m  0 = none known.
    max_depth_m          None = unknown.
    protocol             one of PROTOCOLS.
    downsampling         one of KERNELS, None = unknown.
    """

    rgb_HW3: np.ndarray
    depth_m_hw: np.ndarray
    relative_HW: np.ndarray | None
    quantisation_step_m: float
    max_depth_m: float | None
    protocol: str
    downsampling: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.rgb_HW3.shape[:2]

    @property
    def kind(self) -> Hashable:
        """Frames of one kind fit into one batch."""
        return self.rgb_HW3.shape, self.rgb_HW3.dtype, self.depth_m_hw.shape, self.relative_HW is not None

    @cached_property
    def to_value_px_hw(self) -> np.ndarray:
        """h×w float32: pixels of the measurement from each to the nearest that has a value."""
        hole_hw = ~np.isfinite(self.depth_m_hw)
        if not hole_hw.any():
            return np.zeros(hole_hw.shape, np.float32)
        return cv2.distanceTransform(hole_hw.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def check_frame(rgb: Any, depth: Any, relative: Any, settings: Settings) -> CheckedFrame:
    """Raises UserError where the three cannot be a frame (see depthsr.inputs). `relative` may be None."""
    rgb_HW3 = check_picture(rgb)
    size = rgb_HW3.shape[:2]
    quantisation_step_m, max_depth_m = settings.quantisation_step_m, settings.max_depth_m
    if settings.protocol == "ais":
        from depthsr.data.degrade import AIS_CLIP_M, AIS_STEP_M, dequantise_ais

        depth_m_hw = dequantise_ais(check_levels(depth))
        quantisation_step_m, max_depth_m = AIS_STEP_M, AIS_CLIP_M
    else:
        depth_m_hw = check_depth(depth, settings.scale)
    check_sizes(size, depth_m_hw.shape)
    if relative is not None:
        relative = cv2.resize(check_relative(relative, size), size[::-1], interpolation=cv2.INTER_LINEAR)
    return CheckedFrame(
        rgb_HW3,
        depth_m_hw,
        relative,
        quantisation_step_m or 0.0,
        max_depth_m,
        settings.protocol,
        settings.downsampling,
    )


def _check_positive(value: float | None, name: str, zero_allowed: bool = False) -> None:
    if value is not None and not (np.isfinite(value) and (value > 0 or (zero_allowed and value == 0))):
        raise UserError(f"{name} {value} is no distance in metres; give a positive number or leave it out.")
