"""The Triton kernels of a NAFNet block in Triton's interpreter, on the CPU, against the reference in float64.

test_triton.py runs this file in a process of its own. float32 and float16 only: the interpreter multiplies bfloat16
matrices wrongly, so that type is known by compilation alone. One program after the other in Python: frames are tiny, or
tiles large.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from triton.runtime.interpreter import interpreter_builder

from depthsr import ops
from depthsr.kernels import block_sizes, gated_depthwise
from depthsr.kernels.block_sizes import ANY, Blocks
from depthsr.kernels.channel_attention import channel_attention
from depthsr.kernels.fold_naf_block import fold_naf_block as fold_naf_block_kernel
from depthsr.ops import reference, triton_ops
from depthsr.ops.fold import fold_naf_block
from depthsr.ops.reference import NAFBlockWeights

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.fixture(autouse=True)
def unchecked_overflow(monkeypatch):
    """The interpreter's check of every integer operation doubles the time; indices here are far from 2^31."""
    options = dataclasses.replace(interpreter_builder.options, sanitize_overflow=False)
    monkeypatch.setattr(interpreter_builder, "options", options)


@pytest.fixture
def tiles(monkeypatch) -> Callable[..., None]:
    """tiles(pixels, columns): every kernel's tiles have so many, whatever the table says."""

    def use(pixels: int, columns: int = 16) -> None:
        for entries in block_sizes.TABLE.values():
            for key in list(entries):
                monkeypatch.setitem(entries, key, Blocks(pixels, columns, 4))
        if pixels > 1000:
            monkeypatch.setattr(gated_depthwise, "ROWS", 32)

    return use


def root_mean_square(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


def as_good_as_the_reference(result: Tensor, in_half: Tensor, expected: Tensor, what: str) -> None:
    """Its error at most 1.5 times that of the reference run in the same half precision, or one rounding."""
    error = root_mean_square(result.double() - expected)
    allowed = 1.5 * root_mean_square(in_half.double() - expected)
    rounding = 0.5 * torch.finfo(torch.float16).eps * root_mean_square(expected)
    assert error <= max(allowed, rounding), f"{what}: error {error:.3g}, the reference's {allowed / 1.5:.3g}"


def value_and_gradients(function, tensors, grad) -> tuple[Tensor, ...]:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))


def compare(function, specification, tensors: tuple[Tensor, ...], names, close, grad: Tensor) -> None:
    """Value and all gradients. float32: within the ops' tolerance; float16: as near as the reference in float16.

    Weights are float32 as in mixed precision: both round them to float16, the kernels after folding.
    """
    results = value_and_gradients(function, tensors, grad)
    expected = value_and_gradients(specification, [tensor.double() for tensor in tensors], grad.double())
    in_half = expected
    if tensors[0].dtype == torch.float16:
        in_half = value_and_gradients(specification, [tensor.half() for tensor in tensors], grad.half())
    for what, result, half, wanted in zip(("value", *names), results, in_half, expected, strict=True):
        assert not result.isnan().any(), what
        if tensors[0].dtype == torch.float16:
            as_good_as_the_reference(result, half, wanted, what)
        else:
            close(result, wanted, what)


def block(x: Tensor, *weights: Tensor) -> Tensor:
    with ops.backend("triton"):
        return ops.naf_block(x, NAFBlockWeights(*weights))


def specified_block(x: Tensor, *weights: Tensor) -> Tensor:
    return reference.naf_block(x, NAFBlockWeights(*weights))


@pytest.mark.parametrize(
    ("shape", "pixels", "dtype", "layout"),
    [
        ((1, 16, 1, 1), 16, torch.float32, "contiguous"),
        ((2, 16, 7, 5), 32, torch.float32, "channels_last"),  # several tiles, the last one ragged, in two frames
        ((2, 16, 7, 5), 64, torch.float16, "strided"),
        ((1, 16, 63, 65), 2048, torch.float32, "contiguous"),
        ((1, 16, 63, 65), 2048, torch.float16, "channels_last"),
        ((1, 24, 5, 3), 16, torch.float32, "channels_last"),  # neither a power of two nor a whole number of columns
        ((1, 8, 5, 3), 16, torch.float32, "contiguous"),  # less than a dot product takes
        ((1, 136, 3, 5), 16, torch.float16, "contiguous"),  # K3 as two kernels
    ],
    ids=str,
)
def test_naf_block(shape, pixels, dtype, layout, tiles, random_image, block_weights, close):
    tiles(pixels, columns=16 if shape[1] < 100 else 64)
    x = random_image(shape, dtype, layout)
    weights = block_weights(shape[1])
    grad = random_image(shape, dtype, layout, seed=5)
    compare(block, specified_block, (x, *weights), ("x", *NAFBlockWeights._fields), close, grad)


def test_naf_block_of_weights_in_half_precision(tiles, random_image, block_weights):
    """They are folded in float32, and their gradients have their type."""
    tiles(64)
    x, grad = random_image((1, 16, 3, 5), torch.float16), random_image((1, 16, 3, 5), torch.float16, seed=5)
    weights = block_weights(16, torch.float16)
    out, *gradients = value_and_gradients(block, (x, *weights), grad)
    wider, *wider_gradients = value_and_gradients(block, (x, *(weight.float() for weight in weights)), grad)
    assert torch.equal(out, wider)
    for gradient, wanted in zip(gradients, wider_gradients, strict=True):
        assert gradient.dtype == torch.float16
        torch.testing.assert_close(gradient, wanted.half(), rtol=1e-3, atol=0)


def test_the_same_result_every_time(tiles, random_image, block_weights):
    tiles(32)
    x, weights = random_image((1, 16, 5, 6)), block_weights(16)
    grad = random_image((1, 16, 5, 6), seed=5)
    first = value_and_gradients(block, (x, *weights), grad)
    second = value_and_gradients(block, (x, *weights), grad)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_gated_depthwise_with_the_gradient_of_its_mean(tiles, random_image, close):
    tiles(32)
    x, grad, grad_mean = (random_image((2, c, 5, 7), seed=c) for c in (10, 5, 6))
    weight, bias = random_image((10, 1, 3, 3), seed=1), random_image((1, 1, 1, 10), seed=2).flatten()

    def loss(implementation, *leaves):
        gated, mean = implementation(*leaves)
        return (gated * grad).sum() + (mean * grad_mean[:, :5, 0, 0]).sum()

    with ops.backend("triton"):
        results = value_and_gradients(
            lambda *leaves: loss(ops.gated_depthwise, *leaves), (x, weight, bias), torch.ones(())
        )
    tensors = tuple(tensor.double() for tensor in (x, weight, bias))
    expected = value_and_gradients(lambda *leaves: loss(reference.gated_depthwise, *leaves), tensors, torch.ones(()))
    for what, result, wanted in zip(("value", "x", "weight", "bias"), results, expected, strict=True):
        close(result, wanted, what)


def test_the_mean_of_a_gate_survives_float16_sums_that_overflow(tiles):
    tiles(2048)
    u = torch.full((1, 32, 63, 65), 12.0, dtype=torch.float16).contiguous(memory_format=torch.channels_last)
    centre_only = torch.zeros(9, 32)
    centre_only[4] = 1
    y, pooled = gated_depthwise.gated_depthwise(u, centre_only, torch.zeros(32))
    assert y.float().sum((2, 3)).min() > torch.finfo(torch.float16).max
    torch.testing.assert_close(y, torch.full_like(y, 144))
    torch.testing.assert_close(pooled, torch.full((1, 16), 144.0))


def test_channel_attention_of_a_frame_of_many_tiles(random_image, close):
    """More than a step takes, and a last step that is short."""
    partial, attention = random_image((1, 2, 1000, 24))[0] + 1, random_image((1, 1, 24, 24), seed=1)[0, 0]
    bias = random_image((1, 1, 1, 24), seed=2).flatten()
    pooled, scale = channel_attention(partial, 4096, attention, bias)
    expected = partial.double().sum(1) / 4096
    close(pooled, expected, "pooled")
    close(scale, expected @ attention.double().T + bias.double(), "scale")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 16, 7, 5), torch.float32), ((1, 16, 63, 65), torch.float16), ((1, 40, 3, 5), torch.float32)],
    ids=str,
)
def test_feed_forward_alone(shape, dtype, tiles, random_image, block_weights, close):
    tiles(64 if shape[2] < 10 else 2048)
    channels = shape[1]
    weights = block_weights(channels)
    p = fold_naf_block(weights)
    ones, zeros = torch.ones(channels), torch.zeros(channels)

    def half_block(r, expand, expand_bias, project, project_bias):
        normalised = reference.layer_norm_2d(r, ones.to(r.dtype), zeros.to(r.dtype))
        gated = reference.simple_gate(F.conv2d(normalised, expand[:, :, None, None], expand_bias))
        return r + F.conv2d(gated, project[:, :, None, None], project_bias)

    tensors = random_image(shape, dtype), p.expand, p.expand_bias, p.project, p.project_bias
    names = ("r", "expand", "expand_bias", "project", "project_bias")
    grad = random_image(shape, dtype, seed=5)
    compare(lambda *leaves: triton_ops.feed_forward(*leaves, 1e-6), half_block, tensors, names, close, grad)


def test_feed_forward_is_the_second_half_of_a_block(tiles, random_image, block_weights, close):
    """With beta zero the first half is the identity."""
    tiles(64)
    weights = block_weights(16)._replace(beta=torch.zeros(1, 16, 1, 1))
    x, p = random_image((2, 16, 7, 5)), fold_naf_block(weights)
    out = triton_ops.feed_forward(x, p.expand, p.expand_bias, p.project, p.project_bias, 1e-6)
    close(out, reference.naf_block(x.double(), NAFBlockWeights(*(w.double() for w in weights))))


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [16, 40])
def test_weights_are_folded_in_one_launch(channels, stored, block_weights, close):
    """As fold.fold_naf_block folds them, rounded once to the type of the matrices; the rest stays as it is stored."""
    weights = block_weights(channels, stored)
    for dtype in (torch.float32, torch.float16):
        folded, expected = fold_naf_block_kernel(weights, dtype), fold_naf_block(weights)
        for name, result, wanted in zip(folded._fields, folded, expected, strict=True):
            matrix = name in ("conv1", "conv3", "expand", "project")
            untouched = name in ("depthwise", "depthwise_bias", "attention", "attention_bias")
            assert result.dtype == (dtype if matrix else stored if untouched else torch.float32), name
            close(result, wanted.to(result.dtype), name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_block_without_gradients(dtype, tiles, random_image, block_weights, close):
    """The way of a network that is only used, with weights stored in half precision, in two frames of several tiles.

    Weights that were changed in place are seen.
    """
    tiles(32)
    x, weights = random_image((2, 24, 7, 5), dtype), block_weights(24, torch.float16)
    for change in (1.0, 1.5):
        weights.conv5_weight.mul_(change)
        with torch.no_grad(), ops.backend("triton"):
            out = ops.naf_block(x, weights)
        expected = specified_block(x.double(), *(weight.double() for weight in weights))
        if dtype == torch.float32:
            close(out, expected)
        else:
            as_good_as_the_reference(out, specified_block(x, *weights), expected, "value")


def statistics(content: Tensor, style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre, scale and shift of AdaIN with its default eps, exact."""
    content, style = content.double().flatten(2), style.double().flatten(2)
    scale = ((style.var(2, correction=0) + 1e-5) / (content.var(2, correction=0) + 1e-5)).sqrt()
    return content.mean(2), scale, style.mean(2)


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((2, 16, 7, 5), torch.float32, "strided"),
        ((1, 24, 1, 3), torch.float32, "contiguous"),
        ((1, 16, 63, 65), torch.float16, "channels_last"),
    ],
    ids=str,
)
def test_adain_with_its_projection(shape, dtype, layout, tiles, random_image, close):
    tiles(64 if shape[2] < 10 else 2048)
    content, style = random_image(shape, dtype, layout), random_image(shape, dtype, layout, seed=1) * 2 + 1
    weight = random_image((1, 1, shape[1], shape[1]), seed=2)[0, 0] / 4
    bias = random_image((1, 1, 1, shape[1]), seed=3).flatten()
    vectors = tuple(vector.float() for vector in statistics(content, style))

    def specification(x, residual, centre, scale, shift, weight, bias):
        centre, scale, shift = (vector[:, :, None, None].to(x.dtype) for vector in (centre, scale, shift))
        return residual + F.conv2d((x - centre) * scale + shift, weight[:, :, None, None], bias)

    tensors = content, style, *vectors, weight, bias
    names = ("x", "residual", "centre", "scale", "shift", "weight", "bias")
    grad = random_image(shape, dtype, layout, seed=5)
    compare(triton_ops.scaled_conv1x1, specification, tensors, names, close, grad)


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [((2, 16, 7, 5), torch.float32, "strided"), ((1, 24, 3, 4), torch.float16, "channels_last")],
    ids=str,
)
def test_adain_fusion(shape, dtype, layout, tiles, random_image, close):
    """The network's: statistics and all."""
    tiles(16)
    content, style = random_image(shape, dtype, layout), random_image(shape, dtype, layout, seed=1) * 2 + 1
    weight = random_image((1, 1, shape[1], shape[1]), seed=2).reshape(shape[1], shape[1], 1, 1) / 4
    bias = random_image((1, 1, 1, shape[1]), seed=3).flatten()

    def fusion(*tensors: Tensor) -> Tensor:
        with ops.backend("triton"):
            return ops.adain_fusion(*tensors)

    grad = random_image(shape, dtype, layout, seed=5)
    compare(fusion, reference.adain_fusion, (content, style, weight, bias), ("content", "style", "weight", "bias"),
            close, grad)  # fmt: skip


def test_adain_of_large_mean_and_small_spread(tiles, random_image):
    """Depth at 100 m with 0.1 m of spread: centred before it is scaled, nothing cancels."""
    tiles(64)
    content, style = 100 + 0.1 * random_image((1, 16, 7, 5)), random_image((1, 16, 7, 5), seed=1)
    vectors = tuple(vector.float() for vector in statistics(content, style))
    out = triton_ops.scaled_conv1x1(content, style, *vectors, torch.eye(16), torch.zeros(16))
    expected = style.double() + reference.adain(content.double(), style.double())
    # 100 in float32 is known to 4e-6, a 25,000th of the spread.
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "dtype", "most"),
    [(264, torch.float16, "256 channels, not 264"), (136, torch.float32, "128 channels in")],
)
def test_too_many_channels_are_named(channels, dtype, most, random_image, block_weights):
    with ops.backend("triton"), pytest.raises(RuntimeError, match=f"naf_block take at most {most}"):
        ops.naf_block(random_image((1, channels, 1, 1), dtype), block_weights(channels))


def test_an_entry_for_an_architecture_comes_before_the_guess(monkeypatch):
    measured = Blocks(32, 16, 2)
    monkeypatch.setitem(block_sizes.TABLE["input"], (16, 4, 86), measured)
    x = torch.ones(1, 16, 1, 1)
    assert block_sizes.blocks_for("input", x, 9) == block_sizes.TABLE["input"][16, 4, ANY] != measured
    monkeypatch.setattr(block_sizes, "architecture_of", lambda _: 86)
    assert block_sizes.blocks_for("input", x, 9) == measured
    with pytest.raises(ValueError, match="at most 256 channels, not 257"):
        block_sizes.blocks_for("input", x, 257)
