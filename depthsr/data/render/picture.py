"""From the light that surfaces send to an 8-bit photograph: haze, sky behind, exposure, sRGB."""

from __future__ import annotations

import cv2
import numpy as np

from depthsr.data.render.scene import Sky

#: The exposure puts this quantile of the surfaces' brightness at this level, or lower where the sky is much brighter
#: and more than this share of the picture; what little is seen through a window may clip.
EXPOSED_QUANTILE, EXPOSED_LEVEL, SKY_THAT_COUNTS = 0.9, 0.7, 0.15

#: Of the mean brightness, what the lens scatters over the whole picture.
GLARE = 0.015


def photograph(
    surfaces_HW3: np.ndarray, coverage_HW: np.ndarray, depth_m_HW: np.ndarray, rays_HW3: np.ndarray, sky: Sky
) -> np.ndarray:
    """H×W×3 uint8 sRGB.

    surfaces_HW3   linear RGB radiance of the surfaces, weighted by the share of the pixel they cover.
    coverage_HW    that share, in [0, 1]; the sky shows in the rest.
    depth_m_HW     metres at the pixels' centres; inf = sky.
    rays_HW3       directions of the pixels, of any length.
    """
    # Haze at each sample's own depth is not at hand. Where the centre alone sees the sky, the nearest neighbour's depth
    # stands for what else is in the pixel, and where that is the sky too, there is no haze: a wire must not vanish.
    seen_m = np.where(np.isinf(depth_m_HW), cv2.erode(depth_m_HW, np.ones((3, 3))), depth_m_HW)
    clear = np.exp(-np.where(np.isinf(seen_m), 0, seen_m) / sky.visibility_m)[..., None]
    coverage = coverage_HW[..., None]
    hazy = clear * surfaces_HW3 + (1 - clear) * coverage * sky.horizon
    behind = sky.radiance(rays_HW3)
    light = hazy + (1 - coverage) * behind
    exposure = _exposure(hazy[coverage_HW > 0.5], behind[coverage_HW < 0.5])
    return srgb(exposure * (light + GLARE * light.mean()))


def _exposure(surfaces_N3: np.ndarray, sky_M3: np.ndarray) -> float:
    """The factor that shows the surfaces well and leaves half of a large sky below white; 1 where there is nothing."""
    factors = []
    if len(surfaces_N3) and (level := np.quantile(surfaces_N3.mean(axis=1), EXPOSED_QUANTILE)) > 0:
        factors.append(EXPOSED_LEVEL / level)
    if (
        len(sky_M3) > SKY_THAT_COUNTS * (len(surfaces_N3) + len(sky_M3))
        and (level := np.median(sky_M3.mean(axis=1))) > 0
    ):
        factors.append(1 / level)
    return float(min(factors, default=1.0))


def srgb(linear_HW3: np.ndarray) -> np.ndarray:
    """8-bit sRGB (IEC 61966-2-1) of linear light; below 0 and above 1 it clips."""
    linear = np.clip(linear_HW3, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * coded).astype(np.uint8)
