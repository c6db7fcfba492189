"""Schemas, fakes and gradients of the ops that only GPUs have kernels for, with the reference in the kernels' place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from depthsr.ops import reference


def _gated_depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    gated, mean = reference.gated_depthwise(x, weight, bias)
    return gated.contiguous(memory_format=torch.channels_last), mean


def _gated_depthwise_backward(grad: Tensor, grad_mean: Tensor, x: Tensor, weight: Tensor, bias: Tensor):
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    with torch.enable_grad():
        gated, mean = reference.gated_depthwise(*leaves)
        grad_x, grad_weight, grad_bias = torch.autograd.grad((gated, mean), leaves, (grad, grad_mean))
    return grad_x.contiguous(memory_format=torch.channels_last), grad_weight.float(), grad_bias.float()


def _adain_statistics(content: Tensor, style: Tensor, correction: int) -> tuple[Tensor, ...]:
    return tuple(statistic.clone() for statistic in reference.adain_statistics(content, style, correction))


@pytest.fixture(scope="module", autouse=True)
def reference_as_the_kernels():
    with torch.library._scoped_library("depthsr", "IMPL") as library:
        library.impl("gated_depthwise", _gated_depthwise, "CPU")
        library.impl("gated_depthwise_backward", _gated_depthwise_backward, "CPU")
        library.impl("adain_statistics", _adain_statistics, "CPU")
        yield


def calls(random_image) -> dict[str, tuple]:
    x = random_image((2, 6, 7, 5), layout="channels_last")
    weight, bias = random_image((6, 1, 3, 3), seed=1), random_image((6, 1, 1, 1), seed=2).flatten()
    content, style = random_image((2, 3, 7, 5)), random_image((2, 3, 4, 6), seed=1)
    return {
        "gated_depthwise": ((x, weight, bias), ()),
        "adain_statistics": ((content, style), (1,)),
    }


@pytest.mark.parametrize("op", ["gated_depthwise", "adain_statistics"])
def test_opcheck(op, random_image):
    tensors, rest = calls(random_image)[op]
    leaves = [tensor.requires_grad_() for tensor in tensors]
    torch.library.opcheck(getattr(torch.ops.depthsr, op).default, (*leaves, *rest))


@pytest.mark.parametrize("op", ["gated_depthwise", "adain_statistics"])
def test_gradients(op, random_image):
    """Against autograd through the reference, with a different gradient for every result."""
    tensors, rest = calls(random_image)[op]
    leaves = [tensor.requires_grad_() for tensor in tensors]
    results = getattr(torch.ops.depthsr, op).default(*leaves, *rest)
    expected = getattr(reference, op)(*leaves, *rest)
    grads = [torch.randn(out.shape, generator=torch.Generator().manual_seed(i)) for i, out in enumerate(expected)]
    for i, (gradient, wanted) in enumerate(
        zip(torch.autograd.grad(results, leaves, grads), torch.autograd.grad(expected, leaves, grads), strict=True)
    ):
        torch.testing.assert_close(gradient, wanted, msg=lambda text, i=i: f"gradient of argument {i}: {text}")
