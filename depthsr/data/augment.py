"""Random changes of an RGB-D frame that leave it a plausible frame. The caller's generator draws everything."""

from __future__ import annotations

import cv2
import numpy as np

#: A window must hold this share of pixels with a depth (the sky does not count), or another one is drawn.
MINIMUM_VALID = 0.1


def random_window(depth_m_HW: np.ndarray, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square of `side` pixels (the frame's own height or width where that is less)."""
    height, width = min(side, depth_m_HW.shape[0]), min(side, depth_m_HW.shape[1])
    for _ in range(10):
        top = rng.integers(depth_m_HW.shape[0] - height + 1)
        left = rng.integers(depth_m_HW.shape[1] - width + 1)
        window = slice(top, top + height), slice(left, left + width)
        if np.isfinite(depth_m_HW[window]).mean() >= MINIMUM_VALID:
            break
    return window


def random_flip(rgb_HW3: np.ndarray, depth_m_HW: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left to right, half of the time. Not upside down: the ground being below is worth knowing."""
    if rng.random() < 0.5:
        return rgb_HW3[:, ::-1], depth_m_HW[:, ::-1]
    return rgb_HW3, depth_m_HW


def random_colour(rgb_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 -> float32 [0, 1] with random gain a channel, gamma, saturation, now and then grey or noisy."""
    rgb = rgb_HW3.astype(np.float32) / 255
    rgb = rgb ** np.float32(np.exp(rng.uniform(-0.35, 0.35)))
    rgb = rgb * np.exp(rng.uniform(-0.3, 0.3) + rng.uniform(-0.1, 0.1, 3)).astype(np.float32)
    grey = rgb.mean(2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.6, 1.4)
    rgb = grey + np.float32(saturation) * (rgb - grey)
    if rng.random() < 0.2:
        rgb = rgb + np.float32(rng.uniform(0, 0.04)) * rng.standard_normal(rgb.shape, dtype=np.float32)
    return np.clip(rgb, 0, 1)


def random_camera(rgb_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Float32 [0, 1] -> the same, now and then out of focus, a quarter of the time through JPEG of quality 30 to 95."""
    if rng.random() < 0.1:
        rgb_HW3 = cv2.GaussianBlur(rgb_HW3, (0, 0), rng.uniform(0.4, 1.2), borderType=cv2.BORDER_REPLICATE)
    if rng.random() < 0.25:
        quality = int(rng.integers(30, 96))
        bgr = np.rint(rgb_HW3[..., ::-1] * 255).astype(np.uint8)
        _, file = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        rgb_HW3 = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))[..., ::-1].astype(np.float32) / 255
    return rgb_HW3


def random_depth_curve(depth_m_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same scene in another range: a smooth increasing curve of the depth. inf stays inf, NaN stays NaN.

    The largest depth becomes 1 to 200 m (log-uniform) and the share of it that a pixel has is raised to a power of
    0.6 to 1.6, so that what is near fills more or less of the range: a street's frame gets a room's depths.
    """
    if not (farthest_m := farthest(depth_m_HW)):
        return depth_m_HW
    power = np.exp(rng.uniform(-0.5, 0.5))
    range_m = np.exp(rng.uniform(0, np.log(200)))
    with np.errstate(invalid="ignore"):
        return (range_m * np.maximum(depth_m_HW / farthest_m, 0) ** power).astype(np.float32)


def random_disparity(depth_m_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scene as a disparity map has it, which papers score as if it were depth: large in front. Sky and NaN: NaN.

    The nearest depth becomes 1 to 200 (log-uniform), and the share of it that a pixel has is raised to a power of 0.4
    to 1.2, so that what is far does not all lie next to zero.
    """
    known = np.isfinite(depth_m_HW) & (depth_m_HW > 0)
    nearest_m = np.min(depth_m_HW, initial=np.inf, where=known)
    power = np.exp(rng.uniform(-0.9, 0.2))
    largest = np.exp(rng.uniform(0, np.log(200)))
    share = np.divide(nearest_m, depth_m_HW, out=np.full(depth_m_HW.shape, np.nan, np.float32), where=known)
    return (largest * share**power).astype(np.float32)


def random_hills(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """H×W float32 metres that no picture tells of: smooth, and steeper than most of what a camera sees.

    The logarithm is smooth noise; the farthest lies 1 to 200 m away, 3 to 150 times as far as the nearest.
    """
    noise = cv2.GaussianBlur(rng.standard_normal(size, dtype=np.float32), (0, 0), np.exp(rng.uniform(*np.log((5, 30)))))
    nearest, farthest = float(noise.min()), float(noise.max())
    log_range = rng.uniform(*np.log((3, 150)))
    farthest_m = np.exp(rng.uniform(0, np.log(200)))
    height = (noise - farthest) / max(farthest - nearest, 1e-6)
    return (farthest_m * np.exp(log_range * height)).astype(np.float32)


def random_reach(
    depth_m_HW: np.ndarray, farthest_m: float, limits_m: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """The same scene larger or smaller, so that its farthest_m comes to lie between the limits (log-uniform)."""
    reach_m = np.exp(rng.uniform(*np.log(limits_m)))
    return (depth_m_HW * (reach_m / farthest_m)).astype(np.float32)


def farthest(depth_m_HW: np.ndarray) -> float:
    """The largest depth there is, 0 where there is none: inf and NaN are no depths."""
    return float(np.max(depth_m_HW, initial=0.0, where=np.isfinite(depth_m_HW)))


def random_misalignment(depth_m_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The depth moved by up to a pixel each way against the RGB, as by a calibration that is slightly off."""
    down, right = rng.integers(-1, 2, 2)
    padded = np.pad(depth_m_HW, 1, mode="edge")
    height, width = depth_m_HW.shape
    return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
