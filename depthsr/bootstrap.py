"""How far a mean over frames can be trusted: percentile bootstrap (Efron 1979), by scene where scenes are known.

Frames of one scene resemble each other: resampling them one by one takes every frame for news and gives intervals that
are too narrow. So whole scenes are drawn, each with all of its frames. With few scenes such intervals are still
somewhat narrow; they are a lower bound of the doubt, not the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000
#: With fewer scenes than this there are too few different draws of them (five have 126), and frames are drawn instead.
FEWEST_SCENES = 5


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of some frames, the same for every metric and method, so that methods are compared frame by frame.

    counts_RF   R×F float64: how often each of R resamples holds each of F frames.
    unit        what was drawn, with replacement: "scene" or "frame".
    units       how many of them there are.
    """

    counts_RF: np.ndarray
    unit: str
    units: int

    def interval(self, values_F: Sequence[float]) -> tuple[float, float] | None:
        """Bounds of the mean, at LEVEL; frames whose value is NaN do not count. None where nothing can be said."""
        return self._bounds(self._means(values_F))

    def ratio_interval(
        self, numerator_F: Sequence[float], denominator_F: Sequence[float]
    ) -> tuple[float, float] | None:
        """Bounds of mean(numerator) / mean(denominator) over the same frames: what both share cancels out."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = self._means(numerator_F) / self._means(denominator_F)
        return self._bounds(ratios)

    def _means(self, values_F: Sequence[float]) -> np.ndarray:
        values = np.asarray(values_F, np.float64)
        defined = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return (self.counts_RF @ np.where(defined, values, 0)) / (self.counts_RF @ defined)

    def _bounds(self, statistics_R: np.ndarray) -> tuple[float, float] | None:
        statistics_R = statistics_R[np.isfinite(statistics_R)]
        if self.units < 2 or not statistics_R.size:
            return None
        low, high = np.quantile(statistics_R, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return float(low), float(high)


def bootstrap(scenes_F: Sequence[str], *, seed: int, resamples: int = RESAMPLES) -> Bootstrap:
    """Draw resamples of the frames whose scenes are given: by scene where there are FEWEST_SCENES, else by frame."""
    scenes, scene_of_frame_F = np.unique(np.asarray(scenes_F), return_inverse=True)
    if len(scenes) >= FEWEST_SCENES:
        unit, units, unit_of_frame_F = "scene", len(scenes), scene_of_frame_F
    else:
        unit, units, unit_of_frame_F = "frame", len(scenes_F), np.arange(len(scenes_F))
    drawn_RU = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    return Bootstrap(drawn_RU[:, unit_of_frame_F].astype(np.float64), unit, units)
