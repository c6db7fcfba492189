"""The Triton kernels in Triton's interpreter, on the CPU.

test_triton.py runs this file in a process of its own: TRITON_INTERPRET has to be set before triton is imported.
"""

from __future__ import annotations

import pytest
import torch

from depthsr import ops
from depthsr.kernels import adain, simple_gate
from depthsr.ops import reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize("op", ["layer_norm_2d", "simple_gate", "adain", "adain_statistics"])
def test_value_and_gradient(op, random_image, size, dtype, layout, close):
    x = random_image((2, 10, *size), dtype, layout)
    weights = [random_image((1, 1, 1, 10), seed=seed).flatten() for seed in (1, 2)]
    style = random_image((2, 10, size[0] + 2, size[1] + 3), dtype, "channels_last", seed=3) * 2 + 1
    tensors, rest = {
        "layer_norm_2d": ((x, *weights), (1e-4,)),
        "simple_gate": ((x,), ()),
        "adain": ((x, style), (1e-2, 1)),
        "adain_statistics": ((x, style), (1,)),
    }[op]
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    leaves64 = [tensor.detach().double().requires_grad_() for tensor in tensors]
    with ops.backend("triton"):
        results = getattr(ops, op)(*leaves, *rest)
    expected = getattr(reference, op)(*leaves64, *rest)
    if op != "adain_statistics":
        results, expected = (results,), (expected,)
    for result, wanted in zip(results, expected, strict=True):
        close(result, wanted.detach())
    grads = [
        random_image((*result.shape, 1, 1)[:4], result.dtype, layout, seed=5 + i).reshape(result.shape)
        for i, result in enumerate(results)
    ]
    gradients = torch.autograd.grad(results, leaves, grads)
    expected_gradients = torch.autograd.grad(expected, leaves64, [grad.double() for grad in grads])
    for i, (gradient, wanted) in enumerate(zip(gradients, expected_gradients, strict=True)):
        close(gradient, wanted, f"gradient of argument {i}")


def test_simple_gate_with_indices_of_64_bits(random_image, monkeypatch, close):
    monkeypatch.setattr(simple_gate, "WIDE_ELEMENTS", 0)
    test_value_and_gradient("simple_gate", random_image, (63, 65), torch.float32, "channels_last", close)


@pytest.mark.parametrize(("low", "size"), [((2, 3), (3, 7)), ((2, 1), (1, 140)), ((5, 6), (2, 3)), ((2, 2), (5, 5))])
def test_joint_bilateral_upsample(low, size, random_image, dtype, layout, close):
    """The last size has fine pixels halfway between two coarse ones."""
    x, coarse_guide = random_image((2, 1, *low), dtype), random_image((2, 3, *low), dtype, seed=1).abs() / 4
    confidence = torch.where(random_image((2, 1, *low), seed=2) > -0.5, 1.0, 0.003)
    guide = torch.nn.functional.interpolate(coarse_guide.float(), size=size)
    guide = (guide + 0.05 * random_image((2, 3, *size), seed=3)).to(dtype)
    if layout == "channels_last":
        guide = guide.contiguous(memory_format=torch.channels_last)
    with ops.backend("triton"):
        out = ops.joint_bilateral_upsample(x, confidence, guide, coarse_guide)
        with pytest.raises(RuntimeError, match="the triton joint_bilateral_upsample has no gradient"):
            ops.joint_bilateral_upsample(x, confidence.requires_grad_(), guide, coarse_guide)
    assert out.dtype == dtype
    tensors = (tensor.detach().double() for tensor in (x, confidence, guide, coarse_guide))
    close(out, reference.joint_bilateral_upsample(*tensors))


@pytest.mark.parametrize("size", [(6, 5), (1, 140)])
def test_bilateral_sum(size, random_image, dtype, layout, close):
    """More columns than one program has; a last program with one map of two."""
    x = random_image((1, 3, *size), dtype, layout)
    guide = (0.05 * random_image((1, 3, *size), layout=layout, seed=1)).to(dtype)
    grad = random_image((1, 3, *size), dtype, seed=2)
    leaf = x.clone().requires_grad_()
    with ops.backend("triton"):
        out = ops.bilateral_sum(leaf, guide)
        (gradient,) = torch.autograd.grad(out, leaf, grad)
    assert out.dtype == dtype
    close(out, reference.bilateral_sum(x.double(), guide.double()))
    close(gradient, reference.bilateral_sum(grad.double(), guide.double()), "gradient")


@pytest.mark.parametrize(
    ("low", "size", "measured"),
    [
        ((6, 8), (13, 140), 0.5),
        ((3, 40), (2, 20), 0.1),
        ((5, 4), (5, 4), 1.0),
        ((2, 3), (3, 5), 0.0),
        ((1, 1), (2, 2), 0.5),
    ],
)
def test_holes(low, size, measured, dtype, random_image, close):
    """NaN in the holes that are to be filled; wider holes than one program's pixels, and nothing but hole."""
    valid = torch.rand(2, 1, *low, generator=torch.Generator().manual_seed(0)) < measured
    x = torch.where(valid, random_image((2, 1, *low)).abs() + 1, torch.nan).to(dtype)
    with ops.backend("triton"):
        filled = ops.fill_holes(x, valid)
        around = ops.surrounding_measurements(filled, valid, size)
        with pytest.raises(RuntimeError, match="the triton fill_holes has no gradient"):
            ops.fill_holes(x.clone().requires_grad_(), valid)
    assert filled.dtype == around.dtype == dtype
    close(filled, reference.fill_holes(x.double(), valid))
    assert torch.equal(around, reference.surrounding_measurements(filled, valid, size))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (6, 140)])
def test_mix_candidates(size, dtype, layout, random_image):
    """A map with more to cut off than the odd row and column; nothing that a network may give overflows."""
    half = [(side + 1) // 2 + 1 for side in size]
    halves = [3 * random_image((2, n, *half), dtype, layout, seed=n) for n in (12, 4)]
    error = 15 * random_image((2, 4, *half), dtype, layout, seed=1)
    candidates, ambiguity = random_image((2, 3, *size)), random_image((2, 1, *size)).abs()
    halves[0][0, :4] = -torch.inf
    with ops.backend("triton"):
        depth, expected = ops.mix_candidates(*halves, error, candidates, ambiguity)
        with pytest.raises(RuntimeError, match="the triton mix_candidates has no gradient"):
            ops.mix_candidates(*halves, error.clone().requires_grad_(), candidates, ambiguity)
    assert depth.dtype == expected.dtype == torch.float32
    exact = [tensor.double() for tensor in (*halves, error, candidates, ambiguity)]
    for result, wanted in zip((depth, expected), reference.mix_candidates(*exact), strict=True):
        torch.testing.assert_close(result.double(), wanted, rtol=2e-6, atol=1e-6)
    assert ((expected > 0) | (ambiguity == 0)).all()


@pytest.mark.parametrize(("size", "window"), [((1, 1), 5), ((7, 5), 1), ((7, 5), 15), ((3, 33), 5)])
def test_fit_lines(size, window, cells_of_lines, close_lines):
    arguments = cells_of_lines(size)
    with ops.backend("triton"):
        results = ops.fit_lines(*arguments, window)
        with pytest.raises(RuntimeError, match="the triton fit_lines has no gradient"):
            ops.fit_lines(arguments[0].clone().requires_grad_(), *arguments[1:], window)
    close_lines(results, arguments, window)


def test_holes_wider_than_the_reach():
    valid = torch.zeros(1, 1, 1, 300, dtype=torch.bool)
    valid[..., 3] = True
    x = torch.where(valid, 5.0, 2.0)
    with ops.backend("triton"):
        around = ops.surrounding_measurements(x, valid, (1, 300))
    assert torch.equal(around, reference.surrounding_measurements(x, valid, (1, 300)))
    assert around[0, 3].eq(5).sum() == reference.REACH_OVER_HOLES


def test_layer_norm_2d_survives_float16_sums_that_overflow(random_image, close):
    x = (random_image((1, 64, 5, 3), torch.float16) * 150).clamp(-1000, 1000)
    with ops.backend("triton"):
        out = ops.layer_norm_2d(x, torch.ones(64), torch.zeros(64))
    close(out, reference.layer_norm_2d(x.double(), torch.ones(64).double(), torch.zeros(64).double()))


@pytest.mark.parametrize("values", [adain.BLOCK_VALUES, 256])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_adain_of_large_mean_and_small_spread(layout, values, random_image, monkeypatch):
    """Depth at 100 m with 0.1 m of spread, in several tiles of which the last is short; with 256 values a tile, more of
    them than are merged at once.
    """
    monkeypatch.setattr(adain, "BLOCK_VALUES", values)
    content = 100 + 0.1 * random_image((1, 24, 17, 23), layout=layout)
    style = random_image((1, 24, 17, 23), layout=layout, seed=1)
    with ops.backend("triton"):
        out = ops.adain(content, style)
    # 100 in float32 is known to 4e-6, a 25,000th of the spread.
    torch.testing.assert_close(out.double(), reference.adain(content.double(), style.double()), rtol=0, atol=1e-4)


def test_adain_of_one_pixel_or_a_constant_is_the_styles_mean(random_image):
    style = random_image((1, 5, 3, 4))
    for content in (random_image((1, 5, 1, 1), seed=1), random_image((1, 5, 1, 1), seed=1).expand(1, 5, 30, 40)):
        with ops.backend("triton"):
            out = ops.adain(content, style)
        torch.testing.assert_close(out, style.mean((2, 3), keepdim=True).expand_as(out))


def test_a_whole_network_runs_on_them(tiny_edge):
    """Forced for every op: what has no Triton kernel would raise."""
    torch.use_deterministic_algorithms(False)  # torch's own upsampling has no deterministic form
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(1, 3, 40, 56, generator=generator)
    depth_m = 1 + 9 * torch.rand(1, 1, 5, 7, generator=generator)
    results = []
    for name in ("triton", "reference"):
        with ops.backend(name):
            results.append(tiny_edge.infer(rgb, depth_m, torch.ones_like(depth_m, dtype=torch.bool))[0])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_a_missing_kernel_is_named(random_image):
    x = random_image((1, 1, 3, 3))
    missing = "there is no triton implementation of sobel_l1_loss"
    with ops.backend("triton"), pytest.raises(RuntimeError, match=missing):
        ops.sobel_l1_loss(x, x)
