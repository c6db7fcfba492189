"""The guide picture, and a relative depth map a user brings along."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from depthsr.io.depth import read_values
from depthsr.io.image import decode
from depthsr.types import UserError

RGB_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")

log = logging.getLogger(__name__)


def read_rgb(path: str | Path) -> np.ndarray:
    """H×W×3 uint8 RGB, upright as viewers show it (EXIF orientation applied).

    Grey pictures are replicated over the three channels; 16-bit ones are reduced to 8 bits.
    Raises UserError for a missing, damaged or float file and for one with transparency (4 channels).
    """
    pixels = decode(path)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise UserError(f"{path} has 4 channels (RGB and transparency); save it as plain RGB with 3 channels.")
    if pixels.dtype == np.uint16:
        # Round to nearest: 65535 = 255 · 257.
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise UserError(f"{path} holds {pixels.dtype} numbers, so it is no photograph; give an 8- or 16-bit picture.")
    if pixels.ndim == 2:
        log.info("%s is grey: its one channel is used as red, green and blue.", path)
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def read_relative(path: str | Path) -> np.ndarray:
    """H×W float32 relative depth (larger = nearer, no unit) from a grey 8- or 16-bit picture or any depth format."""
    return read_values(path).astype(np.float32)
