"""Relative depth as a monocular network would give it, simulated from exact depth: for training and evaluation where no
such network's weights are at hand. Seeded; numpy and OpenCV only.

A network like Depth Anything V2 (Yang et al. 2024) gives inverse depth up to an unknown scale and offset, the sky at
the far end. Beyond that it errs in its own ways: tones are bent, the ground drifts, an object lies too near, edges are
soft and a pixel or two off, thin things are missing, and pictures on a wall stand out of it. Each has a function here.
"""

from __future__ import annotations

import cv2
import numpy as np

from depthsr.types import RELATIVE_LIMITS, RELATIVE_QUANTILES, SKY_FLOAT16

#: Short side that Depth Anything resizes a frame to: its pixel, and so its blur, grows with frames larger than that.
NETWORK_SIDE_PX = 518

#: Errors of inverse depth grow with it: the sky is 0 and quiet, what is near is off by more. They are shares of it plus
#: this, where it spans 0 to 1 in the frame.
FLOOR = 0.03

#: At strength 1, standard deviations unless another thing is said.
TONE_LOG_SLOPE = 0.6  # of the tone curve: e^±0.6 between its steep and its flat parts
DRIFT_LOG = 0.3
REGIONS = 4  # at most
REGION_SHIFT = 0.4
EDGE_SHIFT_PX = 1.2  # of the network's pixels
BLUR_PX = 1.8  # sigma, at most
THIN_PX = 9  # widest structure that may be lost, at most
TEXTURE = 0.15  # of brightness that is taken for depth
NOISE = 0.03


def simulated_relative_depth(
    depth_m_HW: np.ndarray,
    rng: np.random.Generator,
    *,
    rgb_HW3: np.ndarray | None = None,
    strength: float | None = None,
    frame_side_px: int | None = None,
) -> np.ndarray:
    """H×W float32: 0 = far, 1 = near at depthsr.types.RELATIVE_QUANTILES of the map, clipped at RELATIVE_LIMITS.

    depth_m_HW     exact metres; inf or 65504 = sky, NaN or <= 0 = no value (takes the nearest pixel's).
    rgb_HW3        uint8 or [0, 1]; with it, some of its texture is taken for depth.
    strength       0: inverse depth without error; 1: the worst. None: drawn, uniform in [0, 1].
    frame_side_px  short side of the frame that the map was cropped from; None: the map is the frame.

    A map without one finite depth, all sky for instance, is 0 throughout.
    """
    if strength is None:
        strength = rng.uniform()
    relative = normalise_relative(inverse_depth(depth_m_HW))
    if strength == 0 or not relative.any():
        return relative
    pixel = max(1.0, (frame_side_px or min(relative.shape)) / NETWORK_SIDE_PX)
    # Each error has a strength of its own below the common one, so that a sample may show one of them alone.
    draws = iter(strength * rng.uniform(0, 1, 7).astype(np.float32))
    relative = lose_thin_structures(relative, next(draws) * THIN_PX * pixel, rng)
    relative = move_regions(relative, next(draws) * REGION_SHIFT, rng)
    relative = bend_tones(relative, next(draws) * TONE_LOG_SLOPE, rng)
    relative = drift(relative, next(draws), rng)
    if rgb_HW3 is not None:
        relative = relative + next(draws) * TEXTURE * texture(rgb_HW3) * size_of_error(relative)
    relative = soften_edges(relative, next(draws), pixel, rng)
    noise = smooth_noise(relative.shape, rng.uniform(2, 10) * pixel, rng)
    relative = relative + next(draws) * NOISE * noise * size_of_error(relative)
    return normalise_relative(relative)


def inverse_depth(depth_m_HW: np.ndarray) -> np.ndarray:
    """1 / metres, float32; sky 0; where there is no value that of the nearest pixel with one (0 if none has)."""
    depth_m = np.asarray(depth_m_HW, np.float32)
    known = depth_m > 0
    sky = known & (depth_m >= SKY_FLOAT16)
    inverse = np.where(known & ~sky, 1 / np.where(known, depth_m, 1), 0).astype(np.float32)
    if known.all() or not known.any():
        return inverse
    _, label_HW = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of_label = np.zeros(label_HW.max() + 1, np.float32)
    value_of_label[label_HW[known]] = inverse[known]
    return value_of_label[label_HW]


def normalise_relative(relative_HW: np.ndarray) -> np.ndarray:
    """As depthsr.models.relative.normalise_relative, in numpy; a constant map becomes 0."""
    last = relative_HW.size - 1
    ranks = [round(last * quantile) for quantile in RELATIVE_QUANTILES]
    low, high = np.partition(relative_HW, ranks, axis=None)[ranks]
    return np.clip((relative_HW - low) / max(high - low, np.float32(1e-6)), *RELATIVE_LIMITS).astype(np.float32)


def size_of_error(relative_HW: np.ndarray) -> np.ndarray:
    """What an error's share is of."""
    return np.maximum(relative_HW, 0) + np.float32(FLOOR)


def bend_tones(relative_HW: np.ndarray, log_slope: float, rng: np.random.Generator) -> np.ndarray:
    """A random smooth curve that rises everywhere: the order of any two pixels is kept."""
    low, high = float(relative_HW.min()), float(relative_HW.max())
    knots = np.linspace(low, high, 65)
    bend = cv2.resize(rng.standard_normal((1, 5)).astype(np.float32), (64, 1), interpolation=cv2.INTER_CUBIC)[0]
    tilt = np.linspace(-1.5, 1.5, 64) * rng.standard_normal()
    steps = np.exp(log_slope * (bend + tilt))
    values = np.concatenate([[0.0], np.cumsum(steps / steps.sum())]) * (high - low) + low
    return np.interp(relative_HW, knots, values).astype(np.float32)


def drift(relative_HW: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Low-frequency errors, over a quarter of the frame to the whole of it."""
    cell = rng.uniform(0.25, 1) * max(relative_HW.shape)
    factor = np.exp(strength * DRIFT_LOG * smooth_noise(relative_HW.shape, cell, rng))
    return (relative_HW + FLOOR) * factor - np.float32(FLOOR)


def move_regions(relative_HW: np.ndarray, shift: float, rng: np.random.Generator) -> np.ndarray:
    """Objects too near or too far, or flattened: soft parts of the picture of about one depth, so that the error ends
    at the object's outline and fades where a surface goes on. The sky is one of them now and then.
    """
    for _ in range(rng.integers(REGIONS + 1)):
        place = np.clip(smooth_noise(relative_HW.shape, rng.uniform(0.1, 0.5) * max(relative_HW.shape), rng), 0, 1)
        centre = relative_HW[rng.integers(relative_HW.shape[0]), rng.integers(relative_HW.shape[1])]
        size = max(float(centre), 0) + FLOOR
        share = place * np.exp(-np.square((relative_HW - centre) / np.float32(rng.uniform(0.1, 0.4) * size)))
        flatness = shift / REGION_SHIFT * rng.uniform(0, 0.5)
        offset = shift * rng.standard_normal() * size_of_error(relative_HW) + flatness * (centre - relative_HW)
        relative_HW = relative_HW + share * offset.astype(np.float32)
    return relative_HW


def lose_thin_structures(relative_HW: np.ndarray, width_px: float, rng: np.random.Generator) -> np.ndarray:
    """Poles, wires and leaves up to `width_px` wide vanish, and gaps between them close, here and there."""
    size = round(rng.uniform(0.3, 1) * width_px)
    if size < 2:
        return relative_HW
    kernel = np.ones((size, size), np.uint8)
    cell = rng.uniform(0.05, 0.4) * max(relative_HW.shape)
    field = smooth_noise(relative_HW.shape, cell, rng)
    without_things = cv2.morphologyEx(relative_HW, cv2.MORPH_OPEN, kernel)
    without_gaps = cv2.morphologyEx(relative_HW, cv2.MORPH_CLOSE, kernel)
    return np.where(field > 0.3, without_things, np.where(field < -0.8, without_gaps, relative_HW))


def soften_edges(relative_HW: np.ndarray, strength: float, pixel: float, rng: np.random.Generator) -> np.ndarray:
    """Outlines wander by a pixel or so and are blurred, by a Gaussian or by a coarser grid upsampled."""
    height, width = relative_HW.shape
    rows, columns = np.indices((height, width), np.float32, sparse=True)
    cell = rng.uniform(8, 48) * pixel
    shift_px = strength * EDGE_SHIFT_PX * pixel
    moved = cv2.remap(
        relative_HW,
        columns + shift_px * smooth_noise((height, width), cell, rng),
        rows + shift_px * smooth_noise((height, width), cell, rng),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    blur_px = strength * BLUR_PX * pixel
    if rng.random() < 0.5:
        return cv2.GaussianBlur(moved, (0, 0), max(blur_px, 0.1), borderType=cv2.BORDER_REPLICATE)
    coarse = (max(1, round(width / (1 + 2 * blur_px))), max(1, round(height / (1 + 2 * blur_px))))
    return cv2.resize(cv2.resize(moved, coarse, interpolation=cv2.INTER_AREA), (width, height))


def texture(rgb_HW3: np.ndarray) -> np.ndarray:
    """Brightness without its low frequencies, about -1 to 1."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb_HW3), cv2.COLOR_RGB2GRAY).astype(np.float32)
    if rgb_HW3.dtype == np.uint8:
        grey /= 255
    side = max(2, min(grey.shape) // 8)
    return grey - cv2.blur(grey, (side, side), borderType=cv2.BORDER_REPLICATE)


def smooth_noise(shape: tuple[int, int], cell_px: float, rng: np.random.Generator) -> np.ndarray:
    """H×W float32 of about standard deviation 1 whose features are `cell_px` large."""
    size = tuple(max(2, round(side / cell_px) + 1) for side in shape)
    coarse = rng.standard_normal(size).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
