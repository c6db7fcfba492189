"""Portable float maps: a header of four words, then raw float32 (http://netpbm.sourceforge.net/doc/pfm.html).

Not through OpenCV, which divides the values by the magnitude of the last word. Other readers take its sign alone, as
Middlebury means it: 0.003922 stands in its files, whose values are disparities as they are.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from depthsr.io.image import read_bytes
from depthsr.types import UserError

#: Kind, width, height, and a number whose sign is the order of the bytes; one white space, then the pixels.
HEADER = re.compile(rb"(Pf|PF)\s+(\d+)\s+(\d+)\s+([-+.\deE]+)(?:\r\n|\s)")


def read_pfm(path: str | Path) -> np.ndarray:
    """H×W (Pf) or H×W×3 (PF) float32, as they are stored. Raises UserError when the file is damaged."""
    data = read_bytes(path)
    header = HEADER.match(data)
    if header is None or not (order := _number(header[4])):
        raise UserError(f"{path} is damaged or no PFM file: its header is not that of one; export it again.")
    width, height, channels = int(header[2]), int(header[3]), 3 if header[1] == b"PF" else 1
    pixels = data[header.end() :]
    if len(pixels) != 4 * width * height * channels:
        raise UserError(
            f"{path} is damaged: its header says {width}×{height} pixels of {4 * channels} bytes, and "
            f"{len(pixels)} bytes follow; copy or export it again."
        )
    size = (height, width) if channels == 1 else (height, width, channels)
    values = np.frombuffer(pixels, "<f4" if order < 0 else ">f4").reshape(size)
    return np.ascontiguousarray(values[::-1], np.float32)  # the lowest row comes first


def _number(word: bytes) -> float:
    """The finite number that it says; 0 where it says none."""
    try:
        number = float(word)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
