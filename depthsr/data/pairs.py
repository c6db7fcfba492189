"""Training samples: frames cropped, augmented and degraded, each a function of the seed and its number alone."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from depthsr.data.augment import farthest, random_camera, random_colour, random_flip, random_window
from depthsr.data.dataset import FrameDataset
from depthsr.data.degrade import Degraded
from depthsr.data.random_degradation import random_degradation
from depthsr.data.relative import simulated_relative_depth
from depthsr.types import SKY_FLOAT16, UserError

#: So many crops in a row without a depth are no coincidence.
MOST_DRAWS = 1000


@dataclass(frozen=True)
class Sample:
    """One training sample.

    rgb_HW3      float32 [0, 1].
    target_m_HW  float32 metres, NaN = not trained on.
    relative_HW  simulated relative depth (depthsr.data.relative); None: none is wanted.
    filling_m_hw what to think of the measurement's wide holes, metres, NaN = nothing; None: nothing anywhere.
    """

    rgb_HW3: np.ndarray
    degraded: Degraded
    target_m_HW: np.ndarray
    relative_HW: np.ndarray | None = None
    filling_m_hw: np.ndarray | None = None


class TrainingPairs:
    """Indexed by step and number: the same key gives the same sample on every machine and after every restart."""

    def __init__(
        self,
        dataset: FrameDataset,
        names: list[str],
        *,
        recipe: str,
        seed: int,
        cache_frames: int,
        relative: bool = False,
    ) -> None:
        self._dataset = dataset
        self._names = names
        self._recipe = recipe
        self._seed = seed
        self._cache_frames = cache_frames
        self._relative = relative
        self._cache: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __getitem__(self, key: tuple[int, int, int]) -> Sample:
        """key = (step, number of the sample in the step, crop side). Raises UserError where no frame has any depth."""
        step, number, side = key
        rng = np.random.default_rng([self._seed, step, number])
        for _ in range(MOST_DRAWS):
            rgb, depth_m = random_flip(*self._read(self._names[rng.integers(len(self._names))]), rng)
            frame_side_px, farthest_m = min(depth_m.shape), farthest(depth_m)
            rows, columns = random_window(depth_m, side, rng)
            degraded, target_m = random_degradation(rgb[rows], depth_m[rows], self._recipe, rng, farthest_m, columns)
            rgb, depth_m = rgb[rows, columns], depth_m[rows, columns]
            # a crop of nothing but sky has no measurement to learn from, one of nothing but holes nothing to learn
            if np.isfinite(degraded.depth_m).any() and np.isfinite(target_m).any():
                rgb = random_camera(random_colour(rgb, rng), rng)
                relative = self._relative_depth(rgb, depth_m, target_m, frame_side_px, rng) if self._relative else None
                return Sample(rgb, degraded, target_m, relative)
        raise UserError(
            f"{self._dataset.folder} has no depth to train on in {MOST_DRAWS} crops of its frames; check the files in "
            "its depth folder."
        )

    def _relative_depth(
        self, rgb: np.ndarray, depth_m: np.ndarray, target_m: np.ndarray, side_px: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Of the target, whose depths may be remapped; the sky, which a target may leave out, is there as well."""
        scene_m = np.where(depth_m >= SKY_FLOAT16, np.inf, target_m)
        return simulated_relative_depth(scene_m, rng, rgb_HW3=rgb, frame_side_px=side_px)

    def _read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        if name in self._cache:
            self._cache.move_to_end(name)
            return self._cache[name]
        frame = self._dataset.read(name)
        if self._cache_frames > 0:
            self._cache[name] = frame.rgb, frame.depth_m
            if len(self._cache) > self._cache_frames:
                self._cache.popitem(last=False)
        return frame.rgb, frame.depth_m
