"""Training samples depend on their key alone, and RGB and depth stay aligned through crops and flips."""

from __future__ import annotations

import numpy as np
import pytest

from depthsr.data.augment import random_colour, random_crop, random_flip
from depthsr.data.dataset import Frame
from depthsr.data.pairs import TrainingPairs


class Frames:
    """Frames whose depth is written into their RGB, so that misalignment shows."""

    def read(self, name: str) -> Frame:
        depth_m = np.random.default_rng(int(name)).integers(1, 250, (64, 96)).astype(np.float32)
        return Frame(np.repeat(depth_m[..., None], 3, 2).astype(np.uint8), depth_m)


@pytest.fixture
def pairs():
    def make(cache_frames=10):
        return TrainingPairs(Frames(), ["1", "2", "3"], recipe="mixed", seed=5, cache_frames=cache_frames)

    return make


@pytest.mark.parametrize("cache_frames", [0, 1, 10])
def test_a_sample_is_a_function_of_its_key(pairs, cache_frames):
    reference, other = pairs(), pairs(cache_frames)
    keys = [(step, 0, slot, 32) for step in range(4) for slot in range(3)]
    for key in reversed(keys):
        other[key]
    for key in keys:
        expected, result = reference[key], other[key]
        np.testing.assert_array_equal(result.rgb_HW3, expected.rgb_HW3)
        np.testing.assert_array_equal(result.target_m_HW, expected.target_m_HW)
        np.testing.assert_array_equal(result.degraded.depth_m, expected.degraded.depth_m)
    assert not np.array_equal(reference[0, 0, 0, 32].rgb_HW3, reference[0, 1, 0, 32].rgb_HW3)  # ranks differ


def test_crops_and_flips_keep_rgb_and_depth_together():
    frame = Frames().read("1")
    rng = np.random.default_rng(0)
    for _ in range(20):
        rgb, depth_m = random_flip(*random_crop(frame.rgb, frame.depth_m, 32, rng), rng)
        assert depth_m.shape == (32, 32)
        np.testing.assert_array_equal(rgb[..., 0], depth_m)


def test_a_crop_avoids_the_sky():
    depth_m = np.full((64, 64), np.inf, np.float32)
    depth_m[:, :32] = 5.0
    for seed in range(20):
        _, crop = random_crop(np.zeros((64, 64, 3), np.uint8), depth_m, 16, np.random.default_rng(seed))
        assert np.isfinite(crop).mean() >= 0.1


def test_colour_stays_in_range_and_keeps_order():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    changed = 0
    for seed in range(20):
        rgb = random_colour(ramp, np.random.default_rng(seed))
        assert rgb.dtype == np.float32
        assert rgb.min() >= 0
        assert rgb.max() <= 1
        assert np.corrcoef(rgb.mean(2)[0], np.arange(256))[0, 1] > 0.8
        changed += not np.allclose(rgb, ramp / 255, atol=0.02)
    assert changed > 15
