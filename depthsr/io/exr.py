"""Single-channel OpenEXR, half or float. OpenCV 5 wheels read no EXR, so this uses the OpenEXR package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depthsr.io.atomic import atomic_path
from depthsr.io.image import read_bytes
from depthsr.types import UserError

#: Names depth goes by: Z is OpenEXR's own, Y (luminance) MVS-Synth's, V Blender's, R what grey-to-RGB exporters leave.
DEPTH_CHANNELS = ("Z", "Y", "V", "R")


def read_exr(path: str | Path) -> np.ndarray:
    """H×W float16 or float32 values of the depth channel. Raises UserError when the file has none or is damaged."""
    import OpenEXR

    read_bytes(path)  # missing, empty and unreadable files, in the same words as for every other format
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: channel.pixels.copy() for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged or not an OpenEXR file; export it again.") from error
    if len(channels) == 1:
        return next(iter(channels.values()))
    for name in DEPTH_CHANNELS:
        if name in channels:
            return channels[name]
    raise UserError(f"{path} has the channels {', '.join(channels)}; depth must be in Z, Y, V or R, or the only one.")


def write_exr(path: str | Path, values_HW: np.ndarray) -> None:
    """Write float16 or float32 values as channel Z, ZIP-compressed without loss."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with atomic_path(path) as temporary, OpenEXR.File(header, {"Z": np.ascontiguousarray(values_HW)}) as file:
        file.write(str(temporary))
