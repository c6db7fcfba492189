"""Simulated relative depth: without error it is inverse depth; each error is what it is called, and no larger."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depthsr.data import relative as module
from depthsr.data.relative import (
    bend_tones,
    drift,
    inverse_depth,
    lose_thin_structures,
    move_regions,
    normalise_relative,
    simulated_relative_depth,
    smooth_noise,
    soften_edges,
    texture,
)
from depthsr.models.relative import normalise_relative as normalise_tensor


def street(size=(60, 81), seed=0) -> np.ndarray:
    """Ground from 2 to 80 m, a few boxes on it, sky above: metres."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(-0.2, 1, size[0])[:, None]
    depth_m = np.where(rows > 0.02, 1.6 / np.maximum(rows, 0.02), np.inf) * np.ones(size)
    for _ in range(4):
        top, left = rng.integers(5, size[0] - 20), rng.integers(0, size[1] - 15)
        depth_m[top : top + 15, left : left + rng.integers(3, 12)] = rng.uniform(3, 40)
    return depth_m.astype(np.float32)


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values.ravel(), kind="stable"), kind="stable")


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 5), (60, 81)])
def test_without_error_it_is_normalised_inverse_depth(size):
    depth_m = street()[-size[0] :, : size[1]]
    result = simulated_relative_depth(depth_m, np.random.default_rng(0), strength=0)
    expected = normalise_tensor(torch.from_numpy(1 / depth_m)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result.dtype == np.float32


def test_numpy_and_torch_normalise_alike():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (2, 3), (31, 47)):
        raw = 5 * rng.standard_normal(size).astype(np.float32)
        expected = normalise_tensor(torch.from_numpy(raw)[None, None])[0, 0].numpy()
        np.testing.assert_allclose(normalise_relative(raw), expected, atol=1e-6)
        np.testing.assert_allclose(normalise_relative(normalise_relative(raw)), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (17, 16), (60, 81)])
@pytest.mark.parametrize("strength", [0.3, 1.0, None])
def test_any_map_gives_numbers_within_the_limits(size, strength):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        depth_m = rng.uniform(0.5, 90, size).astype(np.float32)
        depth_m[rng.random(size) < 0.2] = rng.choice([np.nan, np.inf, 65504.0, 0.0, -1.0])
        rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        result = simulated_relative_depth(depth_m, rng, rgb_HW3=rgb, strength=strength)
        assert result.shape == size
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert result.min() >= -0.5
        assert result.max() <= 1.5


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf, 65504.0])
def test_a_map_without_a_depth_is_zero(value):
    depth_m = np.full((5, 6), value, np.float32)
    assert not simulated_relative_depth(depth_m, np.random.default_rng(0), strength=1.0).any()


def test_it_depends_on_the_generator_alone():
    depth_m, rgb = street(), np.random.default_rng(3).random((60, 81, 3), np.float32)
    before = depth_m.copy()
    first, again, other = (
        simulated_relative_depth(depth_m, np.random.default_rng(seed), rgb_HW3=rgb) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    np.testing.assert_array_equal(depth_m, before)


def test_errors_grow_with_strength_and_order_survives_mild_ones():
    depth_m = street((120, 160))
    truth = simulated_relative_depth(depth_m, np.random.default_rng(0), strength=0)
    errors, correlations = [], []
    for strength in (0.15, 0.5, 1.0):
        results = [
            simulated_relative_depth(depth_m, np.random.default_rng(seed), strength=strength) for seed in range(12)
        ]
        errors.append(np.mean([np.abs(result - truth).mean() for result in results]))
        correlations.append(np.median([np.corrcoef(ranks(result), ranks(truth))[0, 1] for result in results]))
    assert 0 < errors[0] < errors[1] < errors[2] < 0.3
    assert correlations[0] > 0.97
    assert correlations[0] > correlations[1] > correlations[2] > 0.7


def test_sky_is_farthest_and_a_hole_takes_the_nearest_value():
    depth_m = np.array([[4.0, np.nan, 2.0, 65504.0, np.inf, -1.0]], np.float32)
    result = inverse_depth(depth_m)[0]
    np.testing.assert_array_equal(result[[0, 2, 3, 4, 5]], np.float32([0.25, 0.5, 0, 0, 0]))
    assert result[1] in (0.25, 0.5)


def test_bent_tones_keep_the_order_of_any_two_pixels():
    values = np.linspace(-0.5, 1.5, 997, dtype=np.float32).reshape(-1, 1)
    changes = []
    for seed in range(20):
        bent = bend_tones(values, 0.6, np.random.default_rng(seed))
        assert (np.diff(bent[:, 0]) > 0).all()
        np.testing.assert_allclose(bent[[0, -1]], values[[0, -1]], atol=1e-5)
        changes.append(np.abs(bent - values).max())
    assert max(changes) > 0.2
    np.testing.assert_allclose(bend_tones(values, 0.0, np.random.default_rng(0)), values, atol=1e-6)


def test_drift_is_of_low_frequency():
    flat = np.full((96, 128), 0.5, np.float32)
    for seed in range(10):
        error = drift(flat, 1.0, np.random.default_rng(seed)) - flat
        assert error.std() > 0.005
        assert np.abs(np.diff(error, axis=1)).max() < 0.1 * np.ptp(error)


def test_a_moved_region_ends_at_the_objects_outline(monkeypatch):
    """A box before a far wall: what moves the box leaves the wall beside it, and the other way round."""
    monkeypatch.setattr(module, "REGIONS", 1)
    relative = np.zeros((60, 80), np.float32)
    relative[20:40, 30:50] = 1.0
    moved = 0
    for seed in range(40):
        change = np.abs(move_regions(relative, module.REGION_SHIFT, np.random.default_rng(seed)) - relative)
        box, wall = change[relative == 1].max(), change[relative == 0].max()
        assert min(box, wall) < 1e-3
        moved += max(box, wall) > 0.002
    assert 10 < moved < 40


def test_thin_things_go_and_thick_ones_stay():
    relative = np.zeros((80, 100), np.float32)
    relative[:, 20:22] = 1.0  # a pole, two pixels wide
    relative[:, 50:90] = 0.8  # a wall
    remaining = []
    for seed in range(20):
        result = lose_thin_structures(relative, 9.0, np.random.default_rng(seed))
        np.testing.assert_array_equal(result[:, 55:85], relative[:, 55:85])
        remaining.append((result[:, 20:22] > 0.5).mean())
        assert set(np.unique(result)) <= set(np.unique(relative))
    assert min(remaining) < 0.7
    np.testing.assert_array_equal(lose_thin_structures(relative, 1.0, np.random.default_rng(0)), relative)


def test_soft_edges_change_only_what_is_near_an_edge():
    relative = np.zeros((64, 64), np.float32)
    relative[:, 32:] = 1.0
    softened = 0
    for seed in range(20):
        result = soften_edges(relative, 1.0, 1.0, np.random.default_rng(seed))
        np.testing.assert_allclose(result[:, :18], 0, atol=1e-3)
        np.testing.assert_allclose(result[:, 46:], 1, atol=1e-3)
        softened += ((result > 0.1) & (result < 0.9)).any(1).mean() > 0.9
    assert softened >= 18


def test_blur_grows_with_frames_larger_than_the_networks():
    relative = np.zeros((64, 128), np.float32)
    relative[:, 64:] = 1.0
    widths = []
    for pixel in (1.0, 4.0):
        results = [soften_edges(relative, 1.0, pixel, np.random.default_rng(seed)) for seed in range(5)]
        widths.append(np.mean([((r > 0.1) & (r < 0.9)).sum(1).mean() for r in results]))
    assert widths[1] > 2 * widths[0]


def test_texture_is_what_brightness_has_beyond_its_mean():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    detail = texture(rgb)
    grey = rgb @ np.array([0.299, 0.587, 0.114]) / 255
    assert abs(detail.mean()) < 0.02
    assert np.corrcoef(detail.ravel(), grey.ravel())[0, 1] > 0.9
    np.testing.assert_allclose(texture(np.full((20, 30, 3), 0.4, np.float32)), 0, atol=1e-6)
    np.testing.assert_allclose(texture(rgb.astype(np.float32) / 255), detail, atol=0.01)


def test_noise_has_unit_size():
    deviations = [smooth_noise((200, 300), 10, np.random.default_rng(seed)).std() for seed in range(5)]
    assert 0.5 < np.mean(deviations) < 1.3
