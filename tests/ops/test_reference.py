"""The specification itself, against formulas written another way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from depthsr.ops import reference


def doubles(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_layer_norm_2d_is_the_formula(random_image, size, dtype, layout, close):
    x = random_image((2, 6, *size), dtype, layout)
    weight, bias = torch.randn(6), torch.randn(6)
    x64 = x.double()
    mean = x64.mean(dim=1, keepdim=True)
    deviation = ((x64 - mean).square().mean(dim=1, keepdim=True) + 1e-3).sqrt()
    expected = (x64 - mean) / deviation * weight.double()[:, None, None] + bias.double()[:, None, None]
    close(reference.layer_norm_2d(x, weight, bias, eps=1e-3), expected)


def test_layer_norm_2d_survives_float16_sums_that_overflow(close):
    x = torch.full((1, 64, 1, 2), 170.0, dtype=torch.float16)
    x[:, ::2] = -175.0  # 64 squares of this are 1.9 million; float16 ends at 65504
    out = reference.layer_norm_2d(x, torch.ones(64), torch.zeros(64))
    expected = torch.ones_like(out)
    expected[:, ::2] = -1
    close(out, expected)


def test_simple_gate_multiplies_the_halves():
    x = torch.arange(1.0, 9.0).reshape(1, 4, 1, 2)
    assert reference.simple_gate(x).tolist() == [[[[1 * 5, 2 * 6]], [[3 * 7, 4 * 8]]]]


@pytest.mark.parametrize("correction", [0, 1])
def test_adain_gives_content_the_statistics_of_style(correction):
    content, style = doubles(2, 3, 9, 11), doubles(2, 3, 5, 4, seed=1) * 3 + 7
    out = reference.adain(content, style, eps=0.0, correction=correction)
    variance, mean = torch.var_mean(out, dim=(2, 3), correction=correction)
    style_variance, style_mean = torch.var_mean(style, dim=(2, 3), correction=correction)
    torch.testing.assert_close(mean, style_mean)
    torch.testing.assert_close(variance, style_variance)
    # A map a * x + b per plane, a > 0: what makes it AdaIN rather than anything else with those statistics.
    normalised = (out - mean[..., None, None]) / style_variance.sqrt()[..., None, None]
    own_variance, own_mean = torch.var_mean(content, dim=(2, 3), correction=correction, keepdim=True)
    torch.testing.assert_close(normalised, (content - own_mean) / own_variance.sqrt())


def test_adain_of_a_style_with_itself_changes_nothing():
    x = doubles(1, 2, 6, 5)
    torch.testing.assert_close(reference.adain(x, x, eps=1e-2), x)


@pytest.mark.parametrize("correction", [0, 1])
def test_adain_of_one_pixel_or_a_constant_is_the_style_mean(correction):
    style = doubles(1, 2, 3, 3)
    for content in (torch.full((1, 2, 1, 1), 5.0), torch.full((1, 2, 4, 4), 5.0)):
        content = content.double().requires_grad_()
        out = reference.adain(content, style, correction=correction)
        torch.testing.assert_close(out, style.mean(dim=(2, 3), keepdim=True).expand_as(out))
        out.sum().backward()
        assert content.grad.isfinite().all()
    one_pixel = reference.adain(doubles(1, 2, 4, 4), torch.full((1, 2, 1, 1), 3.0).double(), correction=correction)
    assert one_pixel.isfinite().all()


def test_adain_is_exact_when_the_mean_is_large_and_the_spread_small(close):
    generator = torch.Generator().manual_seed(0)
    content = 100 + 0.1 * torch.randn(1, 2, 60, 80, generator=generator)
    style = 300 + 0.1 * torch.randn(1, 2, 60, 80, generator=generator)
    expected = reference.adain(content.double(), style.double(), eps=1e-12)
    out = reference.adain(content, style, eps=1e-12)
    # E[x²] - E[x]² in float32 is off by 11 % here.
    ratio = (out - 300).std() / (expected - 300).std()
    assert abs(ratio.item() - 1) < 1e-3
    close(out, expected)


def sobel_by_convolution(d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=d.dtype) / 8
    return F.conv2d(d, kernel[None, None]), F.conv2d(d, kernel.T[None, None])


def test_sobel_l1_loss_is_the_formula():
    pred, target = doubles(2, 1, 9, 8), doubles(2, 1, 9, 8, seed=1)
    d = pred - target
    gradient_x, gradient_y = sobel_by_convolution(d)
    expected = 0.5 * d.abs().mean() + 2 * (gradient_x.abs() + gradient_y.abs()).mean()
    torch.testing.assert_close(reference.sobel_l1_loss(pred, target, l1_weight=0.5, gradient_weight=2.0), expected)


def test_sobel_l1_loss_of_a_unit_ramp_is_one():
    ramp = torch.arange(12.0).expand(1, 1, 10, 12)
    for d in (ramp, ramp.transpose(2, 3)):
        loss = reference.sobel_l1_loss(d, torch.zeros_like(d), l1_weight=0.0)
        torch.testing.assert_close(loss, torch.tensor(1.0))


def test_sobel_l1_loss_counts_whole_valid_neighbourhoods_only():
    pred, target = doubles(1, 1, 9, 11), doubles(1, 1, 9, 11, seed=1)
    valid = torch.ones(1, 1, 9, 11, dtype=torch.bool)
    valid[0, 0, 4, 5] = False
    d = (pred - target).detach()
    interior = torch.ones(1, 1, 7, 9, dtype=torch.bool)
    interior[0, 0, 2:5, 3:6] = False  # the 3×3 centres that see pixel (4, 5)
    gradient_x, gradient_y = sobel_by_convolution(d)
    expected = d.abs()[valid].mean() + (gradient_x.abs() + gradient_y.abs())[interior].mean()
    torch.testing.assert_close(reference.sobel_l1_loss(pred, target, valid), expected)


def test_gradients_of_the_reference():
    weight, bias = doubles(4, seed=2), doubles(4, seed=3)
    content, style = doubles(2, 4, 3, 5), doubles(2, 4, 4, 3, seed=1)
    assert gradcheck(reference.layer_norm_2d, (content, weight, bias))
    assert gradcheck(reference.simple_gate, (content,))
    for correction in (0, 1):
        assert gradcheck(lambda x, y, c=correction: reference.adain(x, y, 1e-3, c), (content, style))
    valid = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(1)) > 0.1
    pair = doubles(1, 1, 6, 5, seed=4), doubles(1, 1, 6, 5, seed=5)
    assert gradcheck(lambda p, t: reference.sobel_l1_loss(p, t, valid, 0.7, 1.3), pair)


def test_gated_depthwise_is_the_sum_over_nine_neighbours():
    x, weight, bias = doubles(2, 6, 4, 5), doubles(6, 1, 3, 3, seed=1), doubles(6, seed=2)
    padded = torch.zeros(2, 6, 6, 7, dtype=torch.float64)
    padded[:, :, 1:-1, 1:-1] = x
    u = bias[:, None, None] + sum(
        weight[:, 0, i, j, None, None] * padded[:, :, i : i + 4, j : j + 5] for i in range(3) for j in range(3)
    )
    gated, mean = reference.gated_depthwise(x, weight, bias)
    torch.testing.assert_close(gated, u[:, :3] * u[:, 3:])
    torch.testing.assert_close(mean, gated.sum((2, 3)) / 20)


def test_a_half_precision_mean_does_not_overflow():
    x = torch.full((1, 2, 40, 50), 30.0, dtype=torch.float16)  # gated 900; 2000 of them are past 65504
    weight = torch.zeros(2, 1, 3, 3)
    weight[:, :, 1, 1] = 1
    _, mean = reference.gated_depthwise(x, weight, torch.zeros(2))
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, torch.full((1, 1), 900.0))


@pytest.mark.parametrize("correction", [0, 1])
def test_adain_follows_from_its_statistics(correction):
    content, style = doubles(2, 3, 5, 4), doubles(2, 3, 6, 7, seed=1) * 3 + 2
    statistics = reference.adain_statistics(content, style, correction)
    mean, variance, style_mean, style_variance = (statistic[:, :, None, None] for statistic in statistics)
    expected = (content - mean) / (variance + 1e-3).sqrt() * (style_variance + 1e-3).sqrt() + style_mean
    torch.testing.assert_close(reference.adain(content, style, 1e-3, correction), expected)
    torch.testing.assert_close(style_variance, style.var((2, 3), correction=correction, keepdim=True))


def test_adain_fusion_has_the_styles_mean_moved_by_the_projection_of_it():
    """Of 1×1 convolutions and of AdaIN the means are known: mean(style) + W · mean(style) + bias."""
    content, style = doubles(2, 3, 5, 4), doubles(2, 3, 5, 4, seed=1) * 3 + 2
    weight, bias = doubles(3, 3, 1, 1, seed=2), doubles(3, seed=3)
    out = reference.adain_fusion(content, style, weight, bias)
    mean = style.mean((2, 3))
    torch.testing.assert_close(out.mean((2, 3)), mean + mean @ weight.flatten(1).T + bias)
    moved = (out - style - bias[:, None, None]).flatten(2)
    torch.testing.assert_close(moved, weight.flatten(1) @ reference.adain(content, style).flatten(2))
    assert gradcheck(reference.adain_fusion, (content, style, weight, bias))


@pytest.mark.parametrize("correction", [0, 1])
def test_adain_gradient_is_the_published_one(correction):
    """x̂ = (x - μx)/σx, a = σy/σx: dx = a(g - mean g - x̂·Σgx̂/(n-c)), dy = Σg/n + (y-μy)/(σy(n-c))·Σgx̂."""
    content, style = doubles(1, 2, 5, 4), doubles(1, 2, 5, 4, seed=1)
    grad = doubles(1, 2, 5, 4, seed=2).detach()
    dx, dy = torch.autograd.grad(reference.adain(content, style, 1e-3, correction), (content, style), grad)

    def centred_and_deviation(x):
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=correction, keepdim=True)
        return x - mean, (variance + 1e-3).sqrt()

    (x, x_deviation), (y, y_deviation) = centred_and_deviation(content), centred_and_deviation(style)
    x_hat = x / x_deviation
    inner = (grad * x_hat).sum(dim=(2, 3), keepdim=True)
    degrees = 20 - correction
    mean_grad = grad.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(dx, y_deviation / x_deviation * (grad - mean_grad - x_hat * inner / degrees))
    torch.testing.assert_close(dy, mean_grad.expand_as(dy) + y / (y_deviation * degrees) * inner)
