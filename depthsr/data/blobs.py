"""Random regions of a frame: where a sensor finds nothing, or something else than what is there."""

from __future__ import annotations

import numpy as np

from depthsr.data.resample import resample_masked


def blobs(
    shape: tuple[int, ...], share: float, rng: np.random.Generator, cells: tuple[int, ...] = (2, 6, 16)
) -> np.ndarray:
    """Bool: about `share` of the pixels, in blobs of as many sizes as there are `cells` along a side.

    A sum of one noise for each, cut off at its quantile.
    """
    height, width = shape
    field = np.zeros((height, width), np.float32)
    for count in cells:
        coarse = rng.standard_normal((min(count, height), min(count, width))).astype(np.float32)
        field += resample_masked(coarse, (height, width), "bilinear")
    return field < np.quantile(field, share)
