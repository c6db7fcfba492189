"""Wide holes are filled coarse to fine.

What a network has seen of holes ends at the width that its training crops had room for, and in wider ones it guesses
worse than the nearest measurement. At half the size every hole is half as wide. So the frame is halved until no hole is
wide; what comes of the smallest stands in the wide holes of the next larger one as its filling, which the network knows
to be no measurement, and is made sharp there. A frame without wide holes costs nothing more; one with them a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from depthsr.frames import CheckedFrame

#: A pixel of the measurement is deep in a hole when the next value is farther than so many of its pixels.
DEEP_PX = 6.0

#: No frame is halved below this side, and no measurement below that: nothing is left to see in it.
LEAST_SIDE_PX = 48
LEAST_LOW_SIDE_PX = 8


@dataclass(frozen=True, eq=False)
class Level:
    """Frames of one kind, and what is to fill the wide holes of each: the result of its half, a frame of the level
    before.

    deep_hw  of each frame, h×w bool: where it is to be filled; () in the first level, which is restored as it is.
    half     of each frame, the number of its half in the level before; 0 where nothing is to be filled.
    """

    frames: Sequence[CheckedFrame]
    deep_hw: Sequence[np.ndarray] = ()
    half: Sequence[int] = ()

    def fillings_m(self, halves_m: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        """Of each frame, h×w metres, NaN where nothing is to be filled; None in the first level.

        halves_m  the restored depths of the level before, H×W metres.
        """
        if not self.deep_hw:
            return [None] * len(self.frames)
        return [_filling_m(halves_m[half], deep_hw) for half, deep_hw in zip(self.half, self.deep_hw, strict=True)]


def coarse_to_fine(frames: Sequence[CheckedFrame]) -> list[Level]:
    """The levels in which frames of one kind are restored, these being the last. All of it is known beforehand, so that
    a device can go from level to level without the host."""
    levels: list[Level] = []
    while True:
        deep_hw = [deep_in_holes(frame) for frame in frames]
        wide = [number for number, frame in enumerate(frames) if deep_hw[number].any() and _can_be_halved(frame)]
        if not wide:
            return [*levels, Level(frames)][::-1]
        half = [wide.index(number) if number in wide else 0 for number in range(len(frames))]
        levels.append(Level(frames, deep_hw, half))
        frames = [halved(frames[number]) for number in wide]


def deep_in_holes(frame: CheckedFrame) -> np.ndarray:
    """h×w bool: farther than DEEP_PX from every value of the measurement."""
    return frame.to_value_px_hw > DEEP_PX


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


def _filling_m(half_m_HW: np.ndarray, deep_hw: np.ndarray) -> np.ndarray:
    nearest_m_hw = cv2.resize(half_m_HW, deep_hw.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.where(deep_hw, nearest_m_hw, np.float32("nan"))
