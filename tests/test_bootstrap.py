"""Bootstrap intervals against what is known of them in closed form, and their coverage in simulations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from depthsr.bootstrap import FEWEST_SCENES, bootstrap

NAN = float("nan")


def one_scene_each(count: int) -> list[str]:
    return [f"scene {i}" for i in range(count)]


def test_of_a_constant_the_interval_has_no_width() -> None:
    low, high = bootstrap(["a"] * 9, seed=0).interval([0.7] * 9)
    assert low == pytest.approx(0.7, rel=1e-12)
    assert high == pytest.approx(0.7, rel=1e-12)


def test_of_one_frame_nothing_can_be_said() -> None:
    assert bootstrap(["a"], seed=0).interval([3.0]) is None
    assert bootstrap(["a", "b"], seed=0).interval([NAN, NAN]) is None


def test_quantiles_are_those_of_all_resamples() -> None:
    """Of three frames all 27 draws can be listed; 20,000 random ones have their quantiles."""
    values = [1.0, 2.0, 7.0]
    means = np.sort([np.mean(draw) for draw in itertools.product(values, repeat=3)])
    # 1 of 27 is (1, 1, 1) and 1 is (7, 7, 7): 3.7 % each, so that both ends are inside the outer 2.5 %
    assert bootstrap(["a"] * 3, seed=1, resamples=20000).interval(values) == (means[0], means[-1])


@pytest.mark.parametrize("scenes", [["a"] * 40, one_scene_each(40)])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(scenes: list[str]) -> None:
    """95 % nominal; the percentile bootstrap of 40 normal values covers about 93 to 94 %."""
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(400):
        low, high = bootstrap(scenes, seed=seed, resamples=400).interval(rng.normal(5, 2, 40))
        hits += low <= 5 <= high
    assert 0.90 <= hits / 400 <= 0.975


def test_scenes_are_what_is_drawn_where_frames_resemble_each_other() -> None:
    """Frames that differ by scene alone: drawing scenes covers the mean, drawing frames pretends to know too much."""
    rng = np.random.default_rng(3)
    scenes = np.repeat(one_scene_each(20), 6)
    by_scene = by_frame = 0
    for seed in range(300):
        values = np.repeat(rng.normal(0, 1, 20), 6) + rng.normal(0, 0.2, 120)
        low, high = bootstrap(scenes, seed=seed, resamples=300).interval(values)
        by_scene += low <= 0 <= high
        low, high = bootstrap(["all"] * 120, seed=seed, resamples=300).interval(values)
        by_frame += low <= 0 <= high
    assert by_scene / 300 >= 0.88
    assert by_frame / 300 <= 0.70


def test_what_is_drawn_is_told() -> None:
    enough = [f"{i % FEWEST_SCENES}" for i in range(17)]
    assert (bootstrap(enough, seed=0).unit, bootstrap(enough, seed=0).units) == ("scene", FEWEST_SCENES)
    few = [f"{i % (FEWEST_SCENES - 1)}" for i in range(17)]
    assert (bootstrap(few, seed=0).unit, bootstrap(few, seed=0).units) == ("frame", 17)


def test_a_scene_comes_with_all_of_its_frames() -> None:
    scenes = list("aabcccddeeee")
    counts = bootstrap(scenes, seed=4).counts_RF
    for scene in "abcde":
        of_scene = counts[:, [i for i, name in enumerate(scenes) if name == scene]]
        assert (of_scene == of_scene[:, :1]).all()
    first = [scenes.index(scene) for scene in "abcde"]
    assert (counts[:, first].sum(1) == 5).all()


def test_a_ratio_is_paired() -> None:
    """A method that is 20 % better on every frame is 20 % better without doubt, however much the frames differ."""
    rng = np.random.default_rng(5)
    baseline = rng.lognormal(1, 1, 30)
    drawn = bootstrap(["a"] * 30, seed=6)
    assert drawn.ratio_interval(0.8 * baseline, baseline) == pytest.approx((0.8, 0.8), rel=1e-9)
    low, high = drawn.interval(baseline)
    assert high > 1.3 * low
    low, high = drawn.ratio_interval(baseline * rng.uniform(0.6, 1.0, 30), baseline)
    assert 0.6 < low < 0.8 < high < 1.0


def test_a_ratio_to_nothing_is_no_ratio() -> None:
    assert bootstrap(["a"] * 4, seed=0).ratio_interval([1.0, 2.0, 3.0, 4.0], [0.0] * 4) is None


def test_undefined_frames_do_not_count() -> None:
    """The interval of the defined values alone is that of the same draws without the others."""
    drawn = bootstrap(["a"] * 6, seed=7)
    values = [1.0, NAN, 4.0, 2.0, NAN, 8.0]
    low, high = drawn.interval(values)
    kept = [0, 2, 3, 5]
    counts = drawn.counts_RF[:, kept]
    counts = counts[counts.sum(1) > 0]
    means = counts @ np.array(values)[kept] / counts.sum(1)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))))


def test_a_seed_decides_everything() -> None:
    scenes = one_scene_each(8)
    np.testing.assert_array_equal(bootstrap(scenes, seed=3).counts_RF, bootstrap(scenes, seed=3).counts_RF)
    assert (bootstrap(scenes, seed=3).counts_RF != bootstrap(scenes, seed=4).counts_RF).any()
