"""The training objective."""

from __future__ import annotations

import torch

from depthsr.losses import restoration_loss


def test_value_and_gradients():
    torch.manual_seed(0)
    depth = torch.rand(2, 1, 9, 7, requires_grad=True)
    error = torch.rand(2, 1, 9, 7, requires_grad=True)
    target, valid = torch.rand(2, 1, 9, 7), torch.rand(2, 1, 9, 7) > 0.3
    loss, parts = restoration_loss(depth, error, torch.where(valid, target, torch.nan), valid, gradient_weight=0.0)
    real = (depth - target).abs().detach()[valid]
    torch.testing.assert_close(parts["l1"], real.mean())
    torch.testing.assert_close(loss.detach(), real.mean() + (error.detach()[valid] - real).abs().mean())
    loss.backward()
    # no gradient from the error head's term into the depth, none from invalid pixels
    torch.testing.assert_close(depth.grad, torch.where(valid, (depth - target).sign(), 0.0).detach() / valid.sum())
    assert (error.grad[~valid] == 0).all()


def test_the_sobel_term_is_weighted():
    torch.manual_seed(0)
    depth, target = torch.rand(1, 1, 12, 12), torch.rand(1, 1, 12, 12)
    valid = torch.ones_like(depth, dtype=torch.bool)
    values = [restoration_loss(depth, depth, target, valid, weight)[0] for weight in (0.0, 1.0, 2.0)]
    assert values[1] > values[0]
    torch.testing.assert_close(values[2] - values[1], values[1] - values[0])
