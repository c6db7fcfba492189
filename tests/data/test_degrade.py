"""The degradation laws against their own definition, and that each is a function of its seed."""

from __future__ import annotations

import numpy as np
import pytest

from depthsr.data.degrade import (
    AIS_CLIP_M,
    PROTOCOLS,
    add_noise,
    ais_levels,
    blur,
    clip_sky,
    degrade,
    degrade_ais,
    dequantise_ais,
    ground_truth,
    punch_holes,
    quantise,
)
from depthsr.data.random_degradation import MIXED, random_degradation
from depthsr.data.resample import centre_sample, resample, resample_masked, resample_matrix
from depthsr.types import UserError

#: What a matcher finds its matches in; of the other laws none looks at it.
PICTURE = np.random.default_rng(7).integers(0, 256, (192, 192, 3), np.uint8)


@pytest.fixture
def depth_m():
    """A 480×640 ramp with steps and sky, 2 to 250 m."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(250, 2, 480, dtype=np.float32)[:, None] + np.zeros((1, 640), np.float32)
    ramp[100:300, 200:400] = 5 + 0.1 * rng.random((200, 200), dtype=np.float32)
    ramp[:40] = np.inf
    return ramp


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_seed_decides_everything(depth_m, protocol):
    rgb = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    first, again, other = (degrade(depth_m, protocol, seed=seed, rgb_HW3=rgb) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.raw, again.raw)
    assert first.raw.dtype == first.depth_m.dtype == np.float32
    deterministic = protocol in ("gdsr-x4", "gdsr-x8", "gdsr-x16", "clean")
    assert np.array_equal(first.raw, other.raw, equal_nan=True) == deterministic


def test_ais_law(depth_m):
    """LR = max(0, q (1 + b n1) + a n2), q = floor(HR[4::8, 4::8] / 16): the noise has the stated mean and deviation."""
    quotient = np.floor(np.clip(depth_m[4::8, 4::8], 0, 65504) / 16)
    residuals = []
    for seed in range(40):
        levels = ais_levels(depth_m, np.random.default_rng(seed))
        assert levels.shape == (60, 80)
        assert levels.min() >= 0
        residuals.append(levels - quotient)
    residuals = np.stack(residuals)
    low = (quotient > 0) & (quotient < 2)
    assert abs(residuals[:, low].mean()) < 2e-3
    # level 1: sqrt(b² + a²) averaged over a in 0.016..0.037, b in 0.003..0.019
    rng = np.random.default_rng(0)
    expected = np.sqrt(np.mean(rng.uniform(0.016, 0.037, 10**5) ** 2 + rng.uniform(0.003, 0.019, 10**5) ** 2))
    assert residuals[:, low].std() == pytest.approx(expected, rel=0.1)
    sky = quotient == 4094
    assert residuals[:, sky].std() == pytest.approx(
        4094 * np.sqrt(np.mean(rng.uniform(0.003, 0.019, 10**5) ** 2)), rel=0.2
    )
    zero = quotient == 0
    assert 0.4 < (residuals[:, zero] == 0).mean() < 0.6  # half of the noise is cut off at 0


@pytest.mark.parametrize(("factor", "dropped_bits", "noise"), [(8, 4, 1.0), (4, 0, 0.5), (16, 6, 4.0), (3, 2, 0.0)])
def test_ais_law_with_other_numbers(depth_m, factor, dropped_bits, noise):
    """The formula written out, with the draws in their order: two uniform, then the two fields of normal numbers."""
    poor = degrade_ais(depth_m, seed=5, factor=factor, dropped_bits=dropped_bits, noise=noise)
    step_m = 2**dropped_bits
    rng = np.random.default_rng(5)
    a, b = rng.uniform(0.016, 0.037), rng.uniform(0.003, 0.019)
    rows, columns = ((np.arange(n // factor) + 0.5) * factor * n / (n // factor * factor) for n in depth_m.shape)
    sampled = np.clip(depth_m[rows.astype(int)[:, None], columns.astype(int)], 0, 65504)
    levels = np.floor(sampled / step_m)
    n1, n2 = (rng.standard_normal(levels.shape) for _ in range(2))
    expected = np.maximum(0, levels * (1 + noise * b * n1) + noise * a * n2)
    np.testing.assert_allclose(poor.raw, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(poor.depth_m, np.minimum(np.rint(expected) * step_m + step_m / 2, 300), rtol=1e-6)
    assert (poor.quantisation_step_m, poor.max_depth_m, poor.protocol) == (step_m, 300, "ais")


def test_the_challenges_own_numbers_are_the_default(depth_m):
    np.testing.assert_array_equal(
        degrade(depth_m, "ais", seed=2).raw, degrade_ais(depth_m, seed=2, factor=8, dropped_bits=4, noise=1).raw
    )


def test_clean_depth_loses_nothing_but_the_far_end(depth_m):
    depth_m[5, 5], depth_m[460, 3] = np.nan, 0
    poor = degrade(depth_m, "clean", seed=0)
    np.testing.assert_array_equal(poor.depth_m, clip_sky(depth_m))
    np.testing.assert_array_equal(poor.depth_m, ground_truth(depth_m, "clean"))
    assert (poor.quantisation_step_m, poor.max_depth_m) == (0, None)


def test_ais_dequantisation_is_within_half_a_level(depth_m):
    poor = degrade(depth_m, "ais", seed=0)
    exact = np.minimum(centre_sample(depth_m, (60, 80)), AIS_CLIP_M)
    near = exact < 100
    assert np.abs(poor.depth_m - exact)[near].max() <= 8 + 1e-4
    assert (poor.depth_m[np.isinf(depth_m[4::8, 4::8])] == AIS_CLIP_M).all()
    assert poor.quantisation_step_m == 16
    assert poor.max_depth_m == AIS_CLIP_M


def test_dequantise_marks_what_is_no_level():
    depth_m = dequantise_ais(np.array([[0.03, 1.02, np.nan, -1.0, 4094.0]]))
    np.testing.assert_array_equal(depth_m, np.array([[8, 24, np.nan, np.nan, 300]], np.float32))


def test_ground_truth_scores_the_sky_where_the_protocol_does(depth_m):
    assert (ground_truth(depth_m, "ais")[:40] == AIS_CLIP_M).all()
    assert np.isnan(ground_truth(depth_m, "tof")[:40]).all()
    depth_m[5, 5], depth_m[6, 6], depth_m[7, 7] = np.nan, 0, 65504
    assert np.isnan(ground_truth(depth_m, "ais")[[5, 6], [5, 6]]).all()
    assert ground_truth(depth_m, "gdsr-x8")[7, 7] == AIS_CLIP_M


def test_points_and_lidar_are_sparse_within_their_reach(depth_m):
    """Of depths of which many lie beyond 80 m, where nothing is measured or scored."""
    depth_m[200:] = np.random.default_rng(0).uniform(2, 158, depth_m[200:].shape)
    beyond = np.isinf(depth_m) | (depth_m > 80)
    of_all = {"points": 500 / (640 * 480), "lidar": np.mean(~beyond) / 15 / 2}
    for protocol, noise in (("points", 0), ("lidar", 0.003)):
        np.testing.assert_array_equal(ground_truth(depth_m, protocol), np.where(beyond, np.nan, depth_m))
        poor_m = degrade(depth_m, protocol, seed=0).depth_m
        valid = np.isfinite(poor_m)
        assert not (valid & beyond).any()
        assert valid.mean() == pytest.approx(of_all[protocol], rel=0.2)
        error = poor_m[valid] / depth_m[valid] - 1
        assert error.std() == pytest.approx(noise, rel=0.1)


def test_gdsr_of_a_plane_is_that_plane():
    """Bicubic keeps linear functions (away from the border, where the kernel is cut)."""
    rows, columns = np.mgrid[:128, :160].astype(np.float32) + 0.5
    plane = 20 + 0.3 * rows + 0.1 * columns
    low = degrade(plane, "gdsr-x8", seed=0).depth_m
    low_rows, low_columns = (np.mgrid[:16, :20].astype(np.float32) + 0.5) * 8
    inner = slice(2, -2)
    np.testing.assert_allclose(low[inner, inner], (20 + 0.3 * low_rows + 0.1 * low_columns)[inner, inner], rtol=1e-4)


def test_noise_is_a_share_of_the_depth():
    depth_m = np.full((400, 400), 50, np.float32)
    noisy = add_noise(depth_m, 0.02, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(50, rel=1e-3)
    assert noisy.std() == pytest.approx(1.0, rel=0.02)
    assert add_noise(depth_m, 5.0, np.random.default_rng(0)).min() > 0


def test_tof_has_no_sky_some_holes_and_noise_of_its_law(depth_m):
    poor = degrade(depth_m, "tof", seed=0)
    assert np.isnan(poor.depth_m[:9]).all()
    holes = np.isnan(poor.depth_m[11:]).mean()
    assert 0.02 < holes < 0.15
    flat = np.full((480, 640), 3.0, np.float32)
    noise = degrade(flat, "tof", seed=0).depth_m - 3
    assert np.nanstd(noise) == pytest.approx(3 * 0.01 * 3, rel=0.05)  # all of it is the far end: three times 1 %
    np.testing.assert_allclose(np.nan_to_num(noise * 1000), np.rint(np.nan_to_num(noise * 1000)), atol=1e-2)


def test_quantise_reads_the_middle_of_the_level():
    depth_m = np.random.default_rng(0).uniform(0, 10, 1000).astype(np.float32)
    levels = quantise(depth_m, 0.5)
    assert np.abs(levels - depth_m).max() <= 0.25 + 1e-5
    assert len(np.unique(levels)) == 20


def test_blur_is_a_mean_of_what_is_valid():
    rng = np.random.default_rng(0)
    flat = np.full((20, 30), 7.0, np.float32)
    flat[rng.random(flat.shape) < 0.3] = np.nan
    np.testing.assert_allclose(blur(flat, 0.7), flat, rtol=1e-5)
    # Away from the border white noise keeps of its variance the sum of the squared kernel, 1 / (4 π σ²) for a wide one.
    noise = rng.standard_normal((200, 200)).astype(np.float32) + 10
    assert blur(noise, 2.0)[10:-10, 10:-10].var() == pytest.approx(1 / (16 * np.pi), rel=0.1)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_holes_cover_their_share(share):
    holed = punch_holes(np.ones((60, 80), np.float32), share, np.random.default_rng(0))
    assert np.isnan(holed).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "box"])
@pytest.mark.parametrize(("source", "target"), [(640, 80), (7, 5), (5, 13), (1, 4), (9, 1), (481, 60)])
def test_resampling_keeps_constants(kernel, source, target):
    np.testing.assert_allclose(resample_matrix(source, target, kernel).sum(1), 1, rtol=1e-5)


def test_box_is_the_block_mean():
    image = np.random.default_rng(0).random((24, 32)).astype(np.float32)
    np.testing.assert_allclose(resample(image, (6, 8), "box"), image.reshape(6, 4, 8, 4).mean((1, 3)), rtol=1e-5)


def test_bicubic_is_pillows():
    image_module = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).random((37, 53)).astype(np.float32)
    expected = np.asarray(image_module.fromarray(image).resize((11, 9), image_module.Resampling.BICUBIC))
    np.testing.assert_allclose(resample(image, (9, 11), "bicubic"), expected, atol=1e-5)


def test_masked_resampling_never_mixes_in_what_is_missing():
    image = np.full((16, 16), 4.0, np.float32)
    image[:, 9:] = np.nan
    low = resample_masked(image, (4, 4), "box")
    np.testing.assert_allclose(low[:, :2], 4)
    assert np.isnan(low[:, 2:]).all()


def test_centre_sample_is_the_challenges():
    image = np.random.default_rng(0).random((48, 64))
    np.testing.assert_array_equal(centre_sample(image, (6, 8)), image[4::8, 4::8])


def test_user_mistakes(depth_m):
    with pytest.raises(UserError, match=r"gdsr-x5.*choose one of ais"):
        degrade(depth_m, "gdsr-x5", seed=0)
    with pytest.raises(UserError, match=r"6x4 is too small"):
        degrade(np.ones((4, 6)), "ais", seed=0)


@pytest.mark.parametrize("recipe", ["ais", "mixed"])
def test_training_degradations_hold_what_they_promise(depth_m, recipe):
    kinds = set()
    for seed in range(60):
        poor, target_m = random_degradation(PICTURE, depth_m[:192, 200:392], recipe, np.random.default_rng(seed))
        kinds.add(poor.protocol)
        assert poor.depth_m.dtype == target_m.dtype == np.float32
        assert target_m.shape == (192, 192)
        measured = poor.depth_m[np.isfinite(poor.depth_m)]
        assert measured.size
        assert measured.min() > 0
        assert np.nanmax(target_m) <= AIS_CLIP_M or poor.protocol != "ais"
        if poor.protocol == "clean":
            np.testing.assert_array_equal(poor.depth_m, target_m)
    assert kinds == ({"ais"} if recipe == "ais" else set(MIXED))


def test_some_of_what_is_resampled_or_left_alone_is_disparity(depth_m):
    turned = {kind: [] for kind in MIXED}
    for seed in range(400):
        poor, target_m = random_degradation(PICTURE, depth_m[:192, 200:392], "mixed", np.random.default_rng(seed))
        known = np.isfinite(target_m) & (target_m < np.nanmax(target_m))
        turned[poor.protocol].append(np.corrcoef(target_m[known], depth_m[:192, 200:392][known])[0, 1] < -0.2)
    for kind, found in turned.items():
        share = np.mean(found)
        assert 0.05 < share < 0.3 if kind in ("classical", "clean") else share == 0, (kind, share)


def test_a_pair_of_cameras_sees_the_whole_rows_and_nothing_else_does(depth_m):
    depth_m, wanted = depth_m[:96, 150:342], slice(60, 140)
    of_pairs = set()
    for seed in range(80):

        def drawn(columns_seen=slice(None), columns=slice(None), seed=seed):
            picture, seen_m = PICTURE[:96, columns_seen], depth_m[:, columns_seen]
            return random_degradation(picture, seen_m, "mixed", np.random.default_rng(seed), 250.0, columns)

        poor, target_m = drawn(columns=wanted)
        if poor.protocol in ("stereo", "matched"):
            of_all, target_of_all_m = drawn()
            np.testing.assert_array_equal(target_m, target_of_all_m[:, wanted])
            if poor.depth_m.shape == target_m.shape:
                np.testing.assert_array_equal(poor.depth_m, of_all.depth_m[:, wanted])
                of_pairs.add(poor.protocol)
        else:
            of_cut, target_of_cut_m = drawn(columns_seen=wanted)
            np.testing.assert_array_equal(poor.depth_m, of_cut.depth_m)
            np.testing.assert_array_equal(target_m, target_of_cut_m)
    assert of_pairs == {"stereo", "matched"}


def test_mixed_training_varies_the_challenge_law_and_ais_does_not(depth_m):
    laws = {"ais": set(), "mixed": set()}
    for recipe, seen in laws.items():
        for seed in range(160):
            poor, target_m = random_degradation(PICTURE, depth_m[:192, 200:392], recipe, np.random.default_rng(seed))
            if poor.protocol == "ais":
                seen.add((target_m.shape[0] // poor.depth_m.shape[0], poor.quantisation_step_m))
                # Without noise a level's middle is within half a step of the sampled depth; noise moves levels.
                sampled_m = centre_sample(target_m, poor.depth_m.shape)
                assert np.median(np.abs(poor.depth_m - sampled_m)) <= max(poor.quantisation_step_m, 8)
    assert laws["ais"] == {(8, 16.0)}
    assert len(laws["mixed"]) > 8
    assert (8, 16.0) in laws["mixed"]


def test_the_challenge_law_enlarges_a_room_and_no_frame_that_reaches_far():
    crop_m = np.random.default_rng(0).uniform(1, 6, (64, 64)).astype(np.float32)
    reaches_m = {None: [], 12.0: [], 40.0: []}
    for farthest_m, found in reaches_m.items():
        for seed in range(100):
            _, target_m = random_degradation(PICTURE[:64, :64], crop_m, "ais", np.random.default_rng(seed), farthest_m)
            factor = target_m / crop_m
            unclipped = target_m < AIS_CLIP_M
            np.testing.assert_allclose(factor[unclipped], factor[unclipped][0], rtol=1e-5)
            found.append((crop_m.max() if farthest_m is None else farthest_m) * factor[unclipped][0])
    for farthest_m in (None, 12.0):  # of the whole frame, of which the crop is the nearer half
        assert 32 <= min(reaches_m[farthest_m]) < 40
        assert 200 < max(reaches_m[farthest_m]) <= AIS_CLIP_M * 1.00001
    assert 40 * np.exp(-0.7) <= min(reaches_m[40.0])
    assert max(reaches_m[40.0]) <= 40 * np.exp(0.7) + 1e-3


def test_a_frame_of_nothing_but_sky_is_not_enlarged():
    sky = np.full((32, 32), np.inf, np.float32)
    _, target_m = random_degradation(PICTURE[:32, :32], sky, "ais", np.random.default_rng(0))
    np.testing.assert_array_equal(target_m, AIS_CLIP_M)
