"""Masks and edges of the loss, for every implementation that this machine has."""

from __future__ import annotations

import pytest
import torch

from depthsr import ops


@pytest.fixture(params=["reference", "native"])
def implementation(request):
    if request.param == "native":
        request.getfixturevalue("native")
    with ops.backend(request.param):
        yield request.param


def loss_and_gradients(pred, target, valid=None, **weights):
    pred, target = pred.clone().requires_grad_(), target.clone().requires_grad_()
    loss = ops.sobel_l1_loss(pred, target, valid, **weights)
    loss.backward()
    return loss.detach(), pred.grad, target.grad


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_invalid_pixels_reach_neither_value_nor_gradient(implementation, random_image, poison):
    pred, target = random_image((2, 1, 13, 9)), random_image((2, 1, 13, 9), seed=1)
    valid = torch.rand(pred.shape, generator=torch.Generator().manual_seed(2)) > 0.2
    expected = loss_and_gradients(pred, target, valid)
    poisoned = loss_and_gradients(pred.masked_fill(~valid, poison), target.masked_fill(~valid, poison), valid)
    for result, clean in zip(poisoned, expected, strict=True):
        torch.testing.assert_close(result, clean, rtol=0, atol=0)
    assert (poisoned[1][~valid] == 0).all()
    assert (poisoned[1][valid] != 0).any()


def test_target_gradient_is_the_negative_of_the_prediction_gradient(implementation, random_image):
    _, grad_pred, grad_target = loss_and_gradients(random_image((1, 1, 8, 7)), random_image((1, 1, 8, 7), seed=1))
    torch.testing.assert_close(grad_target, -grad_pred)


def test_nothing_valid_is_zero_with_zero_gradient(implementation, random_image):
    pred = random_image((1, 1, 6, 6))
    loss, grad, _ = loss_and_gradients(pred, pred * torch.nan, torch.zeros_like(pred, dtype=torch.bool))
    assert loss.item() == 0
    assert (grad == 0).all()


@pytest.mark.parametrize("narrow", [(1, 1), (1, 9), (9, 1), (2, 2), (2, 7)])
def test_a_frame_without_interior_has_the_l1_term_only(implementation, random_image, narrow):
    pred, target = random_image((2, 1, *narrow)), random_image((2, 1, *narrow), seed=1)
    loss, grad, _ = loss_and_gradients(pred, target, l1_weight=0.5)
    torch.testing.assert_close(loss, 0.5 * (pred - target).abs().mean())
    torch.testing.assert_close(grad, 0.5 * (pred - target).sign() / pred.numel())


def test_neither_frames_nor_rows_bleed_into_each_other(implementation, random_image):
    """Two frames in a batch: the loss of equally many pixels is the mean of the two losses."""
    pred, target = random_image((2, 1, 7, 6)), random_image((2, 1, 7, 6), seed=1)
    both, _, _ = loss_and_gradients(pred, target)
    each = [loss_and_gradients(pred[i : i + 1], target[i : i + 1])[0] for i in range(2)]
    torch.testing.assert_close(both, sum(each) / 2)


def test_half_precision_prediction_against_float32_target(implementation, random_image, close):
    pred, target = random_image((1, 1, 9, 9), torch.bfloat16), random_image((1, 1, 9, 9), seed=1)
    loss, grad, _ = loss_and_gradients(pred, target)
    assert loss.dtype == torch.float32
    assert grad.dtype == torch.bfloat16
    close(loss, ops.reference.sobel_l1_loss(pred.double(), target.double()))
