"""The prior: normalisation that one wild pixel cannot move, how far the measurement may be off."""

from __future__ import annotations

import pytest
import torch

from depthsr import ops
from depthsr.models.prior import AMBIGUITY_OF_HOLE, depth_range_m, make_prior, spread
from depthsr.ops import fill_holes

NONE = torch.zeros(1)


def test_range_is_the_quantile_of_the_valid_depths():
    depth_m = torch.arange(1.0, 202.0).reshape(1, 1, 3, 67)[:, :, :, torch.randperm(67)]
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    assert depth_range_m(depth_m, valid).item() == 199.0  # rank 0.99 · 200 of 1..201
    assert depth_range_m(depth_m, depth_m <= 101).item() == 100.0


@pytest.mark.parametrize("pixels", [1, 2, 49, 50, 51, 52, 101, 151, 250, 4800])
def test_range_is_of_that_rank_however_many_are_valid(pixels):
    depth_m = 20 * torch.rand(1, 1, 1, pixels)
    for count in {1, 2, 50, 51, 52, 101, 151, pixels // 2, pixels - 1, pixels} & set(range(1, pixels + 1)):
        valid = (torch.arange(pixels) < count)[torch.randperm(pixels)].reshape(depth_m.shape)
        expected = depth_m[valid].sort().values[round((count - 1) * 0.99)]
        assert depth_range_m(torch.where(valid, depth_m, torch.nan), valid).item() == expected


def test_one_wild_pixel_does_not_rescale_the_frame():
    depth_m = 1 + torch.rand(1, 1, 30, 40)
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    before = depth_range_m(depth_m, valid)
    wild = depth_m.clone()
    wild[0, 0, 7, 9] = 60000.0
    assert abs(depth_range_m(wild, valid) / before - 1) < 0.01


def test_range_of_nothing_is_one():
    assert depth_range_m(torch.full((2, 1, 3, 3), torch.nan), torch.zeros(2, 1, 3, 3, dtype=torch.bool)).tolist() == [
        1,
        1,
    ]


def test_spread_of_a_ramp():
    ramp = 3 * torch.arange(7.0).expand(1, 1, 5, 7)
    expected = torch.tensor([3.0, 6, 6, 6, 6, 6, 3]).expand(1, 1, 5, 7)  # one neighbour is missing at the border
    torch.testing.assert_close(spread(ramp), expected)


def test_the_bilinear_candidate_of_a_ramp_is_the_ramp_in_units_of_the_range():
    ramp_m = (10 + torch.arange(8.0)).expand(1, 1, 6, 8)
    valid = torch.ones_like(ramp_m, dtype=torch.bool)
    prior = make_prior(ramp_m, valid, torch.rand(1, 3, 24, 32), NONE, torch.tensor([20.0]))
    assert prior.scale_m_B.item() == 20
    # centres of the fine pixels in coarse coordinates; linear inside, constant beyond the outermost centres
    expected = (10 + ((torch.arange(32) + 0.5) / 4 - 0.5).clamp(0, 7)) / 20
    torch.testing.assert_close(prior.candidates_BKHW[0, 0, 12], expected)
    assert prior.condition_B2[0, 1].item() == pytest.approx(2 / 4)  # log2(4) / 4


def test_ambiguity_grows_by_the_quantisation_step_and_in_holes():
    depth_m = 1 + torch.rand(1, 1, 6, 8)
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    rgb, limit = torch.rand(1, 3, 6, 8), torch.tensor([4.0])
    plain = make_prior(depth_m, valid, rgb, NONE, limit)
    stepped = make_prior(depth_m, valid, rgb, torch.tensor([2.0]), limit)
    torch.testing.assert_close(stepped.ambiguity_B1HW - plain.ambiguity_B1HW, torch.full_like(depth_m, 0.5))
    constant_m = torch.full((1, 1, 6, 8), 2.0)
    valid[..., 2, 3] = False
    holed = make_prior(constant_m, valid, rgb, NONE, limit)
    assert holed.ambiguity_B1HW[0, 0, 2, 3] > 5 * holed.ambiguity_B1HW[0, 0, 5, 7]
    assert holed.valid_B1HW[0, 0, 2, 3] == 0


def test_the_values_of_invalid_pixels_are_never_read():
    depth_m = 1 + torch.rand(1, 1, 9, 7)
    valid = torch.rand_like(depth_m) > 0.3
    valid[..., 0, 0] = True
    rgb = torch.rand(1, 3, 18, 21)
    results = [
        make_prior(torch.where(valid, depth_m, poison), valid, rgb, NONE, NONE)
        for poison in (torch.nan, torch.inf, -5.0, 1e9)
    ]
    for other in results[1:]:
        for plane, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(plane, expected, rtol=0, atol=0)


def test_a_filling_stands_in_holes_only_and_they_stay_holes():
    depth_m, filling_m = 1 + torch.rand(1, 1, 9, 7), 1 + torch.rand(1, 1, 9, 7)
    valid = torch.rand_like(depth_m) > 0.5
    valid[..., 0, 0] = True
    rgb, limit = torch.rand(1, 3, 9, 7), torch.tensor([4.0])
    plain = make_prior(depth_m, valid, rgb, NONE, limit)
    filled = make_prior(depth_m, valid, rgb, NONE, limit, filling_m)
    together_m = torch.where(valid, depth_m, filling_m)
    torch.testing.assert_close(filled.candidates_BKHW[:, :1], together_m / 4)
    measured = make_prior(together_m, torch.ones_like(valid), rgb, NONE, limit)
    hole = (~valid).float()
    torch.testing.assert_close(
        filled.ambiguity_B1HW - measured.ambiguity_B1HW, AMBIGUITY_OF_HOLE * hole * together_m / 4
    )
    torch.testing.assert_close(filled.valid_B1HW, 1 - hole)
    torch.testing.assert_close(filled.scale_m_B, plain.scale_m_B)


def test_what_is_not_filled_lies_between_measurements_and_filling():
    """As fill_holes has it, to which both are known."""
    depth_m = 1 + torch.rand(2, 1, 12, 15)
    valid, has_filling = torch.rand_like(depth_m) > 0.8, torch.rand_like(depth_m) > 0.7
    filling_m = torch.where(has_filling, 1 + torch.rand_like(depth_m), torch.nan)
    rgb, limit = torch.rand(2, 3, 12, 15), torch.tensor([4.0, 5.0])
    prior = make_prior(depth_m.where(valid, torch.nan), valid, rgb, torch.zeros(2), limit, filling_m)
    known_m = torch.where(valid, depth_m, filling_m)
    expected = fill_holes(known_m / limit.view(2, 1, 1, 1), valid | has_filling)
    torch.testing.assert_close(prior.candidates_BKHW[:, :1], expected)


def test_a_filling_of_nothing_changes_nothing():
    depth_m = 1 + torch.rand(1, 1, 9, 7)
    valid = torch.rand_like(depth_m) > 0.5
    frame = depth_m, valid, torch.rand(1, 3, 18, 14), NONE, NONE
    for plane, expected in zip(
        make_prior(*frame, torch.full_like(depth_m, torch.nan)), make_prior(*frame), strict=True
    ):
        torch.testing.assert_close(plane, expected, rtol=0, atol=0)


def test_candidates_stay_between_the_measurements():
    depth_m = 1 + torch.rand(2, 1, 5, 6)
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    limit = torch.full((2,), 1.0)
    candidates = make_prior(depth_m, valid, torch.rand(2, 3, 40, 33), torch.zeros(2), limit).candidates_BKHW
    assert candidates.min() >= depth_m.min() - 1e-5
    assert candidates.max() <= depth_m.max() + 1e-5
    assert (candidates[:, 1:] - candidates[:, :1]).abs().amax((0, 2, 3)).min() > 0.01  # three ways, not one


@pytest.mark.usefixtures("native")
def test_compiles_for_any_size():
    """Through Inductor, whose own adaptive pooling takes no size that it does not know.

    With the kernels: the reference of fill_holes halves as often as the size says, which is another graph for each.
    """
    torch._dynamo.reset()
    compiled = torch.compile(make_prior, fullgraph=True, dynamic=True)
    graphs = set()
    for low_size, size in (((12, 16), (30, 43)), ((5, 9), (77, 60)), ((21, 34), (21, 34)), ((40, 7), (24, 25))):
        depth_m = 1 + 5 * torch.rand(1, 1, *low_size)
        frame = depth_m, torch.rand_like(depth_m) > 0.2, torch.rand(1, 3, *size), torch.full((1,), 0.1), NONE
        with ops.backend("native"):
            for result, expected in zip(compiled(*frame), make_prior(*frame), strict=True):
                torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert len(graphs) == 1, "a new size must not compile again"
