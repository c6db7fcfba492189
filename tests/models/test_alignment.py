"""Relative depth aligned with the measurement: exact where the two agree but for scale and offset, steady where not."""

from __future__ import annotations

import pytest
import torch

from depthsr.models.alignment import FARTHEST, NEAREST, WINDOWS, align_relative
from depthsr.models.prior import make_prior


def scene(size=(96, 128), seed=0, batch=1):
    """Depth 0.05 to 0.9 of the range: a slope with boxes on it."""
    generator = torch.Generator().manual_seed(seed)
    depth = torch.linspace(0.9, 0.1, size[0])[:, None].expand(batch, 1, *size).clone()
    for box in range(batch * 6):
        top, left = (int(torch.randint(0, side - 16, (1,), generator=generator)) for side in size)
        depth[box % batch, :, top : top + 16, left : left + 16] = 0.05 + 0.4 * torch.rand(1, generator=generator)
    return depth


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.04, -0.3), (7.0, 100.0)])
def test_an_affine_map_of_inverse_depth_gives_the_depth(scale, offset):
    depth = scene(batch=2)
    inverse = 1 / depth
    relative = scale * inverse + offset
    # The measurement is exact in each cell: its inverse is that cell's mean.
    coarse = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(inverse, 8), scale_factor=8.0)
    aligned = align_relative(relative, 1 / coarse, torch.full_like(depth, 0.02))
    assert aligned.shape == (2, len(WINDOWS), 96, 128)
    torch.testing.assert_close(aligned, depth.expand(-1, len(WINDOWS), -1, -1), rtol=0.02, atol=1e-3)


def test_scale_and_offset_of_the_relative_depth_do_not_matter():
    depth = scene()
    generator = torch.Generator().manual_seed(1)
    relative = 1 / depth + 0.5 * torch.rand(depth.shape, generator=generator)
    relative = relative / relative.max()
    uncertainty = 0.02 + 0.05 * depth
    expected = align_relative(relative, depth, uncertainty)
    torch.testing.assert_close(align_relative(3 * relative + 2, depth, uncertainty), expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (63, 65), (120, 40)])
@pytest.mark.parametrize("kind", ["flat", "noise", "reversed"])
def test_any_relative_depth_gives_depth_in_the_range(size, kind):
    generator = torch.Generator().manual_seed(2)
    depth = torch.rand((2, 1, *size), generator=generator)
    relative = {"flat": torch.zeros_like(depth), "noise": torch.rand_like(depth), "reversed": depth}[kind]
    aligned = align_relative(relative, depth, 0.01 + 0.1 * depth)
    assert aligned.shape == (2, len(WINDOWS), *size)
    assert torch.isfinite(aligned).all()
    assert aligned.min() >= NEAREST * 0.999
    assert aligned.max() <= FARTHEST * 1.001


def test_flat_relative_depth_gives_the_smoothed_measurement():
    depth = torch.full((1, 1, 64, 64), 0.3)
    depth[..., 32:] = 0.6
    aligned = align_relative(torch.full_like(depth, 0.5), depth, torch.full_like(depth, 0.05))
    torch.testing.assert_close(aligned[:, 0, :, :4], torch.full((1, 64, 4), 0.3), rtol=0.05, atol=0)
    assert (aligned[..., 4] < aligned[..., 60]).all()


def test_a_wild_measurement_moves_little():
    depth = scene()
    relative = 0.1 / depth
    wild = depth.clone()
    wild[..., 40:48, 40:48] = 0.02
    uncertainty = 0.01 + 0.05 * depth
    change = (align_relative(relative, wild, uncertainty) - align_relative(relative, depth, uncertainty)).abs()
    assert change.median() < 1e-3
    assert change[..., 40:48, 40:48].mean() < 0.25 * (wild - depth).abs()[..., 40:48, 40:48].mean()


def test_what_lies_at_the_end_of_the_range_does_not_bend_the_line(monkeypatch):
    """Sky is infinitely far in relative depth and at the end of the range in the measurement."""
    depth = scene((96, 96))
    relative = 1 / depth
    depth[..., :32, :], relative[..., :32, :] = 1.0, 0.0
    measured = 1 / torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(1 / depth, 8), scale_factor=8.0)
    uncertainty = 0.005 + 0.02 * measured
    errors = []
    for end in (0.97, 2.0):  # as it is, and as if the sky were a measurement of depth 1
        monkeypatch.setattr("depthsr.models.alignment.END", end)
        aligned = align_relative(relative, measured, uncertainty)[:, WINDOWS.index(15)]
        errors.append(((aligned - depth[:, 0]).abs() / depth[:, 0])[..., 32:, :].mean())
        assert (aligned[..., :24, :] > 0.9).float().mean() > 0.9
    assert errors[0] < 0.06
    assert errors[0] < 0.5 * errors[1]


def test_uncertainty_is_of_the_measurement_and_not_of_the_edge():
    depth_m = torch.full((1, 1, 8, 8), 2.0)
    depth_m[..., 4:] = 8.0
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    valid[..., 0, 0] = False
    prior = make_prior(depth_m, valid, torch.rand(1, 3, 64, 64), torch.tensor([1.0]), torch.tensor([10.0]))
    uncertainty = prior.measurement_uncertainty()
    torch.testing.assert_close(uncertainty[0, 0, 40, 4], torch.tensor(0.05 + 0.02 * 0.2 + 0.002))
    torch.testing.assert_close(uncertainty[0, 0, 40, 60], torch.tensor(0.05 + 0.02 * 0.8 + 0.002))
    assert uncertainty[0, 0, 40].max() <= uncertainty[0, 0, 40, 60] + 1e-6  # not larger at the step between them
    assert uncertainty[0, 0, 0, 0] > 2 * uncertainty[0, 0, 40, 4] - 0.05
    assert (uncertainty > 0).all()
