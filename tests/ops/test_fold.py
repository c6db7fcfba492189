"""The folds are exact: with and without them the same function, up to rounding in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from depthsr.ops import reference
from depthsr.ops.fold import fold_naf_block, fold_norm, fold_scale
from depthsr.ops.reference import NAFBlockWeights


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_norms_gain_and_bias_go_into_the_next_convolution():
    x, gain, norm_bias = random(50, 6, seed=0), random(6, seed=1), random(6, seed=2)
    weight, bias = random(9, 6, seed=3), random(9, seed=4)
    folded = F.linear(x, *fold_norm(gain, norm_bias, weight, bias))
    torch.testing.assert_close(folded, F.linear(x * gain + norm_bias, weight, bias), rtol=1e-12, atol=1e-12)


def test_a_scale_goes_into_the_convolution_before_it():
    x, scale = random(50, 6, seed=0), random(9, seed=1)
    weight, bias = random(9, 6, seed=3), random(9, seed=4)
    folded = F.linear(x, *fold_scale(scale, weight, bias))
    torch.testing.assert_close(folded, F.linear(x, weight, bias) * scale, rtol=1e-12, atol=1e-12)


def test_a_folded_block_is_the_block(block_weights, random_image, close):
    """Written out with the folded parameters alone; gradients reach every unfolded parameter."""
    weights = NAFBlockWeights(*(weight.requires_grad_() for weight in block_weights(12)))
    x = random_image((2, 12, 5, 7))
    p = fold_naf_block(weights)
    ones, zeros = torch.ones(12), torch.zeros(12)

    def conv(x, matrix, bias):
        return F.conv2d(x, matrix[:, :, None, None], bias)

    u = conv(reference.layer_norm_2d(x, ones, zeros), p.conv1, p.conv1_bias)
    y = reference.simple_gate(F.conv2d(u, p.depthwise.t().reshape(24, 1, 3, 3), p.depthwise_bias, padding=1, groups=24))
    r = x + conv(y * conv(y.mean((2, 3), keepdim=True), p.attention, p.attention_bias), p.conv3, p.conv3_bias)
    gated = reference.simple_gate(conv(reference.layer_norm_2d(r, ones, zeros), p.expand, p.expand_bias))
    folded = r + conv(gated, p.project, p.project_bias)

    weights64 = NAFBlockWeights(*(weight.detach().double().requires_grad_() for weight in weights))
    expected = reference.naf_block(x.double(), weights64)
    close(folded.detach(), expected.detach())
    grad = random_image((2, 12, 5, 7), seed=5)
    gradients = torch.autograd.grad(folded, weights, grad)
    expected_gradients = torch.autograd.grad(expected, weights64, grad.double())
    for name, gradient, wanted in zip(NAFBlockWeights._fields, gradients, expected_gradients, strict=True):
        close(gradient, wanted, name)


def test_parameters_stored_in_half_precision_are_folded_in_float32(block_weights):
    weights = NAFBlockWeights(*(weight.half() for weight in block_weights(4)))
    folded = fold_naf_block(weights)
    assert {tensor.dtype for tensor in folded} == {torch.float32}
    exact = weights.conv3_weight.flatten(1).double() * weights.beta.flatten().double()[:, None]
    torch.testing.assert_close(folded.conv3.double(), exact, rtol=1e-7, atol=0)
