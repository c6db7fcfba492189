"""The guide picture, and a relative depth map a user brings along."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from depthsr.io.depth import read_values
from depthsr.io.image import decode, without_opaque_alpha
from depthsr.types import UserError

RGB_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")

log = logging.getLogger(__name__)


def read_rgb(path: str | Path) -> np.ndarray:
    """H×W×3 uint8 RGB, upright as viewers show it (EXIF orientation applied).

    Takes what `as_picture` takes; floating point is rounded to 8 bits. Raises UserError for a missing or damaged file.
    """
    pixels = decode(path)
    picture = as_picture(pixels, str(path))
    if pixels.ndim == 2:
        log.info("%s is grey: its one channel is used as red, green and blue.", path)
    if picture.dtype != np.uint8:
        picture = np.rint(255 * picture).astype(np.uint8)
    return np.ascontiguousarray(picture)


def as_picture(pixels: np.ndarray, name: str) -> np.ndarray:
    """H×W×3: uint8 of 8- or 16-bit integers, float32 in [0, 1] of floating point in [0, 1].

    Grey (H×W or H×W×1) is replicated over the three channels; a fourth channel is left out where it is opaque
    everywhere. Raises UserError, which begins with `name`, for anything else.
    """
    pixels = without_opaque_alpha(pixels[:, :, None] if pixels.ndim == 2 else pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise UserError(f"{name} has 4 channels and is not opaque everywhere; save it as plain RGB with 3 channels.")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        shape = "×".join(map(str, pixels.shape)) or "()"
        raise UserError(f"{name} has shape {shape}; give H×W×3, channels last, or grey H×W.")
    if pixels.dtype == np.uint16:
        # Round to nearest: 65535 = 255 · 257.
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all():
            raise UserError(f"{name} holds NaN or inf; replace them by numbers in [0, 1].")
        if pixels.min() < 0 or pixels.max() > 1:
            raise UserError(
                f"{name} runs from {pixels.min():g} to {pixels.max():g}; floating point must lie in [0, 1] "
                "(or give 8 bits)."
            )
        pixels = pixels.astype(np.float32)
    elif pixels.dtype != np.uint8:
        raise UserError(f"{name} holds {pixels.dtype} numbers; give 8 or 16 bits, or floating point in [0, 1].")
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def read_relative(path: str | Path) -> np.ndarray:
    """H×W float32 relative depth (larger = nearer, no unit) from a grey 8- or 16-bit picture or any depth format."""
    return read_values(path).astype(np.float32)
