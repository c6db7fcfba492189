"""The Triton kernels in Triton's interpreter, on the CPU.

test_triton.py runs this file in a process of its own: TRITON_INTERPRET has to be set before triton is imported.
"""

from __future__ import annotations

import pytest
import torch

from depthsr import ops
from depthsr.ops import reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize("op", ["layer_norm_2d", "simple_gate"])
def test_value_and_gradient(op, random_image, size, dtype, layout, close):
    x = random_image((2, 10, *size), dtype, layout)
    weights = [random_image((1, 1, 1, 10), seed=seed).flatten() for seed in (1, 2)]
    tensors, rest = ((x, *weights), (1e-4,)) if op == "layer_norm_2d" else ((x,), ())
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    leaves64 = [tensor.detach().double().requires_grad_() for tensor in tensors]
    with ops.backend("triton"):
        out = getattr(ops, op)(*leaves, *rest)
    expected = getattr(reference, op)(*leaves64, *rest)
    close(out, expected.detach())
    grad = random_image(tuple(out.shape), out.dtype, layout, seed=5)
    gradients = torch.autograd.grad(out, leaves, grad)
    expected_gradients = torch.autograd.grad(expected, leaves64, grad.double())
    for i, (gradient, wanted) in enumerate(zip(gradients, expected_gradients, strict=True)):
        close(gradient, wanted, f"gradient of argument {i}")


@pytest.mark.parametrize(("low", "size"), [((2, 3), (3, 7)), ((2, 1), (1, 140)), ((5, 6), (2, 3)), ((2, 2), (5, 5))])
def test_joint_bilateral_upsample(low, size, random_image, dtype, layout, close):
    """The last size has fine pixels halfway between two coarse ones: which is nearer is float32's rounding."""
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
    tensors = (tensor.detach().float() for tensor in (x, confidence, guide, coarse_guide))
    close(out, reference.joint_bilateral_upsample(*tensors))


def test_layer_norm_2d_survives_float16_sums_that_overflow(random_image, close):
    x = (random_image((1, 64, 5, 3), torch.float16) * 150).clamp(-1000, 1000)
    with ops.backend("triton"):
        out = ops.layer_norm_2d(x, torch.ones(64), torch.zeros(64))
    close(out, reference.layer_norm_2d(x.double(), torch.ones(64).double(), torch.zeros(64).double()))


def test_a_missing_kernel_is_named(random_image):
    x = random_image((1, 4, 3, 3))
    with ops.backend("triton"), pytest.raises(RuntimeError, match="there is no triton implementation of adain"):
        ops.adain(x, x)
