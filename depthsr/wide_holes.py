"""Wide holes are filled coarse to fine.

What a network has seen of holes ends at the width that its training crops had room for, and in wider ones it guesses
worse than the nearest measurement. At half the size every hole is half as wide. So the frame is halved until no hole is
wide; what comes of the smallest stands in the wide holes of the next larger one as its filling, which the network knows
to be no measurement, and is made sharp there. A frame without wide holes costs nothing more; one with them a third.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from depthsr.frames import CheckedFrame, distance_to_value_px

#: A pixel of the measurement is deep in a hole when the next value is farther than so many of its pixels.
DEEP_PX = 6.0

#: No frame is halved below this side, and no measurement below that: nothing is left to see in it.
LEAST_SIDE_PX = 48
LEAST_LOW_SIDE_PX = 8


def fill_wide_holes(
    frames: Sequence[CheckedFrame], restore: Callable[[Sequence[CheckedFrame]], Sequence[np.ndarray]]
) -> Sequence[CheckedFrame]:
    """The frames, of one kind, with fillings where there are wide holes; of one kind again.

    restore  gives the restored depths, H×W metres, of frames of one kind (CheckedFrame.kind).
    """
    deep = [deep_in_holes(np.isfinite(frame.depth_m_hw)) for frame in frames]
    wide = [number for number, frame in enumerate(frames) if deep[number].any() and _can_be_halved(frame)]
    if not wide:
        return frames
    nothing_m_hw = np.full_like(frames[0].depth_m_hw, np.nan)
    filled = [replace(frame, filling_m_hw=nothing_m_hw) for frame in frames]
    halves = fill_wide_holes([halved(frames[number]) for number in wide], restore)
    for number, depth_m_HW in zip(wide, restore(halves), strict=True):
        depth_m_hw = cv2.resize(depth_m_HW, nothing_m_hw.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        filled[number] = replace(frames[number], filling_m_hw=np.where(deep[number], depth_m_hw, nothing_m_hw))
    return filled


def deep_in_holes(valid_hw: np.ndarray) -> np.ndarray:
    """h×w bool: farther than DEEP_PX from every valid pixel."""
    if valid_hw.all():
        return np.zeros_like(valid_hw)
    return distance_to_value_px(valid_hw) > DEEP_PX


def halved(frame: CheckedFrame) -> CheckedFrame:
    """The same view in half the pixels, rounded up, a side: of the picture, the measurement and the relative depth."""
    size = tuple((side + 1) // 2 for side in frame.size)
    relative_HW = frame.relative_HW
    return replace(
        frame,
        rgb_HW3=cv2.resize(frame.rgb_HW3, size[::-1], interpolation=cv2.INTER_AREA),
        depth_m_hw=_halved_measurement(frame.depth_m_hw),
        relative_HW=None if relative_HW is None else cv2.resize(relative_HW, size[::-1], interpolation=cv2.INTER_AREA),
    )


def _halved_measurement(depth_m_hw: np.ndarray) -> np.ndarray:
    """Of each 2×2 pixels the (lower) median of the values there are: no depth that was not measured."""
    height, width = depth_m_hw.shape
    padded = np.pad(depth_m_hw, ((0, height % 2), (0, width % 2)), constant_values=np.nan)
    fours = np.stack([padded[y::2, x::2] for y in (0, 1) for x in (0, 1)])
    fours.sort(axis=0)  # NaN last
    middle = np.maximum(np.isfinite(fours).sum(0) - 1, 0) // 2
    return np.take_along_axis(fours, middle[None], 0)[0]


def _can_be_halved(frame: CheckedFrame) -> bool:
    return min(frame.size) >= 2 * LEAST_SIDE_PX and min(frame.depth_m_hw.shape) >= 2 * LEAST_LOW_SIDE_PX
