"""The refinement: what it is by definition, what it leaves alone, and where edges go."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from depthsr.models import refinement
from depthsr.models.refinement import refine
from depthsr.ops import reference


def inputs(size=(15, 22), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    half = [(side + 1) // 2 for side in size]
    depth = 0.2 + torch.rand(2, 1, *size, generator=generator)
    error = 0.1 * torch.rand(2, 1, *size, generator=generator)
    adjustment = 3 * torch.randn(2, 8, *half, generator=generator)
    rgb = (0.2 * torch.rand(2, 3, *size, generator=generator)).to(dtype)
    return depth.to(dtype), error.to(dtype), adjustment.to(dtype), rgb


def test_it_is_its_definition():
    depth, error, adjustment, rgb = inputs()
    adjustment[0, 0, 2, 3], adjustment[1, 5, 1, 4] = 50.0, -50.0  # what is left of these are 8 and -8
    a, b = F.pixel_shuffle(adjustment.clamp(-8, 8), 2)[..., :15, :22].split(1, 1)
    depth[0, 0, 5, 5], depth[0, 0, 6, 7] = 0.001, -0.4
    e, tolerance = error / depth.abs().clamp(min=0.01), 0.05
    counts = tolerance / (tolerance + e * torch.exp(-b))
    taken = e / (e + tolerance * torch.exp(1 - a))
    mean = reference.bilateral_sum(counts * depth, rgb) / reference.bilateral_sum(counts, rgb)
    torch.testing.assert_close(refine(depth, error, adjustment, rgb), (1 - taken) * depth + taken * mean)


def test_what_is_sure_stays_as_it_is():
    depth, error, adjustment, rgb = inputs(dtype=torch.float32)
    sure = torch.rand(depth.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    refined = refine(depth, torch.where(sure, 0.0, error), adjustment, rgb)
    assert torch.equal(refined[sure], depth[sure])
    assert not torch.isclose(refined, depth).all()


def test_no_depth_goes_beyond_those_around():
    depth, error, adjustment, rgb = inputs(dtype=torch.float32)
    refined = refine(depth, error, adjustment, rgb)
    reach = reference.BILATERAL_REACH
    most, least = (sign * F.max_pool2d(sign * depth, 2 * reach + 1, 1, reach) for sign in (1, -1))
    assert (refined <= most * (1 + 1e-6)).all()
    assert (refined >= least * (1 - 1e-6)).all()


@pytest.mark.parametrize("bad", [0.0, -0.1])
def test_depth_of_nothing_and_below_gives_finite_values(bad):
    depth, error, adjustment, rgb = inputs(dtype=torch.float32)
    depth[0, 0, 3:9, 4:12] = bad
    assert refine(depth, error, adjustment, rgb).isfinite().all()


def test_a_blurred_edge_is_put_where_the_rgb_has_it():
    """Three pixels to each side of it are between two depths, and said to be unsure."""
    columns = torch.arange(40.0)
    depth = 0.5 + 0.3 * ((columns - 16.5) / 6).clamp(0, 1)
    truth = torch.where(columns < 20, 0.5, 0.8)
    error = torch.where((depth > 0.5) & (depth < 0.8), 0.1, 1e-4)
    frame = torch.ones(1, 1, 12, 1)
    rgb = torch.where(columns < 20, 0.2, 0.6) * torch.ones(1, 3, 12, 1)
    adjustment = torch.cat([torch.full((1, 4, 6, 20), value) for value in (6.0, -6.0)], 1)
    refined = refine(depth * frame, error * frame, adjustment, rgb)
    before, after = ((x - truth).abs().mean() for x in (depth, refined))
    assert after < 0.1 * before


def test_the_expected_error_does_not_learn_from_it():
    depth, error, adjustment, rgb = inputs()
    leaves = [tensor.clone().requires_grad_() for tensor in (depth, error, adjustment)]
    refine(*leaves, rgb).square().sum().backward()
    assert leaves[1].grad is None
    assert leaves[0].grad.any()
    assert leaves[2].grad.any()


def test_what_a_head_is_to_do_it_can_do():
    """-8: hardly anything is taken over; 8: nearly all of it."""
    depth, error, adjustment, rgb = inputs()
    moved = [
        (refine(depth, error, torch.cat([torch.full_like(adjustment[:, :4], by), adjustment[:, 4:]], 1), rgb) - depth)
        for by in (-refinement.MOST_ADJUSTED, refinement.MOST_ADJUSTED)
    ]
    assert moved[0].abs().mean() < 0.01 * moved[1].abs().mean()
