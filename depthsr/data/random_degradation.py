"""What training restores: a degradation drawn from all laws (depthsr.data.degrade), of varied strength. Seeded."""

from __future__ import annotations

import numpy as np

from depthsr.data.augment import (
    farthest,
    random_depth_curve,
    random_disparity,
    random_hills,
    random_misalignment,
    random_reach,
)
from depthsr.data.degrade import (
    AIS_CLIP_M,
    AIS_FACTOR,
    AIS_STEP_M,
    GDSR_NOISE,
    TOF_STEP_M,
    Degraded,
    add_noise,
    ais_levels,
    blur,
    clip_sky,
    dequantise_ais,
    low_size,
    punch_holes,
    quantise,
    remove_sky,
    tof,
    within,
    within_reach,
)
from depthsr.data.matching import matched_stereo, random_matcher
from depthsr.data.resample import centre_sample, resample_masked
from depthsr.data.sparse import gathered, scan_lines, single_points
from depthsr.data.stereo import random_camera_pair, stereo

#: The shares of what recipe "mixed" is mixed of.
MIXED = {"ais": 0.22, "classical": 0.25, "tof": 0.09, "stereo": 0.11, "matched": 0.14, "sparse": 0.1, "clean": 0.09}


def random_degradation(
    rgb_HW3: np.ndarray,
    depth_m: np.ndarray,
    recipe: str,
    rng: np.random.Generator,
    farthest_m: float | None = None,
    columns: slice = slice(None),
) -> tuple[Degraded, np.ndarray]:
    """A degradation drawn for training, and the target: H×W float32 metres, NaN = not trained on. RGB is uint8.

    recipe "ais": the challenge law on randomly rescaled depth. "mixed": shares as in MIXED. Of the challenge law every
    third sample then has another factor (×2 to ×16), other dropped bits (0 to 5) and up to twice the noise; "classical"
    are factors ×1 to ×16 (one in five anisotropic) by bicubic, box or centre sampling, with noise up to 5 % of the
    depth, up to 5 of 8 bits dropped (told to the network or not), blur and holes; "tof" and "stereo" is what such a
    camera measures, "matched" what a matcher finds in the RGB and a second view of it (`depthsr.data.matching`),
    "sparse" are single points or a lidar's lines, gathered as a Predictor gathers them (`depthsr.data.sparse`); of
    "clean" nothing is lost, and it is learnt to leave it alone, be it as steep as `random_hills`. Of all but the
    challenge law every fourth sample has its depths remapped (`random_depth_curve`); of "classical" and "clean" 15 %
    are disparity (`random_disparity`); and of "classical", "tof", "stereo" and "sparse" every eighth is a pixel off
    (`random_misalignment`).

    farthest_m  the largest depth of the frame that depth_m was cut from, else its own. Where it is within two of the
                challenge's levels, which then say next to nothing of the frame (a room), that law gets it enlarged.
    columns     what is wanted of the map, and what the results are of. A pair of cameras looks at all of it: along a
                row, what it measures here depends on what is far away.
    """
    kind = "ais" if recipe == "ais" else str(rng.choice(list(MIXED), p=list(MIXED.values())))
    farthest_m = farthest(depth_m) if farthest_m is None else farthest_m
    if kind not in ("stereo", "matched"):
        rgb_HW3, depth_m = rgb_HW3[:, columns], depth_m[:, columns]
    if kind == "ais" and 0 < farthest_m < 2 * AIS_STEP_M:
        depth_m = random_reach(depth_m, farthest_m, (2 * AIS_STEP_M, AIS_CLIP_M), rng)
    elif kind in ("classical", "clean") and rng.random() < 0.15 and np.isfinite(depth_m).any():
        depth_m = random_disparity(depth_m, rng)
    elif kind != "ais" and rng.random() < 0.25:
        depth_m = random_depth_curve(depth_m, rng)
    else:
        depth_m = depth_m * np.exp(rng.uniform(-0.7, 0.7))
    if kind == "ais":
        return _random_ais(depth_m, rng, vary=recipe != "ais" and rng.random() < 0.35), clip_sky(depth_m)
    if kind == "clean":
        clipped_m = clip_sky(depth_m)
        if rng.random() < 0.4:
            clipped_m = np.where(np.isfinite(remove_sky(depth_m)), random_hills(depth_m.shape, rng), clipped_m)
        return Degraded(clipped_m, clipped_m, 0.0, None, kind), clipped_m
    misaligned = kind != "matched" and rng.random() < 0.125
    measured_m = random_misalignment(depth_m, rng) if misaligned else depth_m
    if kind == "tof":
        low_m = tof(measured_m, rng.choice([2, 3, 4, 6, 8]), rng)
        return Degraded(low_m, low_m, TOF_STEP_M, None, kind), remove_sky(depth_m)
    if kind in ("stereo", "matched"):
        camera, scene_m = random_camera_pair(depth_m.shape[1], rng), remove_sky(measured_m)
        if kind == "matched":
            found_m = matched_stereo(rgb_HW3, scene_m, scene_m.shape, camera, random_matcher(camera, rng), rng)
        else:
            found_m = stereo(scene_m, scene_m.shape, camera, rng)
        target_m, found_m = within_reach(remove_sky(depth_m), camera)[:, columns], found_m[:, columns]
        low_m = centre_sample(found_m, low_size(found_m, rng.choice([1, 1, 1, 2, 2, 3, 4])))
        return Degraded(low_m, low_m, 0.0, None, kind), target_m
    if kind == "sparse":
        scene_m, target_m = remove_sky(measured_m), remove_sky(depth_m)
        if rng.random() < 0.5 and np.isfinite(scene_m).any():
            reach = float(np.nanquantile(scene_m, rng.uniform(0.7, 1)))
            scene_m, target_m = within(scene_m, reach), within(target_m, reach)
        low_m = gathered(_random_sparse(scene_m, rng))
        return Degraded(low_m, low_m, 0.0, None, kind), target_m
    scored = clip_sky if rng.random() < 0.75 or not np.isfinite(remove_sky(depth_m)).any() else remove_sky
    return _random_classical(scored(measured_m), rng), scored(depth_m)


def _random_ais(depth_m: np.ndarray, rng: np.random.Generator, *, vary: bool) -> Degraded:
    factor, step_m, noise = AIS_FACTOR, AIS_STEP_M, 1.0
    if vary:
        factor, step_m, noise = int(rng.choice([2, 4, 8, 16])), 2.0 ** rng.integers(0, 6), rng.uniform(0, 2)
    levels = ais_levels(depth_m, rng, factor=factor, step_m=step_m, noise=noise)
    return Degraded(levels, dequantise_ais(levels, step_m), step_m, AIS_CLIP_M, "ais")


def _random_sparse(depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        low_m = single_points(depth_m, max(1, round(depth_m.size * 10 ** rng.uniform(-3.5, -1))), rng)
    else:
        spacing_px, step_px = 2.0 ** rng.uniform(1.5, 5), int(rng.integers(1, 7))
        low_m = scan_lines(depth_m, spacing_px, step_px, rng, view_deg=rng.uniform(20, 90))
    return add_noise(low_m, rng.choice([0.0, rng.uniform(0, 0.02)]), rng)


def _random_classical(depth_m: np.ndarray, rng: np.random.Generator) -> Degraded:
    factor = rng.choice([4.0, 8.0, 16.0]) if rng.random() < 0.7 else 2.0 ** rng.uniform(0, 4)
    squeeze = 2.0 ** rng.uniform(-0.5, 0.5) if rng.random() < 0.2 else 1.0
    height, width = depth_m.shape
    size = (max(1, round(height / factor * squeeze)), max(1, round(width / factor / squeeze)))
    size = (min(size[0], height), min(size[1], width))
    sampling = rng.choice(["bicubic", "box", "centre"], p=[0.7, 0.15, 0.15])
    low_m = centre_sample(depth_m, size) if sampling == "centre" else resample_masked(depth_m, size, sampling)
    low_m = np.maximum(low_m, np.nanmin(depth_m))
    if rng.random() < 0.1:
        low_m = blur(low_m, rng.uniform(0.3, 0.8))
    known_m = low_m[np.isfinite(low_m)]
    range_m = float(known_m.max()) if known_m.size else 1.0
    if rng.random() < 0.45:
        low_m = add_noise(low_m, GDSR_NOISE if rng.random() < 0.5 else rng.uniform(0, 0.05), rng)
    step_m = 0.0
    if rng.random() < 0.2:
        dropped_bits = rng.integers(1, 6)
        step_m = range_m * 2.0**dropped_bits / 256
        low_m = quantise(low_m, step_m)
    if rng.random() < 0.2 and min(size) > 3:
        low_m = punch_holes(low_m, rng.uniform(0.02, 0.5), rng)
    told_step_m = step_m if rng.random() < 0.8 else 0.0
    max_depth_m = range_m if rng.random() < 0.2 else None
    return Degraded(low_m, low_m, told_step_m, max_depth_m, "classical")
