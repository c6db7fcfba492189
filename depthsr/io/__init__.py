"""Files in and out: numpy arrays on this side, no torch. Every failure the user can mend is a UserError."""

from __future__ import annotations

from depthsr.config import DEPTH_FORMATS, DEPTH_SUFFIXES
from depthsr.io.atomic import atomic_path, check_writable
from depthsr.io.depth import read_depth, read_values, write_depth
from depthsr.io.image import check_picture_suffix
from depthsr.io.pairing import Inputs, expand, pair_inputs
from depthsr.io.picture import colourise, depth_range, side_by_side, write_picture
from depthsr.io.rgb import RGB_SUFFIXES, read_relative, read_rgb

__all__ = [
    "DEPTH_FORMATS",
    "DEPTH_SUFFIXES",
    "RGB_SUFFIXES",
    "Inputs",
    "atomic_path",
    "check_picture_suffix",
    "check_writable",
    "colourise",
    "depth_range",
    "expand",
    "pair_inputs",
    "read_depth",
    "read_relative",
    "read_rgb",
    "read_values",
    "side_by_side",
    "write_depth",
    "write_picture",
]
