"""Metrics against values worked out by hand and against what they must be invariant to."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from depthsr import metrics

NAN = float("nan")


def random_truth(shape: tuple[int, int] = (21, 17), seed: int = 3) -> np.ndarray:
    """Noise, and one surface."""
    truth = np.random.default_rng(seed).uniform(0.5, 40, shape).astype(np.float32)
    truth[-9:, -9:] = 11
    return truth


def test_values_worked_out_by_hand() -> None:
    truth = np.array([[1.0, 2.0], [4.0, NAN]])
    depth = np.array([[1.2, 1.0], [8.0, 1e6]])
    scores = metrics.score(depth, truth)
    assert scores["rmse"] == pytest.approx(np.sqrt((0.04 + 1 + 16) / 3))
    assert scores["mae"] == pytest.approx((0.2 + 1 + 4) / 3)
    assert scores["abs_rel"] == pytest.approx((0.2 + 0.5 + 1) / 3)
    assert scores["median_rel"] == pytest.approx(0.5)
    assert scores["delta1"] == pytest.approx(1 / 3)
    assert scores["edge_rmse"] == pytest.approx(scores["rmse"])  # every scored pixel is within two of an edge


def test_bias_is_the_median_shift_of_surfaces_and_has_a_sign() -> None:
    """A slope of 0.9 % a pixel and a plane, with noise; the pixels at edges and holes do not count."""
    rng = np.random.default_rng(7)
    truth = np.full((20, 30), 4.0)
    truth[:, :15] = 8 * 1.009 ** np.arange(15)
    truth[8:11, 20:23] = NAN
    truth[:5] = rng.uniform(1, 9, (5, 30))
    surface = np.zeros(truth.shape, bool)
    surface[6:-1, 1:14] = surface[6:-1, 16:-1] = True
    surface[7:12, 19:24] = False
    shift = 0.003 + rng.normal(0, 0.05, surface.sum())
    depth = truth * np.where(surface, 0, 9.0)
    depth[surface] = truth[surface] * (1 + shift)
    assert metrics.bias_rel(depth, truth) == pytest.approx(np.median(shift), rel=1e-6)
    assert metrics.bias_rel(1.003 * truth, truth) == pytest.approx(0.003)
    assert metrics.bias_rel(0.998 * truth, truth) == pytest.approx(-0.002)
    assert np.isnan(metrics.bias_rel(truth[:5], truth[:5]))


def test_delta1_counts_from_both_sides_and_never_counts_non_positive() -> None:
    truth = np.array([[10.0, 10.0, 10.0, 10.0, 10.0]])
    depth = np.array([[12.4, 12.6, 8.1, 7.9, -10.0]])
    assert metrics.delta1(depth, truth) == pytest.approx(2 / 5)


def test_a_perfect_prediction() -> None:
    truth = random_truth()
    scores = metrics.score(truth, truth)
    perfect = {"delta1": 1, "boundary_f1": 1}
    assert scores == {name: perfect.get(name, 0) for name in metrics.METRICS}


def test_unscored_pixels_do_not_count() -> None:
    truth = random_truth()
    depth = truth * np.random.default_rng(4).uniform(0.5, 1.5, truth.shape)
    hidden = np.random.default_rng(5).random(truth.shape) < 0.1
    holed = np.where(hidden, NAN, truth)
    spoiled = np.where(hidden, NAN, depth)
    for name in metrics.METRICS:
        assert metrics.METRICS[name](spoiled, holed) == pytest.approx(metrics.METRICS[name](depth, holed)), name
    kept = ~hidden
    assert metrics.rmse(depth, holed) == pytest.approx(np.sqrt(np.mean((depth[kept] - truth[kept]) ** 2)), rel=1e-6)


def test_units() -> None:
    """In centimetres, errors are a hundredfold and the relative metrics do not change."""
    truth = random_truth()
    depth = truth * np.random.default_rng(6).uniform(0.7, 1.4, truth.shape)
    metres, centimetres = metrics.score(depth, truth), metrics.score(100 * depth, 100 * truth)
    for name in ("rmse", "mae", "edge_rmse", "rmse_border6"):
        assert centimetres[name] == pytest.approx(100 * metres[name], rel=1e-5)
    for name in ("abs_rel", "median_rel", "bias_rel", "delta1", "boundary_f1"):
        assert centimetres[name] == pytest.approx(metres[name], rel=1e-3)


def test_rmse_is_never_below_mae() -> None:
    for seed in range(20):
        truth = random_truth(seed=seed)
        depth = random_truth(seed=100 + seed)
        assert metrics.rmse(depth, truth) >= metrics.mae(depth, truth)


def test_the_border_of_six_pixels_does_not_count() -> None:
    truth = random_truth((15, 20))
    depth = truth + 100
    depth[6:9, 6:14] = truth[6:9, 6:14] + 2
    depth[7, 9] = truth[7, 9] - 7
    assert metrics.rmse_border6(depth, truth) == pytest.approx(np.sqrt((23 * 4 + 49) / 24), rel=1e-5)
    assert np.isnan(metrics.rmse_border6(depth[:12], truth[:12]))


def test_ranges_part_the_pixels_by_their_true_depth() -> None:
    truth = np.array([[1.0, 4.99, 5.0, 19.0, 20.0, 80.0, NAN]])
    depth = truth + np.array([[3.0, 4.0, 1.0, 1.0, -6.0, 8.0, 9.0]])
    ranges = metrics.rmse_by_range(depth, truth, (5, 20))
    assert list(ranges) == ["rmse_under_5m", "rmse_5_to_20m", "rmse_from_20m"]
    assert ranges["rmse_under_5m"] == pytest.approx(np.sqrt((9 + 16) / 2))
    assert ranges["rmse_5_to_20m"] == pytest.approx(1)
    assert ranges["rmse_from_20m"] == pytest.approx(np.sqrt((36 + 64) / 2))
    assert np.isnan(metrics.rmse_by_range(depth, truth, (16, 300))["rmse_from_300m"])
    assert metrics.rmse_by_range(depth, truth, ()) == {}


def test_ranges_add_up_to_the_whole() -> None:
    """Squared errors of the ranges, weighted by their pixels, are those of the frame."""
    truth, depth = random_truth(seed=8), random_truth(seed=9)
    near, far = metrics.rmse_by_range(depth, truth, (16,)).values()
    share = np.mean(truth < 16)
    assert share * near**2 + (1 - share) * far**2 == pytest.approx(metrics.rmse(depth, truth) ** 2)


def test_edge_zone_of_a_step() -> None:
    truth = np.full((5, 12), 2.0)
    truth[:, 6:] = 3.0  # the step lies between columns 5 and 6
    expected = np.zeros(truth.shape, bool)
    expected[:, 3:9] = True
    np.testing.assert_array_equal(metrics.edge_zone(truth), expected)
    depth = truth + np.where(expected, 0.5, 7.0)
    assert metrics.edge_rmse(depth, truth) == pytest.approx(0.5)


def test_a_step_below_the_threshold_or_beside_a_hole_is_no_edge() -> None:
    gentle = np.full((5, 12), 2.0)
    gentle[:, 6:] = 2.19
    assert not metrics.edge_zone(gentle).any()
    assert np.isnan(metrics.edge_rmse(gentle, gentle))
    holed = np.full((5, 12), 2.0)
    holed[:, 6], holed[:, 7:] = NAN, 3.0
    assert not metrics.edge_zone(holed).any()


def test_boundary_f1_by_hand() -> None:
    """One row, one true boundary of ratio 2; the prediction has it and a false one of the same ratio: F1 = 2/3."""
    truth = np.array([[1.0, 1.0, 2.0, 2.0, 2.0]])
    depth = np.array([[1.0, 1.0, 2.0, 2.0, 4.0]])
    assert metrics.boundary_f1(depth, truth) == pytest.approx(2 / 3)
    reversed_step = np.array([[2.0, 2.0, 1.0, 1.0, 1.0]])
    assert metrics.boundary_f1(reversed_step, truth) == 0  # an edge seen from the other side is another edge
    shifted = np.array([[1.0, 2.0, 2.0, 2.0, 2.0]])
    assert metrics.boundary_f1(shifted, truth) == 0


def test_boundary_f1_weights_the_ratios() -> None:
    """A predicted ratio of 1.15 is found at the five ratios up to 1.1389 and missed at the five above."""
    truth, depth = np.array([[1.0, 2.0]]), np.array([[1.0, 1.15]])
    ratios = metrics.BOUNDARY_RATIOS
    assert metrics.boundary_f1(depth, truth) == pytest.approx(ratios[ratios < 1.15].sum() / ratios.sum())
    assert (ratios < 1.15).sum() == 5


def test_boundary_f1_equals_its_definition_pair_by_pair() -> None:
    """Every ordered pair at every ratio, in plain loops; most pairs of these maps have no boundary."""
    rng = np.random.default_rng(12)
    truth = np.exp(rng.normal(0, 0.08, (13, 9)))
    depth = truth * np.exp(rng.normal(0, 0.05, truth.shape))
    truth[rng.random(truth.shape) < 0.1] = NAN
    scores, weights = [], []
    for ratio in np.linspace(1.05, 1.25, 10):
        hits = of_truth = of_depth = 0
        for y, x in np.ndindex(truth.shape):
            for i, j in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if not (0 <= i < 13 and 0 <= j < 9) or np.isnan(truth[y, x] + truth[i, j]):
                    continue
                a, b = truth[i, j] > ratio * truth[y, x], depth[i, j] > ratio * depth[y, x]
                hits, of_truth, of_depth = hits + (a and b), of_truth + a, of_depth + b
        precision, recall = hits / of_depth, hits / of_truth
        scores.append(2 * precision * recall / (precision + recall) if hits else 0)
        weights.append(ratio)
    assert 0.1 < np.average(scores, weights=weights) < 0.9
    assert metrics.boundary_f1(depth, truth) == pytest.approx(np.average(scores, weights=weights))


def test_ause_by_hand() -> None:
    truth = np.array([[10.0, 20.0, NAN, 30.0]])
    depth = np.array([[11.0, 18.0, 77.0, 33.0]])  # wrong by 1, 2, 3
    assert metrics.ause(depth, np.array([[0.1, 0.2, NAN, 9.0]]), truth) == 0  # the order alone counts
    assert metrics.ause(depth, np.array([[3.0, 2.0, 0.0, 1.0]]), truth) == pytest.approx(2)  # (2.5 - 1.5) / (2 - 1.5)
    assert metrics.ause(depth, np.array([[2.0, 3.0, 0.0, 4.0]]), truth) == 0


def test_ause_of_all_orders_is_that_of_chance() -> None:
    truth = random_truth((1, 6))
    depth = truth + np.array([[0.5, -2.0, 0.1, 3.0, -0.7, 1.1]])
    orders = [metrics.ause(depth, np.array([order], float), truth) for order in permutations(range(6))]
    assert np.mean(orders) == pytest.approx(1)
    assert min(orders) == 0


def test_ause_is_not_defined_without_an_estimate_or_where_all_are_as_wrong() -> None:
    truth = random_truth((4, 5))
    assert np.isnan(metrics.ause(truth + 1, np.full_like(truth, NAN), truth))
    assert np.isnan(metrics.ause(truth, truth, truth))
    assert np.isnan(metrics.ause(truth, truth, np.full_like(truth, NAN)))


def test_nothing_scored_is_nan_and_left_out_of_the_mean() -> None:
    nothing = np.full((14, 15), NAN)
    empty = metrics.score(random_truth((14, 15)), nothing)
    assert all(np.isnan(value) for value in empty.values())
    truth = random_truth((14, 15))
    full = metrics.score(truth + 2, truth)
    mean = metrics.mean_over_frames([empty, full, metrics.score(truth + 4, truth)])
    assert mean["rmse"] == pytest.approx(3)
    assert mean["mae"] == pytest.approx(3)
    assert np.isnan(metrics.mean_over_frames([empty])["rmse"])


def test_a_prediction_that_is_not_one_is_refused() -> None:
    truth = random_truth()
    with pytest.raises(ValueError, match="shape"):
        metrics.score(truth[:-1], truth)
    broken = truth.copy()
    broken[2, 2] = np.inf
    with pytest.raises(ValueError, match="finite"):
        metrics.score(broken, truth)
