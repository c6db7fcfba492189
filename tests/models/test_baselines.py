"""Classical baselines against brute force, against theorems and, where it is installed, against cv2.ximgproc."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depthsr.data.degrade import PROTOCOLS
from depthsr.models.baselines import BASELINES, EDGE_AWARE
from depthsr.models.baselines.fast_global_smoother import fast_global_smoother, smooth
from depthsr.models.baselines.guided_filter import guided_filter, linear_coefficients, window_coefficients
from depthsr.models.baselines.joint_bilateral import joint_bilateral
from depthsr.models.baselines.resample import (
    bicubic,
    bilinear,
    fill_from_behind,
    fill_from_nearest,
    median_of_measured,
    nearest,
)
from depthsr.models.baselines.settings import SETTINGS, settings_for

# cv2.ximgproc comes with opencv-contrib-python only, which this package does not depend on
needs_ximgproc = pytest.mark.skipif(not hasattr(cv2, "ximgproc"), reason="cv2.ximgproc is not installed")
SIZES = [((63, 65), (7, 5)), ((48, 64), (6, 8)), ((33, 40), (33, 40)), ((50, 31), (17, 31)), ((9, 11), (1, 1))]


def random_pair(
    size: tuple[int, int], low_size: tuple[int, int], seed: int = 0, smooth_px: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rgb = cv2.GaussianBlur(rng.random((*size, 3), dtype=np.float32), (0, 0), smooth_px)
    rgb = (rgb - rgb.min()) / (rgb.max() - rgb.min())
    return rgb, rng.uniform(0.5, 60, low_size).astype(np.float32)


def with_holes(depth_m_hw: np.ndarray, share: float = 0.3, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    holed = depth_m_hw.copy()
    hole = rng.random(depth_m_hw.shape) < share
    hole.flat[0] = False
    holed[hole] = rng.choice([np.nan, np.inf, 0.0, -3.0], hole.sum())
    return holed


# --- every baseline ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("size", "low_size"), SIZES)
def test_finite_within_the_measured_range(name: str, size: tuple[int, int], low_size: tuple[int, int]) -> None:
    rgb, depth_m = random_pair(size, low_size)
    holed = with_holes(depth_m)
    measured = holed[np.isfinite(holed) & (holed > 0)]
    result = BASELINES[name](rgb, holed)
    assert result.shape == size
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert result.min() >= measured.min() * (1 - 1e-5)
    assert result.max() <= measured.max() * (1 + 1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_a_constant_stays(name: str) -> None:
    rgb, depth_m = random_pair((40, 56), (5, 7))
    result = BASELINES[name](rgb, with_holes(np.full_like(depth_m, 7.25)))
    np.testing.assert_allclose(result, 7.25, rtol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("factor", [1e-3, 1000.0])
def test_other_units_give_the_same_depth(name: str, factor: float) -> None:
    rgb, depth_m = random_pair((45, 56), (9, 7))
    holed = with_holes(depth_m)
    np.testing.assert_allclose(
        BASELINES[name](rgb, holed * np.float32(factor)), factor * BASELINES[name](rgb, holed), rtol=2e-4
    )


@pytest.mark.parametrize("name", BASELINES)
def test_layout_and_dtype_of_the_input_do_not_matter(name: str) -> None:
    rgb, depth_m = random_pair((40, 56), (5, 7))
    flipped = BASELINES[name](rgb[:, ::-1], depth_m[:, ::-1])
    np.testing.assert_array_equal(flipped, BASELINES[name](rgb[:, ::-1].copy(), depth_m[:, ::-1].copy()))
    in_double = BASELINES[name](rgb.astype(np.float64), depth_m.astype(np.float64))
    np.testing.assert_allclose(in_double, BASELINES[name](rgb, depth_m), rtol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_the_input_is_left_alone(name: str) -> None:
    rgb, depth_m = random_pair((40, 56), (5, 7))
    depth_m = with_holes(depth_m)
    before = rgb.copy(), depth_m.copy()
    BASELINES[name](rgb, depth_m)
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(depth_m, before[1])


@pytest.mark.parametrize("name", BASELINES)
def test_one_measurement_is_spread_and_none_is_refused(name: str) -> None:
    rgb, depth_m = random_pair((24, 32), (6, 8))
    depth_m[:] = np.nan
    depth_m[2, 3] = 3.5
    np.testing.assert_allclose(BASELINES[name](rgb, depth_m), 3.5, rtol=1e-5)
    depth_m[2, 3] = 0
    with pytest.raises(ValueError, match="no measurement"):
        BASELINES[name](rgb, depth_m)


@pytest.mark.parametrize("name", EDGE_AWARE)
def test_edge_aware_baselines_follow_the_rgb(name: str) -> None:
    """Two flat surfaces of two colours, their border between measurements: half of bilinear's error at most."""
    border = 37
    rgb = np.full((64, 80, 3), 0.2, np.float32)
    rgb[:, border:] = (0.7, 0.6, 0.8)
    rgb += np.random.default_rng(2).normal(0, 0.005, rgb.shape).astype(np.float32)
    truth = np.full((64, 80), 4.0, np.float32)
    truth[:, border:] = 9.0
    low = truth[4::8, 4::8]
    error = np.sqrt(np.mean((BASELINES[name](rgb, low, "ais") - truth) ** 2))
    assert error < 0.5 * np.sqrt(np.mean((bilinear(rgb, low) - truth) ** 2))


# --- settings ----------------------------------------------------------------------------------------------------


def test_settings_for_every_protocol() -> None:
    assert set(SETTINGS) == set(EDGE_AWARE)
    rgb, depth_m = random_pair((32, 48), (4, 6))
    for name, method in EDGE_AWARE.items():
        assert set(SETTINGS[name]) == set(PROTOCOLS) - {"clean"}
        for protocol in SETTINGS[name]:
            expected = method(rgb, depth_m, **SETTINGS[name][protocol])
            np.testing.assert_array_equal(BASELINES[name](rgb, depth_m, protocol), expected)


def test_settings_of_an_unknown_degradation_go_by_scale() -> None:
    for scale, factor in ((1, 4), (5, 4), (6, 8), (8, 8), (11, 8), (12, 16), (40, 16)):
        for protocol in (None, "clean"):
            expected = SETTINGS["joint_bilateral"][f"gdsr-x{factor}-noisy"]
            assert settings_for("joint_bilateral", protocol, scale) is expected


# --- interpolation -----------------------------------------------------------------------------------------------


def test_holes_take_the_nearest_measurement() -> None:
    _, depth_m = random_pair((1, 1), (19, 23))
    holed = with_holes(depth_m, share=0.8)
    valid = np.isfinite(holed) & (holed > 0)
    filled = fill_from_nearest(holed)
    np.testing.assert_array_equal(filled[valid], depth_m[valid])
    measured_at = np.argwhere(valid)
    for y, x in np.argwhere(~valid):
        distance = np.hypot(*(measured_at - (y, x)).T)
        # OpenCV's 5×5 distance is an approximation: within a few per cent of the exact nearest
        close = measured_at[distance <= distance.min() * 1.05]
        assert filled[y, x] in depth_m[tuple(close.T)]


@pytest.mark.parametrize(("size", "low_size"), SIZES)
def test_interpolation_equals_opencv(size: tuple[int, int], low_size: tuple[int, int]) -> None:
    rgb, depth_m = random_pair(size, low_size)
    np.testing.assert_allclose(
        bilinear(rgb, depth_m), cv2.resize(depth_m, size[::-1], interpolation=cv2.INTER_LINEAR), rtol=1e-5
    )
    np.testing.assert_array_equal(
        nearest(rgb, depth_m), cv2.resize(depth_m, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    )


def test_bicubic_reproduces_quadratics() -> None:
    """Keys 1981: cubic convolution with a = -1/2 is exact for polynomials up to degree two (away from the border)."""
    y, x = np.meshgrid((np.arange(12) + 0.5) / 12, (np.arange(16) + 0.5) / 16, indexing="ij")
    fine_y, fine_x = np.meshgrid((np.arange(84) + 0.5) / 84, (np.arange(80) + 0.5) / 80, indexing="ij")

    def quadratic(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return 3 + 2 * y - x + 4 * y * x + 5 * y**2 - 2 * x**2

    result = bicubic(np.zeros((84, 80, 3), np.float32), quadratic(y, x).astype(np.float32))
    inside = slice(14, -14), slice(10, -10)
    np.testing.assert_allclose(result[inside], quadratic(fine_y, fine_x)[inside], rtol=1e-5)


@pytest.mark.parametrize("size", [(19, 23), (1, 7), (5, 1), (2, 2)])
def test_median_equals_numpys_over_what_was_measured(size: tuple[int, int]) -> None:
    _, depth_m = random_pair((1, 1), size)
    holed = with_holes(depth_m, share=0.4)
    median = median_of_measured(holed)
    for y, x in np.ndindex(size):
        if not (np.isfinite(holed[y, x]) and holed[y, x] > 0):
            assert np.isnan(median[y, x])
            continue
        window = holed[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert median[y, x] == pytest.approx(np.median(window[np.isfinite(window) & (window > 0)]), rel=1e-6)


@pytest.mark.parametrize("name", ["bilinear", "joint_bilateral"])
def test_a_wild_pixel_is_gone_after_the_median(name: str) -> None:
    rgb, _ = random_pair((40, 56), (5, 7))
    depth_m = np.full((5, 7), 3.0, np.float32)
    depth_m[2, 4] = 80.0
    np.testing.assert_allclose(BASELINES[f"median_{name}"](rgb, depth_m, "ais"), 3.0, rtol=1e-6)
    assert BASELINES[name](rgb, depth_m, "ais").max() > 20


# --- guided filter -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", ["mean", "centre"])
def test_guided_filter_recovers_an_affine_function_of_the_colour(guide: str) -> None:
    """Where depth is affine in the guide, the local fit is exact, at the full resolution too."""
    rgb, _ = random_pair((64, 96), (8, 12))
    truth = 5 + rgb @ np.array([2.0, -1.0, 3.0], np.float32)
    low = cv2.resize(truth, (12, 8), interpolation=cv2.INTER_AREA) if guide == "mean" else truth[4::8, 4::8]
    result = guided_filter(rgb, low, radius_px=2, eps=1e-12, guide=guide)
    within = (truth > low.min()) & (truth < low.max())
    assert within.mean() > 0.5
    np.testing.assert_allclose(result[within], truth[within], rtol=1e-3)


def test_coefficients_minimise_the_cost_of_each_window() -> None:
    """Ridge regression of the source on the guide in the window (equation 11), by its normal equations."""
    rgb, source = random_pair((9, 11), (9, 11))
    eps, radius = 1e-2, 4
    window = slice(0, 9), slice(1, 10)  # the one of the pixel in the middle, (4, 5)
    colours, values = rgb[window].reshape(-1, 3).astype(np.float64), source[window].ravel().astype(np.float64)
    centred = colours - colours.mean(0)
    a = np.linalg.solve(centred.T @ centred / 81 + eps * np.eye(3), centred.T @ (values - values.mean()) / 81)
    b = values.mean() - a @ colours.mean(0)
    all_a, all_b = window_coefficients(rgb, source, radius, eps)
    np.testing.assert_allclose(all_a[4, 5], a, rtol=1e-6)
    np.testing.assert_allclose(all_b[4, 5], b, rtol=1e-6)


@needs_ximgproc
@pytest.mark.parametrize(("radius", "eps"), [(2, 1e-3), (8, 1e-2)])
def test_guided_filter_equals_ximgproc(radius: int, eps: float) -> None:
    rgb, source = random_pair((63, 65), (63, 65))
    a, b = linear_coefficients(rgb, source, radius, eps)
    # in [0, 255], because OpenCV clamps the determinants of small numbers
    expected = cv2.ximgproc.guidedFilter(255 * rgb, source, radius, 255**2 * eps)
    np.testing.assert_allclose((a * rgb).sum(-1) + b, expected, rtol=1e-4, atol=1e-3)


# --- joint bilateral ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", ["mean", "centre"])
@pytest.mark.parametrize(("size", "low_size"), [((24, 32), (6, 8)), ((21, 13), (5, 4))])
def test_joint_bilateral_equals_its_formula(size: tuple[int, int], low_size: tuple[int, int], guide: str) -> None:
    rgb, depth_m = random_pair(size, low_size)
    holed = with_holes(depth_m, share=0.15)
    sigma_colour, sigma_space = 60.0, 0.7
    result = joint_bilateral(rgb, holed, sigma_colour=sigma_colour, sigma_space_px=sigma_space, guide=guide)
    small = cv2.resize(rgb, low_size[::-1], interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(3)
    for y, x in zip(rng.integers(0, size[0], 60), rng.integers(0, size[1], 60), strict=True):
        at_y, at_x = (y + 0.5) * low_size[0] / size[0] - 0.5, (x + 0.5) * low_size[1] / size[1] - 0.5
        total = weights = 0.0
        for i in range(low_size[0]):
            for j in range(low_size[1]):
                if abs(i - np.floor(at_y + 0.5)) > 2 or abs(j - np.floor(at_x + 0.5)) > 2:
                    continue
                if not (np.isfinite(holed[i, j]) and holed[i, j] > 0):
                    continue
                centre = int((i + 0.5) * size[0] / low_size[0]), int((j + 0.5) * size[1] / low_size[1])
                colour = small[i, j] if guide == "mean" else rgb[centre]
                difference = 255 * np.abs(rgb[y, x].astype(float) - colour).sum()
                weight = np.exp(-0.5 * ((i - at_y) ** 2 + (j - at_x) ** 2) / sigma_space**2) * (
                    np.exp(-0.5 * (difference / sigma_colour) ** 2) + 1e-6
                )
                total += weight * holed[i, j]
                weights += weight
        assert result[y, x] == pytest.approx(total / weights, rel=2e-3)


@needs_ximgproc
def test_joint_bilateral_equals_ximgproc_at_scale_one() -> None:
    rgb, source = random_pair((63, 65), (63, 65))
    expected = cv2.ximgproc.jointBilateralFilter(255 * rgb, source, 25, 40.0, 2.0)
    result = joint_bilateral(rgb, source, sigma_colour=40.0, sigma_space_px=2.0)
    inside = slice(12, -12), slice(12, -12)
    # the window is wider there, a disc of radius 12: what lies beyond 2.5 sigma makes the difference
    np.testing.assert_allclose(result[inside], expected[inside], rtol=0.01)
    assert np.abs(result[inside] - expected[inside]).mean() < 1e-3 * source.mean()


# --- fast global smoother ----------------------------------------------------------------------------------------


def dense_line_solution(values: np.ndarray, guide: np.ndarray, smoothness: float, sigma_colour: float) -> np.ndarray:
    n = len(values)
    matrix = np.eye(n)
    for i in range(n - 1):
        weight = smoothness * np.exp(-np.linalg.norm(guide[i] - guide[i + 1]) / sigma_colour)
        matrix[[i, i + 1], [i, i + 1]] += weight
        matrix[[i, i + 1], [i + 1, i]] -= weight
    return np.linalg.solve(matrix, values)


def test_smoother_solves_its_linear_systems() -> None:
    rgb, source = random_pair((7, 9), (7, 9))
    guide = rgb * 255
    expected = source.astype(np.float64)
    for smoothness in (1.5 * 16 / 63 * 50, 1.5 * 4 / 63 * 50, 1.5 * 1 / 63 * 50):
        for y in range(7):
            expected[y] = dense_line_solution(expected[y], guide[y].astype(float), smoothness, 30.0)
        for x in range(9):
            expected[:, x] = dense_line_solution(expected[:, x], guide[:, x].astype(float), smoothness, 30.0)
    np.testing.assert_allclose(smooth(guide, source[None], 50.0, 30.0)[0], expected, rtol=1e-9)


def test_smoother_keeps_the_mean_and_without_smoothness_everything() -> None:
    """(I + λA)^-1 has rows and columns that sum to one, A being a graph Laplacian."""
    rgb, source = random_pair((20, 30), (20, 30))
    result = smooth(rgb * 255, source[None], 500.0, 10.0)[0]
    assert result.mean() == pytest.approx(source.mean(dtype=np.float64), rel=1e-9)
    assert result.std() < 0.9 * source.std()
    np.testing.assert_allclose(smooth(rgb * 255, source[None], 0.0, 10.0)[0], source, rtol=1e-12)


def test_measurements_closed_in_by_edges_stay_apart() -> None:
    """A black and a white half: whatever lies in one never shows in the other."""
    rgb = np.zeros((16, 24, 3), np.float32)
    rgb[:, 12:] = 1
    depth_m = np.array([[2.0, 3.0, 50.0]], np.float32).repeat(2, 0)
    result = fast_global_smoother(rgb, depth_m, smoothness=1000, sigma_colour=3)
    assert result[:, :12].max() < 3.001
    assert result[:, 12:].min() > 3.0


@needs_ximgproc
def test_smoother_equals_ximgproc() -> None:
    rgb, source = random_pair((63, 65), (63, 65))
    guide = np.rint(rgb * 255).astype(np.uint8)
    # OpenCV starts at λ and divides by four; the paper starts at (3/2) 4² / (4³ - 1) λ
    expected = cv2.ximgproc.fastGlobalSmootherFilter(guide, source, 1.5 * 16 / 63 * 200.0, 20.0)
    np.testing.assert_allclose(smooth(guide, source[None], 200.0, 20.0)[0], expected, rtol=1e-3)


def test_holes_are_filled_by_the_farther_neighbour_in_their_row() -> None:
    depth_m = np.array(
        [[np.nan, 2, 0, np.nan, 5, np.inf], [np.nan, np.nan, 3, np.nan, 1, 4], [0, np.nan, -1, np.inf, 0, np.nan]]
    )
    expected = np.array([[2, 2, 5, 5, 5, 5], [3, 3, 3, 3, 1, 4], [np.nan] * 6], np.float32)
    np.testing.assert_array_equal(fill_from_behind(depth_m), expected)


def test_the_shadow_beside_a_plate_is_the_wall_behind_it() -> None:
    rgb, depth_m = np.full((20, 40, 3), 0.5), np.full((20, 40), 8.0, np.float32)
    depth_m[:, 20:30] = 2
    measured_m = depth_m.copy()
    measured_m[:, 14:20] = np.nan
    rgb[:, 20:30] = 1.0
    behind = BASELINES["behind_fast_global_smoother"](rgb, measured_m)
    np.testing.assert_allclose(behind[:, :20], 8, rtol=1e-3)
    np.testing.assert_allclose(behind[:, 20:30], 2, rtol=0.1)
