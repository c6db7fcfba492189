"""Training samples depend on their key alone, and RGB and depth stay aligned through crops and flips."""

from __future__ import annotations

import numpy as np
import pytest

from depthsr.data.augment import (
    farthest,
    random_camera,
    random_colour,
    random_depth_curve,
    random_disparity,
    random_flip,
    random_hills,
    random_misalignment,
    random_window,
)
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
    keys = [(step, number, 32) for step in range(4) for number in range(3)]
    for key in reversed(keys):
        other[key]
    for key in keys:
        expected, result = reference[key], other[key]
        np.testing.assert_array_equal(result.rgb_HW3, expected.rgb_HW3)
        np.testing.assert_array_equal(result.target_m_HW, expected.target_m_HW)
        np.testing.assert_array_equal(result.degraded.depth_m, expected.degraded.depth_m)
    rgbs = [reference[key].rgb_HW3 for key in keys]
    assert len({rgb.tobytes() for rgb in rgbs}) == len(keys)  # steps differ, and numbers


def test_a_room_is_enlarged_by_what_the_frame_reaches_not_the_crop():
    class Rooms:
        def read(self, name: str) -> Frame:
            depth_m = np.repeat(np.float32([[3, 6]]), 32, 1).repeat(64, 0)
            return Frame(np.zeros((64, 64, 3), np.uint8), depth_m)

    rooms = TrainingPairs(Rooms(), ["room"], recipe="ais", seed=1, cache_frames=1)
    targets_m = [rooms[step, 0, 16].target_m_HW for step in range(200)]
    near_m = [t.max() for t in targets_m if t.min() == t.max()]  # of one half, unless it is the farther at the limit
    assert min(near_m) < 32  # the farther half lies between 32 and 300 m, the nearer at half of that
    both_m = [t for t in targets_m if t.min() < t.max()]
    assert both_m
    for target_m in both_m:
        np.testing.assert_allclose(target_m.max(), 2 * target_m.min(), rtol=1e-5)


def test_crops_and_flips_keep_rgb_and_depth_together():
    frame = Frames().read("1")
    rng = np.random.default_rng(0)
    for _ in range(20):
        rgb, depth_m = random_flip(frame.rgb, frame.depth_m, rng)
        window = random_window(depth_m, 32, rng)
        rgb, depth_m = rgb[window], depth_m[window]
        assert depth_m.shape == (32, 32)
        np.testing.assert_array_equal(rgb[..., 0], depth_m)


def test_a_crop_avoids_the_sky():
    depth_m = np.full((64, 64), np.inf, np.float32)
    depth_m[:, :32] = 5.0
    for seed in range(20):
        crop = depth_m[random_window(depth_m, 16, np.random.default_rng(seed))]
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


def test_a_camera_blurs_and_compresses_but_keeps_the_picture():
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.random((16, 24, 3), dtype=np.float32), 4, 0), 4, 1)
    untouched = 0
    for seed in range(60):
        seen = random_camera(picture, np.random.default_rng(seed))
        assert seen.dtype == np.float32
        assert seen.min() >= 0
        assert seen.max() <= 1
        for channel in range(3):  # in their order: each correlates with its own and hardly with the others
            assert np.corrcoef(seen[..., channel].ravel(), picture[..., channel].ravel())[0, 1] > 0.6
            assert abs(np.corrcoef(seen[..., channel].ravel(), picture[..., channel - 1].ravel())[0, 1]) < 0.5
        untouched += seen is picture
    assert 25 < untouched < 55  # 0.9 · 0.75 of them


def test_hills_are_smooth_steep_and_within_their_range():
    steepest = []
    for seed in range(20):
        depth_m = random_hills((60, 80), np.random.default_rng(seed))
        assert depth_m.dtype == np.float32
        assert 1 <= depth_m.max() <= 200.001
        assert 2.99 <= depth_m.max() / depth_m.min() <= 150.1
        steps = [np.abs(np.diff(np.log(depth_m), axis=axis)) for axis in (0, 1)]
        curvature = np.abs(np.diff(np.log(depth_m), 2, axis=1))
        assert curvature.max() < 0.5 * steps[1].max()
        steepest.append(max(step.max() for step in steps))
    assert max(steepest) > 0.2
    np.testing.assert_array_equal(depth_m, random_hills((60, 80), np.random.default_rng(19)))


def test_a_depth_curve_keeps_the_order_and_what_has_no_value():
    depth_m = np.random.default_rng(0).uniform(2, 250, (20, 30)).astype(np.float32)
    depth_m[0, :5], depth_m[1, :5] = np.inf, np.nan
    known = np.isfinite(depth_m)
    for seed in range(20):
        curved_m = random_depth_curve(depth_m, np.random.default_rng(seed))
        np.testing.assert_array_equal(np.isinf(curved_m), np.isinf(depth_m))
        np.testing.assert_array_equal(np.isnan(curved_m), np.isnan(depth_m))
        np.testing.assert_array_equal(np.argsort(curved_m[known]), np.argsort(depth_m[known]))
        assert 1 <= curved_m[known].max() <= 200
        nearer = known & (depth_m < 0.9 * depth_m[known].max())
        power = np.log(curved_m[nearer] / curved_m[known].max()) / np.log(depth_m[nearer] / depth_m[known].max())
        np.testing.assert_allclose(power, power[0], rtol=1e-3)
        assert 0.6 < power[0] < 1.65
    sky = np.full((4, 4), np.inf, np.float32)
    assert random_depth_curve(sky, np.random.default_rng(0)) is sky


def test_disparity_is_large_in_front_and_a_power_of_the_inverse_depth():
    depth_m = np.random.default_rng(0).uniform(2, 250, (20, 30)).astype(np.float32)
    depth_m[0, :5], depth_m[1, :5], depth_m[2, :5] = np.inf, np.nan, 0
    known = np.isfinite(depth_m) & (depth_m > 0)
    nearest_m = depth_m[known].min()
    for seed in range(20):
        disparity = random_disparity(depth_m, np.random.default_rng(seed))
        assert disparity.dtype == np.float32
        np.testing.assert_array_equal(np.isfinite(disparity), known)
        np.testing.assert_array_equal(np.argsort(-disparity[known]), np.argsort(depth_m[known]))
        largest = disparity[known].max()
        assert 1 <= largest <= 200.001
        farther = known & (depth_m > 1.1 * nearest_m)
        power = np.log(disparity[farther] / largest) / np.log(nearest_m / depth_m[farther])
        np.testing.assert_allclose(power, power[0], rtol=1e-3)
        assert 0.4 < power[0] < 1.23
    for nothing in (np.inf, np.nan, 0):
        assert np.isnan(random_disparity(np.full((4, 4), nothing, np.float32), np.random.default_rng(0))).all()


def test_the_farthest_depth_is_neither_sky_nor_a_hole():
    depth_m = np.array([[2.0, np.inf], [np.nan, 7.5]], np.float32)
    assert farthest(depth_m) == 7.5
    assert farthest(np.array([[np.inf, np.nan]], np.float32)) == 0


def test_misalignment_moves_by_at_most_a_pixel():
    depth_m = np.random.default_rng(0).uniform(1, 9, (12, 17)).astype(np.float32)
    moves = set()
    for seed in range(60):
        moved_m = random_misalignment(depth_m, np.random.default_rng(seed))
        found = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if np.array_equal(moved_m[1:-1, 1:-1], np.roll(depth_m, (-down, -right), (0, 1))[1:-1, 1:-1])
        ]
        assert len(found) == 1
        moves.add(found[0])
    assert len(moves) == 9
