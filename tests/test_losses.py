"""The training objective."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from depthsr.losses import balance, deviance, pixel_counts, restoration_loss


def test_value_and_gradients():
    torch.manual_seed(0)
    depth = torch.rand(2, 1, 9, 7, requires_grad=True)
    error = torch.rand(2, 1, 9, 7, requires_grad=True)
    target, valid = torch.rand(2, 1, 9, 7), torch.rand(2, 1, 9, 7) > 0.3
    loss, parts = restoration_loss(depth, error, torch.where(valid, target, torch.nan), valid, gradient_weight=0.0)
    real = (depth - target).abs().detach()[valid]
    torch.testing.assert_close(parts["l1"], real.mean())
    torch.testing.assert_close(loss.detach(), real.mean() + deviance(error.detach()[valid], real).mean())
    loss.backward()
    # no gradient from the error head's term into the depth, none from invalid pixels
    torch.testing.assert_close(depth.grad, torch.where(valid, (depth - target).sign(), 0.0).detach() / valid.sum())
    assert (error.grad[~valid] == 0).all()


def test_the_deviance_is_half_of_poissons_and_has_its_gradient_everywhere():
    torch.manual_seed(0)
    expected, real = (2 * torch.rand(2, 50, dtype=torch.float64)).unbind()
    real[::7] = 0.0  # where the depth is exact
    expected.requires_grad_()
    values = deviance(expected, real)
    likelihood = partial(F.poisson_nll_loss, log_input=False, eps=0.0, reduction="none")
    torch.testing.assert_close(values, likelihood(expected, real) - likelihood(real.clamp(min=1e-300), real))
    assert (values >= 0).all()
    torch.testing.assert_close(deviance(3 * expected, 3 * real), 3 * values)  # in the unit of both
    assert deviance(real, real).abs().max() < 1e-9
    (gradient,) = torch.autograd.grad(values.sum(), expected)
    torch.testing.assert_close(gradient, 1 - real / expected.detach())


def test_what_the_deviance_expects_is_the_mean_error_not_the_median():
    torch.manual_seed(0)
    real = torch.rand(2000, dtype=torch.float64) ** 6  # most small, few large
    constants = torch.linspace(0.01, 0.5, 491, dtype=torch.float64)
    best = constants[torch.stack([deviance(constant, real).mean() for constant in constants]).argmin()]
    assert abs(best - real.mean()) <= 0.001
    assert real.median() < real.mean() / 5


def test_the_sobel_term_is_weighted():
    torch.manual_seed(0)
    depth, target = torch.rand(1, 1, 12, 12), torch.rand(1, 1, 12, 12)
    valid = torch.ones_like(depth, dtype=torch.bool)
    values = [restoration_loss(depth, depth, target, valid, weight)[0] for weight in (0.0, 1.0, 2.0)]
    assert values[1] > values[0]
    torch.testing.assert_close(values[2] - values[1], values[1] - values[0])


def test_the_root_mean_square_is_of_each_sample_and_weighted():
    torch.manual_seed(0)
    depth, target = torch.rand(3, 1, 9, 7, requires_grad=True), torch.rand(3, 1, 9, 7)
    valid = torch.rand(3, 1, 9, 7) > torch.tensor([0.1, 0.6, 1.0])[:, None, None, None]  # the last has none
    known = torch.where(valid, target, torch.nan)
    without, _ = restoration_loss(depth, depth, known, valid)
    added = restoration_loss(depth, depth, known, valid, 1.0, 0.3)[0] - without
    rmse = [(depth - target)[sample][valid[sample]].square().mean().sqrt() for sample in range(2)]
    counts = valid.flatten(1).sum(1)
    torch.testing.assert_close(added, 0.3 * (rmse[0] * counts[0] + rmse[1] * counts[1]) / counts.sum())
    (gradient,) = torch.autograd.grad(added, depth)
    assert torch.isfinite(gradient).all()
    assert (gradient[~valid] == 0).all()
    torch.testing.assert_close(  # an error ten times as large pulls ten times as much, which L1 does not do
        gradient[0][valid[0]] / (depth - target)[0][valid[0]],
        (0.3 * counts[0] / counts.sum() / (counts[0] * rmse[0])).expand(int(counts[0])),
    )


@pytest.mark.parametrize("rmse_weight", [0.0, 0.4])
@pytest.mark.parametrize("size", [(9, 7), (1, 12), (2, 2), (3, 3)])
def test_losses_of_parts_add_up_to_that_of_the_whole(size, rmse_weight):
    """However unequally the valid pixels lie in them; values and gradients."""
    torch.manual_seed(0)
    depth, error, target = (torch.rand(5, 1, *size, dtype=torch.float64) for _ in range(3))
    valid = torch.rand(5, 1, *size) > torch.tensor([0.0, 0.05, 0.1, 0.3, 1.0])[:, None, None, None]
    depth.requires_grad_()
    error.requires_grad_()
    expected, expected_parts = restoration_loss(depth, error, target, valid, 0.7, rmse_weight)
    expected_gradients = torch.autograd.grad(expected, (depth, error))

    parts = [slice(0, 2), slice(2, 3), slice(3, 5)]
    counts = torch.stack([pixel_counts(valid[part]) for part in parts])
    torch.testing.assert_close(counts.sum(0), pixel_counts(valid))
    shares = (counts / counts.sum(0).clamp(min=1)).tolist()
    losses, figures = zip(
        *(
            restoration_loss(depth[part], error[part], target[part], valid[part], 0.7, rmse_weight, tuple(share))
            for part, share in zip(parts, shares, strict=True)
        ),
        strict=True,
    )
    torch.testing.assert_close(sum(losses), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        torch.autograd.grad(sum(losses), (depth, error)), expected_gradients, rtol=1e-6, atol=1e-8
    )
    for name, value in expected_parts.items():
        torch.testing.assert_close(sum(figure[name] for figure in figures), value, rtol=1e-6, atol=1e-8)


def test_balance_is_the_inverse_error_of_the_measurement():
    torch.manual_seed(0)
    noise = torch.tensor([0.001, 0.01, 0.04])[:, None, None, None]
    target = torch.rand(3, 1, 32, 32)
    measured = target + noise * (torch.rand(3, 1, 32, 32) > 0.5).float().mul(2).sub(1)
    valid = torch.rand(3, 1, 32, 32) > 0.2
    weights = balance(measured, torch.where(valid, target, torch.nan), valid)
    torch.testing.assert_close(weights.flatten(), 0.02 / (0.004 + noise.flatten()), rtol=1e-4, atol=0)
