"""What a user of OpenCV would pick instead of a network: upsample the depth, then filter it along the RGB.

The filters of opencv-contrib's ximgproc, in C++ and threads, with windows as wide as the upsampling factor asks for.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

HOW_TO_GET = (
    "pip install --no-deps --target contrib opencv-contrib-python, then PYTHONPATH=contrib pytest bench/... "
    "(into the same environment it would overwrite opencv-python's files)"
)

#: The usual settings of these filters; their time depends on the radius alone.
GUIDED_EPS = 1e-4 * 255**2
SIGMA_COLOUR = 30
SMOOTHNESS = 100


def _upsampled(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> tuple[np.ndarray, int]:
    """H×W depth, and the radius of a window that holds a low-resolution pixel on either side."""
    height, width = rgb_HW3.shape[:2]
    return cv2.resize(depth_m_hw, (width, height), interpolation=cv2.INTER_LINEAR), round(height / depth_m_hw.shape[0])


def guided_filter(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> np.ndarray:
    depth_m_HW, radius = _upsampled(rgb_HW3, depth_m_hw)
    return cv2.ximgproc.guidedFilter(rgb_HW3, depth_m_HW, radius, GUIDED_EPS)


def joint_bilateral(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> np.ndarray:
    depth_m_HW, radius = _upsampled(rgb_HW3, depth_m_hw)
    guide_HW3 = rgb_HW3.astype(np.float32)  # it wants both of one type
    return cv2.ximgproc.jointBilateralFilter(guide_HW3, depth_m_HW, 2 * radius + 1, SIGMA_COLOUR, radius)


def fast_global_smoother(rgb_HW3: np.ndarray, depth_m_hw: np.ndarray) -> np.ndarray:
    depth_m_HW, _ = _upsampled(rgb_HW3, depth_m_hw)
    return cv2.ximgproc.fastGlobalSmootherFilter(rgb_HW3, depth_m_HW, SMOOTHNESS, SIGMA_COLOUR)


#: Each takes uint8 RGB and float32 metres without holes, and gives float32 metres at the RGB's size.
FILTERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "guided filter": guided_filter,
    "joint bilateral": joint_bilateral,
    "fast global smoother": fast_global_smoother,
}
