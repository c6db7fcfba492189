"""One frame as its owner gives it, and as those who restore it get it: checked, in metres."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from depthsr.config import DOWNSAMPLINGS, INPUT_PROTOCOLS
from depthsr.inputs import (
    check_depth,
    check_levels,
    check_picture,
    check_relative,
    check_scale,
    check_sizes,
    is_number,
    unit_rgb,
)
from depthsr.once import warn_once
from depthsr.types import FARTHEST_OVER_MEASURED, UserError

#: Beyond this no depth camera measures; half of a frame's values out there are most likely in another unit.
LIKELY_MAX_DEPTH_M = 1000.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What is known of a measurement; `depthsr.infer.Predictor` says what each field means.

    Raises UserError for a protocol or downsampling that does not exist, and for distances and scales that are none.
    """

    scale: float | None = None
    quantisation_step_m: float | None = None
    max_depth_m: float | None = None
    protocol: str = "metric"
    downsampling: str | None = None

    @classmethod
    def named(cls, **settings: Any) -> Settings:
        """Settings of keywords that someone wrote. Raises UserError where there is none of that name."""
        names = [field.name for field in fields(cls)]
        for name in settings:
            if name not in names:
                raise UserError(f"there is no setting {name!r}; there are {', '.join(names)}.")
        return cls(**settings)

    def __post_init__(self) -> None:
        if self.protocol not in INPUT_PROTOCOLS:
            raise UserError(f"protocol {self.protocol!r} is unknown; choose one of {', '.join(INPUT_PROTOCOLS)}.")
        if self.downsampling not in (None, *DOWNSAMPLINGS):
            raise UserError(f"downsampling {self.downsampling!r} is unknown; choose one of {', '.join(DOWNSAMPLINGS)}.")
        if self.downsampling is not None and self.protocol == "ais":
            raise UserError("the challenge keeps single pixels, which no downsampling describes; leave it out.")
        check_scale(self.scale)
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
    protocol             one of INPUT_PROTOCOLS.
    downsampling         one of DOWNSAMPLINGS, None = unknown.
    points_m_hw          the sparse measurement that depth_m_hw was gathered from (depthsr.data.sparse), or None.
    """

    rgb_HW3: np.ndarray
    depth_m_hw: np.ndarray
    relative_HW: np.ndarray | None
    quantisation_step_m: float
    max_depth_m: float | None
    protocol: str
    downsampling: str | None = None
    points_m_hw: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.rgb_HW3.shape[:2]

    @property
    def unit_rgb_HW3(self) -> np.ndarray:
        """float32 in [0, 1]."""
        return unit_rgb(self.rgb_HW3)

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
        if max_depth_m is not None:
            depth_m_hw = _within_range(depth_m_hw, max_depth_m, quantisation_step_m or 0.0)
        _check_unit(depth_m_hw, quantisation_step_m or 0.0)
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


def _within_range(depth_m_hw: np.ndarray, max_depth_m: float, quantisation_step_m: float) -> np.ndarray:
    """NaN where a measurement lies farther beyond the known range than noise and rounding can put it: a wrong value
    would stand in the result, clipped, as if it had been measured. Raises UserError where none is left."""
    beyond_hw = depth_m_hw > FARTHEST_OVER_MEASURED * max_depth_m + quantisation_step_m / 2
    beyond, measured = np.count_nonzero(beyond_hw), np.count_nonzero(np.isfinite(depth_m_hw))
    if beyond == measured:
        raise UserError(
            f"no measurement is nearer than --max-depth (max_depth_m) {max_depth_m:g} m, the nearest is at "
            f"{np.nanmin(depth_m_hw):g} m; check the range and the depth's unit."
        )
    if beyond:
        message = "%.1f %% of the measurements are farther than the largest depth there can be, %g m: taken for holes."
        warn_once(log, ("range", max_depth_m), message, 100 * beyond / measured, max_depth_m)
    return np.where(beyond_hw, np.float32(np.nan), depth_m_hw)


def _check_unit(depth_m_hw: np.ndarray, quantisation_step_m: float) -> None:
    """Raises UserError for a step that no level of the measurement can have; warns of depth that is too far."""
    farthest_m = np.nanmax(depth_m_hw)
    if quantisation_step_m / 2 > farthest_m:  # not the step: the first level may stand for its middle
        raise UserError(
            f"the quantisation step is {quantisation_step_m:g} m and the largest measurement {farthest_m:g} m, nearer "
            "than the first level; is the step in metres, and the depth's unit right?"
        )
    if 2 * np.count_nonzero(depth_m_hw > LIKELY_MAX_DEPTH_M) > np.count_nonzero(np.isfinite(depth_m_hw)):
        message = "the median measurement is %.0f m: is the scale right? Give --depth-scale (scale), metres per unit."
        warn_once(log, "unit", message, np.nanmedian(depth_m_hw))


def _check_positive(value: Any, name: str, zero_allowed: bool = False) -> None:
    if value is not None and not (is_number(value) and (value > 0 or (zero_allowed and value == 0))):
        raise UserError(f"{name} {value!r} is no distance in metres; give a positive number or leave it out.")
