"""What a frame must be before anything is computed: arrays are judged here, once, in sentences for their owner."""

from __future__ import annotations

import logging
import math
from numbers import Real
from typing import Any

import numpy as np

from depthsr.io.rgb import as_picture
from depthsr.once import warn_once
from depthsr.types import MILLIMETRE_M, SKY_FLOAT16, UserError

#: RGB and depth of one frame may differ this much in width : height. Sensors crop and resample a little; a 4:3 depth
#: under a 16:9 picture (33 %) or a turned one is a mistake, and stretching it would put every edge in the wrong place.
ASPECT_TOLERANCE = 0.25

#: More than this is worth a word: no rounding, and no cropping by a few pixels.
ASPECT_NOTICE = 0.03

log = logging.getLogger(__name__)


def as_array(value: Any, name: str) -> np.ndarray:
    """numpy array of an array, a torch tensor on any device, or a list. Raises UserError for anything not numeric."""
    if hasattr(value, "detach"):  # a torch tensor, told without importing torch
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    array = np.asarray(value)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise UserError(f"the {name} holds {array.dtype} data; give real numbers, float32 for instance.")
    if array.size == 0:
        raise UserError(f"the {name} is empty (shape {_shape(array)}); give at least one pixel.")
    return array


def check_rgb(rgb: Any) -> np.ndarray:
    """H×W×3 float32 in [0, 1] of what `check_picture` takes. Raises UserError for anything else."""
    return unit_rgb(check_picture(rgb))


def unit_rgb(rgb_HW3: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] of what `check_picture` returns."""
    return rgb_HW3.astype(np.float32) / 255 if rgb_HW3.dtype == np.uint8 else rgb_HW3


def check_picture(rgb: Any) -> np.ndarray:
    """H×W×3 uint8, or float32 in [0, 1] from floats (see depthsr.io.rgb.as_picture). Raises UserError."""
    return as_picture(as_array(rgb, "RGB"), "the RGB")


def is_number(value: Any) -> bool:
    """Whether it is a finite real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_scale(scale: Any) -> None:
    """Raises UserError unless it is None or a positive number."""
    if scale is not None and not (is_number(scale) and scale > 0):
        raise UserError(f"depth scale {scale!r} makes no metres; give a positive number of metres per unit.")


def check_depth(depth: Any, scale: float | None = None) -> np.ndarray:
    """h×w float32 metres with NaN = no value.

    depth  any integer or floating-point dtype. No value: 0, NaN, inf, 65504 in floating point (sky), 65535 in uint16.
    scale  metres per unit of `depth`; None: 0.001 for integers (millimetres), 1 for floating point (metres).

    Raises UserError for negative depth, for a map without a single value, and for what is no h×w array of numbers.
    """
    check_scale(scale)
    depth = _map(depth, "depth")
    if scale is None:
        scale = MILLIMETRE_M if np.issubdtype(depth.dtype, np.integer) else 1.0
    no_value = ~np.isfinite(depth) | (depth == 0)
    if depth.dtype == np.uint16:
        no_value |= depth == np.iinfo(np.uint16).max
    elif np.issubdtype(depth.dtype, np.floating):
        no_value |= depth == SKY_FLOAT16
    if no_value.all():
        raise UserError(
            "the depth has no valid pixel (all 0, NaN or inf); check that the sensor delivered and the unit is right."
        )
    if (negative := depth[~no_value] < 0).any():
        raise UserError(
            f"the depth has {negative.sum()} negative values down to {depth[~no_value].min():g}; "
            "depth is a distance along the optical axis: set pixels without a value to 0 or NaN."
        )
    return np.where(no_value, np.nan, depth.astype(np.float64) * scale).astype(np.float32)


def check_levels(levels: Any) -> np.ndarray:
    """h×w float32 raw levels of the AIS challenge (0 = nearest; NaN = no value). Raises UserError."""
    levels = _map(levels, "low-resolution level array")
    if np.isnan(levels).all():
        raise UserError("the low-resolution level array is NaN throughout; check the file.")
    if (levels < 0).any():
        raise UserError(
            f"the low-resolution levels go down to {levels.min():g}; the challenge's start at 0: check the file."
        )
    return levels.astype(np.float32)


def check_relative(relative: Any, size: tuple[int, int]) -> np.ndarray:
    """H×W or smaller float32 relative depth for a picture of `size` (H, W), larger = nearer. Raises UserError."""
    relative = _map(relative, "relative depth")
    if not np.isfinite(relative).all():
        raise UserError("the relative depth holds NaN or inf; replace them (0 is farthest).")
    check_sizes(size, relative.shape, "relative depth")
    return relative.astype(np.float32)


def check_sizes(rgb_size: tuple[int, ...], size: tuple[int, ...], name: str = "depth") -> None:
    """Raises UserError unless a map of `size` (h, w) can belong to a picture of `rgb_size` (H, W).

    The map may not have more rows or columns than the picture. Its aspect ratio may differ by ASPECT_TOLERANCE, give or
    take a pixel of rounding; or by any amount when both factors are whole numbers (a sensor that skips rows). More than
    ASPECT_NOTICE is warned of, once for a pair of sizes.
    """
    (height, width), (h, w) = rgb_size, size
    both = f"the {name} is {w}×{h} pixels and the RGB {width}×{height}"
    if h > height or w > width:
        raise UserError(f"{both}; the result has the RGB's size, so give a larger RGB or a smaller {name}.")
    if height % h == 0 and width % w == 0:
        return
    aspect = width / height
    widest, narrowest = (w + 1) / max(h - 1, 0.5), max(w - 1, 0.5) / (h + 1)

    def differs_by(share: float) -> bool:
        return widest * (1 + share) < aspect or narrowest > aspect * (1 + share)

    if differs_by(ASPECT_TOLERANCE):
        raise UserError(
            f"{both}: shapes that differ by more than {ASPECT_TOLERANCE:.0%} cannot show the same view; "
            "crop or turn one of them, or check that the two files belong together."
        )
    if differs_by(ASPECT_NOTICE):
        message = (
            "%s, so width : height is %.2f and %.2f: is the %s registered to the RGB? It is stretched over all of it."
        )
        warn_once(log, ("aspect", both), message, both, w / h, aspect, name)


def _map(value: Any, name: str) -> np.ndarray:
    array = as_array(value, name)
    if array.ndim != 2:
        raise UserError(f"the {name} has shape {_shape(array)}; give two dimensions, height and width.")
    return array


def _shape(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape)) or "()"
