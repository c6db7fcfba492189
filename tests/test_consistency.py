"""Consistency with the measurement: the minimum it claims to be, met measurements, truth never farther than before."""

from __future__ import annotations

import numpy as np
import pytest

import depthsr
from depthsr import consistency
from depthsr.consistency import consistent_with
from depthsr.data.resample import KERNELS, resample, resample_matrix
from depthsr.infer import Predictor
from depthsr.types import UserError

#: H×W and h×w: odd, by factors that are no whole numbers, of unlike factors, and not smaller at all.
SIZES = [((24, 40), (6, 5)), ((37, 21), (7, 9)), ((13, 17), (13, 17)), ((16, 12), (1, 3))]


def random_case(size, low_size, downsampling, seed=0):
    """Truth, its exact measurement, an estimate that is off in its lower part, and the error expected of it: H×W."""
    rng = np.random.default_rng(seed)
    truth_m = rng.uniform(1, 9, size).astype(np.float32)
    wrong = np.arange(size[0])[:, None] >= size[0] * 0.6
    depth_m = np.where(wrong, truth_m * rng.uniform(0.8, 1.3, size), truth_m).astype(np.float32)
    error_m = rng.uniform(0.05, 2, size).astype(np.float32)
    return truth_m, resample(truth_m, low_size, downsampling), depth_m, error_m


@pytest.mark.parametrize("downsampling", KERNELS)
@pytest.mark.parametrize(("size", "low_size"), SIZES)
@pytest.mark.parametrize("noise_share", [0.0, 0.05])
def test_it_is_the_minimum(size, low_size, downsampling, noise_share, monkeypatch):
    """Against the dense solution of the normal equations in float64, with holes in the measurement."""
    monkeypatch.setattr(consistency, "STEPS", 4 * low_size[0] * low_size[1])
    monkeypatch.setattr(consistency, "_noise_share", lambda residual_m, measured_m: noise_share)
    _, measured_m, depth_m, error_m = random_case(size, low_size, downsampling)
    measured_m = measured_m + np.float32(0.3)
    measured_m[-1, -1] = np.nan
    down = np.kron(
        *(resample_matrix(*pair, downsampling).astype(np.float64) for pair in zip(size, low_size, strict=True))
    )
    valid = np.isfinite(measured_m).ravel()
    down, measured = down[valid], measured_m.ravel()[valid].astype(np.float64)
    weight = error_m.ravel().astype(np.float64) ** 1.5
    variance = (noise_share * measured) ** 1.5
    residual = measured - down @ depth_m.ravel()
    correction = weight * (down.T @ np.linalg.solve(down * weight @ down.T + np.diag(variance), residual))
    found_m = consistent_with(measured_m, depth_m, error_m, downsampling)
    assert found_m.dtype == np.float32
    np.testing.assert_allclose(found_m - depth_m, correction.reshape(size), rtol=2e-3, atol=2e-3)
    assert np.abs(correction).max() > 0.05


@pytest.mark.parametrize("downsampling", KERNELS)
@pytest.mark.parametrize(("size", "low_size"), SIZES[:3])
def test_an_exact_measurement_is_met_and_the_truth_comes_no_less_near(size, low_size, downsampling, monkeypatch):
    """Pythagoras: what is least in Σ c²/w among the maps that agree with y is nearer to each of them, the truth too."""
    monkeypatch.setattr(consistency, "STEPS", 60)
    truth_m, measured_m, depth_m, error_m = random_case(size, low_size, downsampling)
    for error in (None, error_m):
        found_m = consistent_with(measured_m, depth_m, error, downsampling)
        np.testing.assert_allclose(resample(found_m, low_size, downsampling), measured_m, rtol=1e-3)
        weight = 1.0 if error is None else error**consistency.POWER
        before, after = (((m - truth_m) ** 2 / weight).sum() for m in (depth_m, found_m))
        assert after < before


def test_what_agrees_is_left_alone():
    truth_m, measured_m, _, error_m = random_case((24, 40), (6, 5), "bicubic")
    np.testing.assert_allclose(consistent_with(measured_m, truth_m, error_m, "bicubic"), truth_m, rtol=1e-5)


@pytest.mark.parametrize("expected_error", [None, 0])
def test_what_agrees_exactly_is_left_alone_whatever_error_is_expected(expected_error):
    measured_m = np.random.default_rng(0).integers(1, 9, (6, 5)).astype(np.float32)
    depth_m = measured_m.repeat(4, 0).repeat(8, 1)  # means of equal whole numbers, without rounding
    error_m = None if expected_error is None else np.full_like(depth_m, expected_error)
    np.testing.assert_array_equal(consistent_with(measured_m, depth_m, error_m, "box"), depth_m)
    met = resample(consistent_with(measured_m, depth_m * 1.01, error_m, "box"), (6, 5), "box")
    assert np.isfinite(met).all()


def test_noise_is_told_from_error():
    """Of a measurement that is noise and nothing else, hardly any of the noise gets into a perfect estimate."""
    truth_m, measured_m, _, _ = random_case((240, 320), (60, 80), "box")
    noisy_m = (measured_m * (1 + 0.02 * np.random.default_rng(1).standard_normal((60, 80)))).astype(np.float32)
    noise_m = np.abs(noisy_m - measured_m).mean()
    kept = consistent_with(noisy_m, truth_m, np.full_like(truth_m, 0.01), "box")
    assert np.abs(resample(kept, (60, 80), "box") - measured_m).mean() < 0.05 * noise_m
    # Where the estimate is far off, a noisy measurement is still the better witness.
    lower = np.arange(240)[:, None].repeat(320, 1) >= 160
    followed = consistent_with(noisy_m, truth_m + 3 * lower, np.where(lower, 3, 0.01).astype(np.float32), "box")
    left_m = np.abs(resample(followed, (60, 80), "box") - measured_m)
    assert left_m[40:].mean() < 0.2 * 3
    assert left_m[:40].mean() < 0.05 * noise_m


def test_pixels_without_a_measurement_change_nothing_elsewhere():
    _, measured_m, depth_m, error_m = random_case((24, 40), (6, 5), "box")
    holes_m = measured_m.copy()
    holes_m[:2] = np.nan
    found_m = consistent_with(holes_m, depth_m, error_m, "box")
    np.testing.assert_array_equal(found_m[:8], depth_m[:8])
    assert np.abs(found_m[8:] - depth_m[8:]).max() > 0.1


class Estimate:
    """A restorer that gives the same map whatever it is given, and its error."""

    takes_relative = False
    is_network = False

    def __init__(self, depth_m, error_m):
        self.restored = depth_m, error_m

    def __call__(self, *frame):
        return self.restored


@pytest.mark.parametrize("known_error", [True, False])
def test_the_predictor_applies_it_within_the_measured_range(known_error):
    _, measured_m, depth_m, error_m = random_case((24, 40), (6, 5), "bicubic")
    error_m = error_m if known_error else None
    predictor = Predictor("estimate", Estimate(depth_m, error_m))
    rgb = np.zeros((24, 40, 3), np.uint8)
    free_m = consistent_with(measured_m, depth_m, error_m, "bicubic")
    limits_m = 0.5 * measured_m.min(), 1.05 * measured_m.max()
    assert free_m.max() > limits_m[1]
    found = predictor(rgb, measured_m, downsampling="bicubic")
    np.testing.assert_allclose(found.depth_m, np.clip(free_m, *limits_m), rtol=1e-6)
    np.testing.assert_array_equal(predictor(rgb, measured_m).depth_m, np.maximum(depth_m, limits_m[0]))
    range_m = 0.96 * measured_m.max()
    known = predictor(rgb, measured_m, downsampling="bicubic", max_depth_m=range_m)
    np.testing.assert_allclose(known.depth_m, np.clip(free_m, limits_m[0], range_m), rtol=1e-6)
    for one in (*predictor.batch([(rgb, measured_m)], downsampling="bicubic"),
                *predictor.stream([(rgb, measured_m)], downsampling="bicubic")):  # fmt: skip
        np.testing.assert_array_equal(one.depth_m, found.depth_m)


def test_mistakes():
    rgb, depth_m = np.zeros((4, 4, 3), np.uint8), np.ones((2, 2))
    with pytest.raises(UserError, match="downsampling 'lanczos' is unknown; choose one of bicubic, bilinear, box"):
        depthsr.load("bilinear")(rgb, depth_m, downsampling="lanczos")
    with pytest.raises(UserError, match="the challenge keeps single pixels"):
        depthsr.load("bilinear")(rgb, depth_m, protocol="ais", downsampling="box")
