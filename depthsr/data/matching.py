"""Depth as a matcher finds it in two pictures: the second one is made of the first and its exact depth.

Where `depthsr.data.stereo` says what such depth is like, this measures it: OpenCV's matchers look at the pictures, so
edges are fattened, values are missing and matches are wrong where colour and texture make them so. Second views from
one picture and its depth: Watson et al., ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from depthsr.data.resample import centre_sample
from depthsr.data.stereo import SLANT_PX, StereoCamera, disparity_of_1m_px, disparity_px

#: OpenCV's matchers give disparities in units of this, and take ranges of a multiple of RANGE_PX.
STEP_PX = 1 / 16
RANGE_PX = 16

#: Of the frame, that a projector's dots cover.
DOTS_SHARE = 0.15

#: Semi-global matching in five directions, in eight, in three.
SEMI_GLOBAL_MODES = (cv2.STEREO_SGBM_MODE_SGBM, cv2.STEREO_SGBM_MODE_HH, cv2.STEREO_SGBM_MODE_SGBM_3WAY)


@dataclass(frozen=True)
class Matcher:
    """How two pictures are matched, and how alike they are.

    mode           of semi-global matching (Hirschmüller, PAMI 2008), one of SEMI_GLOBAL_MODES; None: block matching.
    block_px       side of the blocks that are compared, odd.
    uniqueness     percent by which the best match has to be better than the second.
    speckle_px     areas smaller than this, alike in disparity, are no value.
    range_px       so many disparities are looked at, a multiple of RANGE_PX; least_px: the first.
    gain, noise    of the second picture against the first; standard deviation of both's noise, of [0, 1].
    blur_px        by which the second picture is less sharp.
    raised_px      the second picture is so much too high: a rectification that is slightly off.
    dots           contrast of a pattern that a projector throws on everything; 0: none does.
    """

    mode: int | None = cv2.STEREO_SGBM_MODE_HH
    block_px: int = 5
    uniqueness: int = 10
    speckle_px: int = 100
    range_px: int = 64
    least_px: int = 0
    gain: float = 1.0
    noise: float = 0.01
    blur_px: float = 0.0
    raised_px: float = 0.0
    dots: float = 0.0


def random_matcher(camera: StereoCamera, rng: np.random.Generator) -> Matcher:
    """Of all kinds, for this camera's disparities."""
    by_blocks = rng.random() < 0.2
    return Matcher(
        mode=None if by_blocks else int(rng.choice(SEMI_GLOBAL_MODES)),
        block_px=int(rng.choice([9, 13, 17] if by_blocks else [3, 5, 7, 9])),
        uniqueness=int(rng.integers(5, 16)),
        speckle_px=int(rng.choice([0, 30, 100, 200])),
        range_px=RANGE_PX * int(np.ceil(camera.nearest_px * rng.uniform(1.05, 1.6) / RANGE_PX)),
        gain=float(np.exp(rng.normal(0, 0.04))),
        noise=float(rng.uniform(0, 0.015)),
        blur_px=float(rng.choice([0, rng.uniform(0.3, 0.8)])),
        raised_px=float(rng.choice([0, rng.uniform(-0.4, 0.4)])),
        dots=float(rng.uniform(0.1, 0.4)) if rng.random() < 0.25 else 0.0,
    )


def matched_stereo(
    rgb_HW3: np.ndarray,
    depth_m: np.ndarray,
    size: tuple[int, int],
    camera: StereoCamera,
    matcher: Matcher,
    rng: np.random.Generator,
) -> np.ndarray:
    """Measure H×W float32 metres (NaN = too far for any disparity) that uint8 RGB shows; `size` float32 metres.

    NaN where no match is sure, or where it is too far. Of the camera, what the matcher decides itself does not matter.
    """
    if camera.mirrored:
        rgb_HW3, depth_m = rgb_HW3[:, ::-1], depth_m[:, ::-1]
    first = np.ascontiguousarray(rgb_HW3, np.float32) / np.float32(255)
    of_1m_px = disparity_of_1m_px(depth_m, camera)
    if of_1m_px == 0:
        return np.full(size, np.nan, np.float32)
    if matcher.dots:
        first = first + np.float32(matcher.dots) * (rng.random((*depth_m.shape, 1), np.float32) < DOTS_SHARE)
    second = np.float32(matcher.gain) * second_view(first, disparity_px(depth_m, of_1m_px), raised_px=matcher.raised_px)
    if matcher.blur_px:
        second = cv2.GaussianBlur(second, (0, 0), matcher.blur_px)
    found = match(_picture(first, matcher.noise, rng), _picture(second, matcher.noise, rng), matcher)
    with np.errstate(invalid="ignore"):
        measured_m = np.where(found >= max(camera.least_px, STEP_PX), of_1m_px / found, np.nan).astype(np.float32)
    if camera.mirrored:
        measured_m = measured_m[:, ::-1]
    return centre_sample(measured_m, size)


def second_view(rgb_HW3: np.ndarray, disparity: np.ndarray, *, raised_px: float = 0.0) -> np.ndarray:
    """What a camera on the right sees of it, float32 H×W×3: column x of the first view is at x - disparity there.

    What only the second sees, beside what is near, is unknown: the picture's other end stands there.
    """
    height, width = disparity.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    order = np.argsort(disparity, axis=None)  # the nearest last, which stays
    seen_at = np.rint(columns - disparity).astype(int).ravel()[order]
    row = rows.astype(int).ravel()[order]
    inside = seen_at >= 0
    seen = np.full((height, width), np.nan, np.float32)
    seen[row[inside], seen_at[inside]] = disparity.ravel()[order][inside]

    left, right = _next_known(seen), _next_known(seen[:, ::-1])[:, ::-1]
    behind = np.fmin(left, right)
    unseen = np.isnan(seen) & ~(np.abs(left - right) <= SLANT_PX)  # less is a crack in a surface that turns away
    seen = np.nan_to_num(np.where(np.isnan(seen), behind, seen))
    columns, rows = columns + seen, rows + np.float32(raised_px)
    view = cv2.remap(rgb_HW3, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.where(unseen[..., None], np.rot90(rgb_HW3, 2), view)


def match(first_HW3: np.ndarray, second_HW3: np.ndarray, matcher: Matcher) -> np.ndarray:
    """Disparity of the first uint8 RGB picture in pixels, float32, NaN where no match is sure.

    There is none in its first least_px + range_px columns, for which the second picture is too short.
    """
    if first_HW3.shape[1] <= matcher.least_px + matcher.range_px + matcher.block_px:
        return np.full(first_HW3.shape[:2], np.nan, np.float32)
    if matcher.mode is None:
        by_blocks = cv2.StereoBM.create(matcher.range_px, matcher.block_px)
        by_blocks.setMinDisparity(matcher.least_px)
        by_blocks.setUniquenessRatio(matcher.uniqueness)
        by_blocks.setSpeckleWindowSize(matcher.speckle_px)
        by_blocks.setSpeckleRange(2)
        first, second = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first_HW3, second_HW3))
        steps = by_blocks.compute(first, second)
    else:
        smoothness = 3 * matcher.block_px**2
        semi_global = cv2.StereoSGBM.create(
            minDisparity=matcher.least_px,
            numDisparities=matcher.range_px,
            blockSize=matcher.block_px,
            P1=8 * smoothness,
            P2=32 * smoothness,
            disp12MaxDiff=1,
            uniquenessRatio=matcher.uniqueness,
            speckleWindowSize=matcher.speckle_px,
            speckleRange=2,
            mode=matcher.mode,
        )
        steps = semi_global.compute(first_HW3, second_HW3)
    return np.where(steps * STEP_PX > matcher.least_px, steps * STEP_PX, np.nan).astype(np.float32)


def _next_known(values: np.ndarray) -> np.ndarray:
    """NaN replaced by the next value to its left, where there is one."""
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(values.shape[1])), axis=1)
    return np.take_along_axis(values, last, axis=1)


def _picture(rgb_HW3: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    noisy = rgb_HW3 + np.float32(noise) * rng.standard_normal(rgb_HW3.shape, dtype=np.float32)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
