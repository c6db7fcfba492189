"""Depth as pictures people can look at: Spectral colours over inverse depth, red near, blue far, black no value."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from depthsr.io.image import encode

#: The 11 classes of "Spectral", near to far. Colours by Cynthia Brewer, https://colorbrewer2.org (Apache-2.0).
SPECTRAL = np.array(
    [
        (0x9E, 0x01, 0x42),
        (0xD5, 0x3E, 0x4F),
        (0xF4, 0x6D, 0x43),
        (0xFD, 0xAE, 0x61),
        (0xFE, 0xE0, 0x8B),
        (0xFF, 0xFF, 0xBF),
        (0xE6, 0xF5, 0x98),
        (0xAB, 0xDD, 0xA4),
        (0x66, 0xC2, 0xA5),
        (0x32, 0x88, 0xBD),
        (0x5E, 0x4F, 0xA2),
    ],
    np.float32,
)

#: SPECTRAL with 255 colours in between each two: a step of the table is no more than one of a channel's 256 values.
_POSITIONS = np.linspace(0, len(SPECTRAL) - 1, 256 * (len(SPECTRAL) - 1) + 1)
TABLE = np.rint([np.interp(_POSITIONS, range(len(SPECTRAL)), channel) for channel in SPECTRAL.T]).T.astype(np.uint8)

#: A panel of side_by_side is not made wider than this; pictures stay small enough to open anywhere.
LARGEST_PANEL_PX = 1280


def depth_range(depth_m: np.ndarray) -> tuple[float, float]:
    """(nearest, farthest) metres worth a colour: the 2nd and 98th percentiles of the finite positive depth.

    Percentiles, so that one wild pixel does not flatten the picture. (1, 2) when there is no value at all.
    """
    values = depth_m[np.isfinite(depth_m) & (depth_m > 0)]
    if values.size == 0:
        return 1.0, 2.0
    first, last = round(0.02 * (values.size - 1)), round(0.98 * (values.size - 1))
    ranked = np.partition(values, (first, last))  # np.percentile imports numpy.ma, a sixth of numpy's own time
    return float(ranked[first]), float(ranked[last])


def colourise(depth_m: np.ndarray, near_far_m: tuple[float, float] | None = None) -> np.ndarray:
    """H×W metres to H×W×3 uint8 RGB. NaN, 0 and negative are black; inf (sky) has the colour of the farthest.

    near_far_m  depth of the first and last colour; None: depth_range(depth_m). Give one to compare pictures.
    """
    near_m, far_m = near_far_m or depth_range(depth_m)
    seen = depth_m > 0  # NaN compares false
    inverse = 1.0 / np.where(seen, depth_m, np.inf)
    nearness_span = max(1.0 / near_m - 1.0 / far_m, 1e-12)
    farness = np.clip((1.0 / near_m - inverse) / nearness_span, 0.0, 1.0)
    colours = TABLE[np.rint(farness * (len(TABLE) - 1)).astype(np.int32)]
    colours[~seen] = 0
    return colours


def side_by_side(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Label → H×W×3 uint8 RGB pictures, in one row with the label above each.

    All take the size of the largest one, at most LARGEST_PANEL_PX wide; smaller ones are enlarged by whole pixels
    (nearest), so that a low-resolution input looks as coarse as it is.
    """
    height, width = max((picture.shape[:2] for picture in panels.values()), key=lambda size: size[0] * size[1])
    shrink = min(1.0, LARGEST_PANEL_PX / width)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    columns = []
    for label, picture in panels.items():
        method = cv2.INTER_AREA if picture.shape[1] > size[0] else cv2.INTER_NEAREST
        columns.append(np.vstack([_label_bar(label, size[0]), cv2.resize(picture, size, interpolation=method)]))
    return np.hstack(columns)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write H×W×3 (RGB) or H×W (grey) uint8 in the format of the suffix, whole or not at all."""
    encode(path, picture)


def _label_bar(label: str, width: int) -> np.ndarray:
    """White bar with the label in black, in letters that fit."""
    height = max(18, round(width / 22))
    bar = np.full((height, width, 3), 255, np.uint8)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, width // 500)
    (text_width, text_height), _ = cv2.getTextSize(label, font, 1.0, thickness)
    size = min(0.55 * height / text_height, 0.96 * width / text_width)
    baseline = (height + round(text_height * size)) // 2
    cv2.putText(bar, label, (round(0.02 * width), baseline), font, size, (0, 0, 0), thickness, cv2.LINE_AA)
    return bar
