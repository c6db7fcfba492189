"""The native CPU kernels against the reference in float64: values, gradients, layouts, types, registration."""

from __future__ import annotations

import pytest
import torch

from depthsr import ops
from depthsr.ops import reference

pytestmark = pytest.mark.usefixtures("native", "poisoned_memory")

OPS = ("layer_norm_2d", "simple_gate", "adain", "sobel_l1_loss")


def arguments(op: str, random_image, size, dtype, layout) -> tuple[tuple[torch.Tensor, ...], tuple]:
    """The differentiable tensors and the other arguments of one call; weights stay float32 as in mixed precision."""
    height, width = size
    if op == "layer_norm_2d":
        x = random_image((2, 37, height, width), dtype, layout)
        weight, bias = random_image((2, 37, 1, 1), seed=1).flatten(1)
        return (x, weight, bias), (1e-4,)
    if op == "simple_gate":
        return (random_image((2, 10, height, width), dtype, layout),), ()
    if op == "adain":
        style = random_image((2, 19, height + 2, width + 3), dtype, layout, seed=1)
        return (random_image((2, 19, height, width), dtype, layout), style * 2 + 1), (1e-3, 1)
    valid = random_image((2, 1, height, width), seed=2) > -1
    pair = random_image((2, 1, height, width), dtype, layout), random_image((2, 1, height, width), dtype, seed=1)
    return pair, (valid, 0.7, 1.3)


@pytest.mark.parametrize("op", OPS)
def test_value_and_gradient(op, random_image, size, dtype, layout, close):
    tensors, rest = arguments(op, random_image, size, dtype, layout)
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    leaves64 = [tensor.detach().double().requires_grad_() for tensor in tensors]
    with ops.backend("native"):
        out = getattr(ops, op)(*leaves, *rest)
    expected = getattr(reference, op)(*leaves64, *rest)
    close(out, expected.detach())

    grad = random_image(tuple(out.shape), out.dtype, layout, seed=5) if out.dim() else torch.tensor(1.5)
    gradients = torch.autograd.grad(out, leaves, grad)
    expected_gradients = torch.autograd.grad(expected, leaves64, grad.double())
    for i, (gradient, expected_gradient, leaf) in enumerate(zip(gradients, expected_gradients, leaves, strict=True)):
        assert gradient.dtype == leaf.dtype
        close(gradient, expected_gradient, f"gradient of argument {i}")


def test_adain_fusion(random_image, size, layout, close):
    """Its convolution is torch's, so float32 alone has a tolerance of its own."""
    content, style = (random_image((2, 19, *size), layout=layout, seed=seed) for seed in range(2))
    weight, bias = random_image((19, 19, 1, 1), seed=2) / 4, random_image((19, 1, 1, 1), seed=3).flatten()
    tensors = [content, style * 2 + 1, weight, bias]
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    leaves64 = [tensor.detach().double().requires_grad_() for tensor in tensors]
    with ops.backend("native"):
        out = ops.adain_fusion(*leaves, 1e-3)
    expected = reference.adain_fusion(*leaves64, 1e-3)
    close(out, expected.detach())
    grad = random_image(tuple(out.shape), layout=layout, seed=5)
    gradients = torch.autograd.grad(out, leaves, grad)
    for i, (gradient, wanted) in enumerate(
        zip(gradients, torch.autograd.grad(expected, leaves64, grad.double()), strict=True)
    ):
        close(gradient, wanted, f"gradient of argument {i}")


@pytest.mark.parametrize("op", OPS)
def test_large_mean_and_small_spread(op, close):
    """Depth at 100 m with 0.1 m of spread."""
    generator = torch.Generator().manual_seed(0)
    images = [100 + 0.1 * torch.randn(1, 8, 40, 30, generator=generator) for _ in range(2)]
    tensors, rest = {
        "layer_norm_2d": ((images[0], torch.ones(8), torch.zeros(8)), (1e-12,)),
        "simple_gate": ((images[0],), ()),
        "adain": (tuple(images), (1e-12, 0)),
        "sobel_l1_loss": ((images[0][:, :1], images[1][:, :1]), ()),
    }[op]
    with ops.backend("native"):
        for layout in (torch.contiguous_format, torch.channels_last):
            given = [t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in tensors]
            out = getattr(ops, op)(*given, *rest).double()
            expected = getattr(reference, op)(*(t.double() for t in given), *rest)
            # The spread, not the mean, has to be right: 1e-3 of it, where E[x²] - E[x]² is wrong by a tenth.
            assert (out - expected).abs().max() <= 1e-3 * (expected.std() if out.dim() else expected.abs())


def test_layer_norm_2d_survives_float16_sums_that_overflow(random_image, close):
    x = (random_image((1, 64, 5, 3), torch.float16) * 150).clamp(-1000, 1000)
    with ops.backend("native"):
        out = ops.layer_norm_2d(x, torch.ones(64), torch.zeros(64))
    close(out, reference.layer_norm_2d(x.double(), torch.ones(64).double(), torch.zeros(64).double()))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_stored_as_torch_stores_it(half):
    """Every bit pattern, through a gate by 1: subnormals, infinities and NaN included; and roundings to even."""
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(half).reshape(1, 1, 256, 256)
    with ops.backend("native"):
        out = ops.simple_gate(torch.cat([values, torch.ones_like(values)], dim=1))
    assert torch.equal(out.nan_to_num(nan=7.0), values.nan_to_num(nan=7.0))
    random = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0)).exp().to(half)
    with ops.backend("native"):
        assert torch.equal(ops.simple_gate(random), random[:, :1] * random[:, 1:])


@pytest.mark.parametrize("op", OPS)
def test_results_do_not_depend_on_the_number_of_threads(op, random_image, layout):
    results = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        tensors, rest = arguments(op, random_image, (63, 65), torch.float32, layout)
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        with ops.backend("native"):
            out = getattr(ops, op)(*leaves, *rest)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, torch.ones_like(out))])
    torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)


@pytest.mark.parametrize("op", OPS)
def test_autocast_changes_nothing(op, random_image, close):
    tensors, rest = arguments(op, random_image, (7, 5), torch.bfloat16, "channels_last")
    with ops.backend("native"):
        plain = getattr(ops, op)(*tensors, *rest)
        with torch.autocast("cpu", torch.bfloat16):
            cast = getattr(ops, op)(*tensors, *rest)
    assert cast.dtype == plain.dtype
    assert torch.equal(cast, plain)


@pytest.mark.parametrize("op", OPS)
def test_opcheck(op, random_image, layout):
    tensors, rest = arguments(op, random_image, (7, 5), torch.float32, layout)
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    function = getattr(torch.ops.depthsr, op).default
    torch.library.opcheck(function, (*leaves, *rest))
    out = function(*tensors, *rest)
    backward = getattr(torch.ops.depthsr, f"{op}_backward").default
    extra = {"layer_norm_2d": (*tensors[:2], *rest), "simple_gate": tensors}.get(op, (*tensors, *rest))
    torch.library.opcheck(backward, (torch.rand_like(out), *extra), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("op", ["layer_norm_2d", "simple_gate", "adain"])
def test_layout_of_the_result(op, random_image):
    with ops.backend("native"):
        for layout, memory_format in (
            ("contiguous", torch.contiguous_format),
            ("channels_last", torch.channels_last),
            ("strided", torch.contiguous_format),
        ):
            tensors, rest = arguments(op, random_image, (7, 5), torch.float32, layout)
            assert getattr(ops, op)(*tensors, *rest).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("op", OPS)
def test_kernels_reject_what_the_public_functions_would(op, random_image):
    function = getattr(torch.ops.depthsr, op).default
    flat = torch.randn(3, 4)
    calls = {
        "layer_norm_2d": [(flat, flat[0], flat[0], 1e-6), (random_image((1, 3, 2, 2)), flat[0], flat[0], 1e-6)],
        "simple_gate": [(flat,), (random_image((1, 3, 2, 2)),), (random_image((1, 4, 2, 2)).double(),)],
        "adain": [(flat, flat, 1e-5, 0), (random_image((1, 3, 2, 2)), random_image((1, 4, 2, 2)), 1e-5, 0)],
        "sobel_l1_loss": [(random_image((1, 2, 3, 3)), random_image((1, 2, 3, 3)), None, 1.0, 1.0)],
    }[op]
    for call in calls:
        with pytest.raises(RuntimeError, match="depthsr: "):
            function(*call)
