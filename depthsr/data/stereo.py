"""Depth as two cameras measure it, or a camera and a projector: from an exact depth map to what matching delivers.

What sets such depth apart from a time-of-flight camera's: next to everything near lies a shadow, seen by one of the two
alone, where there is no value; matching windows fatten what is near; errors are in disparity, so they grow with the
square of the depth; and what has no texture is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depthsr.data.blobs import blobs
from depthsr.data.resample import centre_sample

#: The nearest of a frame has its disparity, but for so much of the frame that is nearer still.
NEAREST_SHARE = 0.02

#: Disparities are compared to see what is an edge and what hides what; on a slanted surface they differ by less.
SLANT_PX = 1.0


@dataclass(frozen=True)
class StereoCamera:
    """How a pair of cameras measures. Lengths in pixels of the exact depth map.

    nearest_px         disparity of the nearest there is (NEAREST_SHARE).
    window_px          side of the matching window, odd: up to half of it is added around what is near.
    noise_px, noise_size_px   standard deviation of the disparity's error, and how far it is alike.
    step_px            disparities are multiples of this.
    untextured         share of the frame without a value, in blobs, beside shadows.
    mismatched         share of the frame that matches some other part of it, in blobs.
    margin_px          holes grow by this, as doubtful matches beside them are dropped.
    least_px           a smaller disparity is no value: too far (`reach_m`).
    mirrored           the second camera is on the left: shadows fall to the right.
    """

    nearest_px: float = 48.0
    window_px: int = 5
    noise_px: float = 0.1
    noise_size_px: float = 2.0
    step_px: float = 1 / 16
    untextured: float = 0.05
    mismatched: float = 0.003
    margin_px: int = 1
    least_px: float = 2.0
    mirrored: bool = False


def random_camera_pair(width: int, rng: np.random.Generator) -> StereoCamera:
    """Of all kinds, for maps of this width: short and long baselines, careful and careless matching."""
    nearest_px = float(np.exp(rng.uniform(np.log(6), np.log(max(6, 0.2 * width)))))
    noise_px = float(rng.uniform(0.02, 0.3) * min(1, nearest_px / 30))
    farthest_over_nearest = np.exp(rng.uniform(np.log(8), np.log(60)))
    return StereoCamera(
        nearest_px=nearest_px,
        window_px=int(rng.choice([1, 3, 5, 7, 9])),
        noise_px=noise_px,
        noise_size_px=float(rng.uniform(0.5, 4)),
        step_px=float(rng.choice([1 / 32, 1 / 16, 1 / 8, 1 / 4])),
        untextured=float(rng.choice([0, rng.uniform(0, 0.1), rng.uniform(0, 0.4)])),
        mismatched=float(rng.choice([0, rng.uniform(0, 0.02)])),
        margin_px=int(rng.integers(0, 4)),
        least_px=max(nearest_px / farthest_over_nearest, 5 * noise_px),
        mirrored=bool(rng.random() < 0.5),
    )


def stereo(depth_m: np.ndarray, size: tuple[int, int], camera: StereoCamera, rng: np.random.Generator) -> np.ndarray:
    """Measure H×W float32 metres (NaN = nothing that returns a picture, the sky for one); `size` float32 metres.

    NaN where there is no value: in shadows, beyond the frame of the second camera, without texture, too far.
    """
    if camera.mirrored:
        depth_m = depth_m[:, ::-1]
    of_1m_px = disparity_of_1m_px(depth_m, camera)
    if of_1m_px == 0:
        return np.full(size, np.nan, np.float32)
    disparity = disparity_px(depth_m, of_1m_px)
    matched = np.where(blobs(disparity.shape, 0.7, rng), fattened(disparity, camera.window_px), disparity)
    hole = shadows(matched) | blobs(disparity.shape, camera.untextured, rng)
    wrong = blobs(disparity.shape, camera.mismatched, rng, cells=(16, 48))
    matched = np.where(wrong, np.rot90(matched, 2), matched)
    matched = matched + camera.noise_px * _smooth_noise(matched.shape, camera.noise_size_px, rng)
    matched = np.maximum(np.rint(matched / camera.step_px), 1) * camera.step_px
    hole |= matched < camera.least_px
    if camera.margin_px:
        side = 2 * camera.margin_px + 1
        hole = cv2.dilate(hole.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    measured_m = np.where(hole, np.nan, of_1m_px / matched).astype(np.float32)
    if camera.mirrored:
        measured_m = measured_m[:, ::-1]
    return centre_sample(measured_m, size)


def disparity_of_1m_px(depth_m: np.ndarray, camera: StereoCamera) -> float:
    """Of a camera placed so that the frame's nearest has its disparity; 0 where nothing is known."""
    known = np.isfinite(depth_m)
    nearest_m = float(np.quantile(depth_m[known], NEAREST_SHARE)) if known.any() else 0.0
    return nearest_m * camera.nearest_px


def disparity_px(depth_m: np.ndarray, of_1m_px: float) -> np.ndarray:
    """H×W float32, of_1m_px over the depth; 0 for what is not known, which lies behind everything."""
    known = np.isfinite(depth_m)
    return np.where(known, of_1m_px / np.where(known, depth_m, 1), 0).astype(np.float32)


def reach_m(depth_m: np.ndarray, camera: StereoCamera) -> float:
    """How far such a camera measures; 0 where nothing is known."""
    return disparity_of_1m_px(depth_m, camera) / camera.least_px


def fattened(disparity: np.ndarray, window_px: int) -> np.ndarray:
    """The largest of each window with an edge in it: it matches what is near, and not what is behind.

    A slanted surface is matched where it is: else everything measured would be too near, which is learnt.
    """
    largest = cv2.dilate(disparity, np.ones((window_px, window_px), np.uint8))
    return np.where(largest > disparity + SLANT_PX, largest, disparity)


def shadows(disparity: np.ndarray) -> np.ndarray:
    """Bool: what a second camera on the right does not see, hidden behind something nearer or left of its frame.

    It sees column x at x - disparity. Of all columns that come to lie on the same place, the rightmost is the nearest.
    """
    seen_at = np.arange(disparity.shape[1], dtype=np.float32) - disparity
    leftmost = np.minimum.accumulate(seen_at[:, ::-1], axis=1)[:, ::-1]  # of each column and all to its right
    hidden = np.zeros(disparity.shape, bool)
    hidden[:, :-1] = seen_at[:, :-1] > leftmost[:, 1:] + SLANT_PX
    return hidden | (seen_at < 0)


def _smooth_noise(shape: tuple[int, ...], size_px: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise, alike over size_px, of standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), size_px)
    return noise / max(float(noise.std()), 1e-6)
