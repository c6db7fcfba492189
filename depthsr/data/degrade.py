"""Degradation laws: from an exact depth map to what a poor sensor or a depth codec would deliver. Seeded.

Here the named protocols (`PROTOCOLS`) of evaluation; depthsr.data.random_degradation mixes the laws for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from depthsr.config import PROTOCOLS as PROTOCOLS
from depthsr.data.blobs import blobs
from depthsr.data.matching import Matcher, matched_stereo
from depthsr.data.resample import centre_sample, resample_masked
from depthsr.data.sparse import REACH_M, scan_lines, single_points
from depthsr.data.stereo import StereoCamera, reach_m, stereo
from depthsr.types import SKY_FLOAT16, UserError

#: The challenge clips depth here before it is normalised to [0, 1]; the sky lies here too.
AIS_CLIP_M = 300.0
AIS_FACTOR = 8
AIS_DROPPED_BITS = 4
AIS_STEP_M = 2.0**AIS_DROPPED_BITS
#: Per image: additive noise a and multiplicative noise b, in levels, uniform in these ranges.
AIS_ADDITIVE = (0.016, 0.037)
AIS_MULTIPLICATIVE = (0.003, 0.019)

#: What makes depth smaller, of depthsr.data.resample.KERNELS.
GDSR_DOWNSAMPLING = "bicubic"
TOF_DOWNSAMPLING = "box"

#: Of the "-noisy" protocols: standard deviation as a share of the depth.
GDSR_NOISE = 0.02

TOF_FACTOR = 4
#: Standard deviation as a share of the depth, near; three times that at the far end.
TOF_NOISE = 0.01
TOF_STEP_M = 0.001

STEREO_FACTOR = 2

#: 500 of 640×480.
POINTS_SHARE = 500 / (640 * 480)
LIDAR_SPACING_PX = 15.0
LIDAR_STEP_PX = 2
#: Standard deviation as a share of the depth.
LIDAR_NOISE = 0.003


@dataclass(frozen=True)
class Degraded:
    """A poor depth map and what is known of how it became so.

    raw                  h×w float32 as transmitted: the challenge's levels, else metres with NaN = no value.
    depth_m              h×w float32 metres, NaN = no value (the levels of `raw` turned back into metres).
    quantisation_step_m  metres between levels; 0 = none or unknown.
    max_depth_m          known range, None = unknown.
    """

    raw: np.ndarray
    depth_m: np.ndarray
    quantisation_step_m: float
    max_depth_m: float | None
    protocol: str


def clip_sky(depth_m: np.ndarray, limit_m: float = AIS_CLIP_M) -> np.ndarray:
    """Float32 copy: sky (inf or 65504) and everything beyond the limit at the limit; NaN and <= 0 become NaN."""
    depth_m = np.asarray(depth_m, np.float32)
    return np.where(np.isnan(depth_m) | (depth_m <= 0), np.nan, np.minimum(depth_m, limit_m)).astype(np.float32)


def remove_sky(depth_m: np.ndarray) -> np.ndarray:
    """Float32 copy: sky, NaN and <= 0 become NaN, as a sensor that gets no echo delivers it."""
    depth_m = np.asarray(depth_m, np.float32)
    with np.errstate(invalid="ignore"):
        return np.where((depth_m > 0) & (depth_m < SKY_FLOAT16), depth_m, np.nan).astype(np.float32)


def ground_truth(depth_m: np.ndarray, protocol: str) -> np.ndarray:
    """What a protocol's result is scored against: H×W float32 metres, NaN where not scored.

    ais, gdsr, clean: clipped at AIS_CLIP_M, the sky scored at that value. tof: the sky is not scored; stereo, matched:
    nor is what lies farther than the camera measures; points, lidar: nor what lies beyond 80 m.
    """
    _check(protocol)
    if protocol in ("points", "lidar"):
        return within(remove_sky(depth_m), REACH_M)
    if protocol in ("stereo", "matched"):
        return within_reach(remove_sky(depth_m), StereoCamera())
    return remove_sky(depth_m) if protocol == "tof" else clip_sky(depth_m)


def within_reach(depth_m: np.ndarray, camera: StereoCamera) -> np.ndarray:
    """NaN where it lies farther than the camera measures."""
    return within(depth_m, reach_m(depth_m, camera))


def within(depth_m: np.ndarray, limit_m: float) -> np.ndarray:
    """NaN where it lies farther."""
    with np.errstate(invalid="ignore"):
        return np.where(depth_m <= limit_m, depth_m, np.nan).astype(np.float32)


def degrade(depth_m: np.ndarray, protocol: str, *, seed: int, rgb_HW3: np.ndarray | None = None) -> Degraded:
    """Degrade H×W metres (inf or 65504 = sky, NaN or <= 0 = no value) by a named protocol.

    rgb_HW3  uint8, what the depth is the depth of; "matched" alone looks at it.

    ais        the 2024 AIS depth-compression challenge: ×8, 4 bits dropped, its noise (`ais_levels`).
    gdsr-xN    antialiased bicubic ÷N of the depth clipped at 300 m, as in guided depth super-resolution papers.
    gdsr-xN-noisy  the same with Gaussian noise of 2 % of the depth.
    tof        area mean ÷4 (flying pixels at edges), noise growing with distance, dropped edges, holes, 1 mm steps.
    stereo     a stereo camera (depthsr.data.stereo) at ÷2: shadows without a value beside what is near, fattened edges,
               disparities off by a tenth of a pixel, mismatches, holes.
    matched    what OpenCV's semi-global matcher finds in the RGB and a second view made of it (depthsr.data.matching).
    points     as many pixels at random within 80 m as are 500 of 640×480, exact, and nothing between them.
    lidar      lines 15 pixels apart (depthsr.data.sparse), every other column, within 80 m, noise of 0.3 %.
    clean      nothing is lost but what lies beyond 300 m: whatever a method does to such a map is damage.

    Raises UserError for an unknown protocol, a map smaller than the factor, or "matched" without RGB.
    """
    _check(protocol)
    if protocol == "ais":
        return degrade_ais(depth_m, seed=seed)
    rng = np.random.default_rng(seed)
    if protocol == "tof":
        low_m = tof(depth_m, TOF_FACTOR, rng)
        return Degraded(low_m, low_m, TOF_STEP_M, None, protocol)
    if protocol == "stereo":
        low_m = stereo(remove_sky(depth_m), low_size(depth_m, STEREO_FACTOR), StereoCamera(), rng)
        return Degraded(low_m, low_m, 0.0, None, protocol)
    if protocol == "matched":
        if rgb_HW3 is None:
            raise UserError("what is matched are pictures: protocol matched needs the RGB too (depthsr degrade --rgb).")
        low_m = matched_stereo(rgb_HW3, remove_sky(depth_m), depth_m.shape, StereoCamera(), Matcher(), rng)
        return Degraded(low_m, low_m, 0.0, None, protocol)
    if protocol in ("points", "lidar"):
        scene_m = ground_truth(depth_m, protocol)
        if protocol == "points":
            low_m = single_points(scene_m, round(POINTS_SHARE * depth_m.size), rng)
        else:
            low_m = add_noise(scan_lines(scene_m, LIDAR_SPACING_PX, LIDAR_STEP_PX, rng), LIDAR_NOISE, rng)
        return Degraded(low_m, low_m, 0.0, None, protocol)
    clipped_m = clip_sky(depth_m)
    if protocol == "clean":
        return Degraded(clipped_m, clipped_m, 0.0, None, protocol)
    factor = int(protocol.split("-")[1][1:])
    low_m = resample_masked(clipped_m, low_size(clipped_m, factor), GDSR_DOWNSAMPLING)
    low_m = np.maximum(low_m, np.nanmin(clipped_m))  # the cubic kernel undershoots at edges, below zero even
    if protocol.endswith("noisy"):
        low_m = add_noise(low_m, GDSR_NOISE, rng)
    return Degraded(low_m, low_m, 0.0, None, protocol)


def downsampling_of(protocol: str) -> str:
    """Of depthsr.data.resample.KERNELS: what makes the low-resolution depth of a protocol.

    Raises UserError for an unknown protocol and for one that averages nothing.
    """
    _check(protocol)
    if protocol == "tof":
        return TOF_DOWNSAMPLING
    if protocol.startswith("gdsr"):
        return GDSR_DOWNSAMPLING
    raise UserError(f"protocol {protocol} keeps pixels as they are, which no downsampling describes; leave it out.")


def low_size(depth_HW: np.ndarray, factor: float) -> tuple[int, int]:
    """(h, w) of a map shrunk by `factor`. Raises UserError when nothing would be left."""
    size = (int(depth_HW.shape[0] // factor), int(depth_HW.shape[1] // factor))
    if min(size) < 1:
        height, width = depth_HW.shape
        raise UserError(f"a depth map of {width}x{height} is too small to be shrunk by {factor:g}; give a larger one.")
    return size


def degrade_ais(
    depth_m: np.ndarray,
    *,
    seed: int,
    factor: int = AIS_FACTOR,
    dropped_bits: int = AIS_DROPPED_BITS,
    noise: float = 1.0,
) -> Degraded:
    """The challenge's law, milder or harsher where an argument departs from the challenge's own (see `ais_levels`).

    dropped_bits  levels are 2^dropped_bits metres; 0 = whole metres are kept.

    The noise of two calls with one seed and factor differs only in its strength. Raises UserError as `degrade` does.
    """
    step_m = 2.0**dropped_bits
    levels = ais_levels(depth_m, np.random.default_rng(seed), factor=factor, step_m=step_m, noise=noise)
    return Degraded(levels, dequantise_ais(levels, step_m), step_m, AIS_CLIP_M, "ais")


def ais_levels(
    depth_m: np.ndarray,
    rng: np.random.Generator,
    *,
    factor: int = AIS_FACTOR,
    step_m: float = AIS_STEP_M,
    noise: float = 1.0,
) -> np.ndarray:
    """The challenge's low-resolution depth, h×w float32 levels of 16 m, decoded from its samples.

    d = HR[4::8, 4::8]; q = floor(d / 16); max(0, q (1 + b n1) + a n2), n1 and n2 normal and independent a pixel.
    HR is float16 in the challenge with 65504 for the sky. No value is transmitted as level 0.

    factor  of the shrinking, each way.
    step_m  metres of a level.
    noise   multiplies a and b, which are in levels: with a smaller step the same noise is less in metres.
    """
    low_m = centre_sample(np.asarray(depth_m, np.float32), low_size(depth_m, factor))
    low_m = np.where(np.isnan(low_m), 0.0, np.clip(low_m, 0.0, SKY_FLOAT16))
    levels = np.floor(low_m / step_m)
    additive, multiplicative = noise * rng.uniform(*AIS_ADDITIVE), noise * rng.uniform(*AIS_MULTIPLICATIVE)
    noisy = levels * (1 + multiplicative * rng.standard_normal(levels.shape))
    return np.maximum(0.0, noisy + additive * rng.standard_normal(levels.shape)).astype(np.float32)


def dequantise_ais(levels_hw: np.ndarray, step_m: float = AIS_STEP_M) -> np.ndarray:
    """Levels back to metres: the middle of each level, clipped at 300. NaN and negative become no value.

    The clip comes before any interpolation, or one sky pixel (level 4094) would bleed over its neighbours.
    """
    levels = np.asarray(levels_hw, np.float32)
    middle_m = np.minimum(np.rint(levels) * step_m + step_m / 2, AIS_CLIP_M)
    return np.where(np.isnan(levels) | (levels < 0), np.nan, middle_m).astype(np.float32)


def add_noise(depth_m: np.ndarray, share: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of standard deviation share·depth; the result stays above 1 % of the depth."""
    noise = rng.standard_normal(depth_m.shape)
    return (depth_m * np.maximum(1 + share * noise, 0.01)).astype(np.float32)


def blur(depth_m: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian mean of the valid pixels, float32; a pixel without a value (NaN) stays without."""
    valid = np.isfinite(depth_m)
    kernel: dict[str, Any] = {"ksize": (0, 0), "sigmaX": sigma_px, "borderType": cv2.BORDER_REPLICATE}
    total = cv2.GaussianBlur(np.where(valid, depth_m, 0).astype(np.float32), **kernel)
    weight = cv2.GaussianBlur(valid.astype(np.float32), **kernel)
    return np.where(valid, total / np.maximum(weight, 1e-6), np.nan).astype(np.float32)


def quantise(depth_m: np.ndarray, step_m: float) -> np.ndarray:
    """Middle of the level of `step_m` metres that each depth falls in (bits dropped, then read at the middle)."""
    return ((np.floor(depth_m / step_m) + 0.5) * step_m).astype(np.float32)


def punch_holes(depth_m: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Set about `share` of the map to NaN, in blobs of all sizes."""
    return np.where(blobs(depth_m.shape, share, rng), np.nan, depth_m).astype(np.float32)


def tof(depth_m: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """A time-of-flight camera: h×w float32 metres, NaN = no value.

    Area mean (mixed "flying" pixels at depth edges), noise 1 % of the depth growing to 3 % at the far end, the sky and
    half of the strongest edges without an echo, a twentieth of the frame in holes, millimetre steps.
    """
    known_m = remove_sky(depth_m)
    low_m = resample_masked(known_m, low_size(known_m, factor), TOF_DOWNSAMPLING)
    valid = np.isfinite(low_m)
    if not valid.any():
        return low_m
    far_m = np.quantile(low_m[valid], 0.98)
    growth = 1 + 2 * np.clip(np.where(valid, low_m, 0) / far_m, 0, 1)
    noisy_m = add_noise(low_m, TOF_NOISE * growth, rng)
    edge = _relative_step(low_m) > 0.3
    lost = edge & (rng.random(low_m.shape) < 0.5)
    noisy_m = punch_holes(np.where(lost, np.nan, noisy_m), 0.05, rng)
    return np.maximum(np.rint(noisy_m / TOF_STEP_M) * TOF_STEP_M, TOF_STEP_M).astype(np.float32)


def _relative_step(depth_m: np.ndarray) -> np.ndarray:
    """Largest difference to a 4-neighbour, as a share of the depth; 0 where no neighbour is valid."""
    padded = np.pad(depth_m, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    steps = np.stack([np.abs(n - centre) / centre for n in neighbours])
    return np.nan_to_num(steps).max(0)


def _check(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
