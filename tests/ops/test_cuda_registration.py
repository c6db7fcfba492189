"""Schemas, fakes and gradients of the ops that only GPUs have kernels for, with the reference in the kernels' place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.ops import cuda_ops, reference


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


def _with_slopes(pred: Tensor, target: Tensor, valid: Tensor, l1_weight: float, gradient_weight: float):
    """Slopes as csrc/cuda/sobel_l1_loss.cu packs them; scales are the factors of the sign and of an eighth."""
    d = torch.where(valid, pred - target, 0.0)
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])[None, None] / 8
    interior = -F.max_pool2d(-valid.float(), 3, 1)
    interior_count = interior.sum().clamp(min=1)
    transposed = sum(F.conv_transpose2d(F.conv2d(d, k).sign() * interior, k) for k in (sobel, sobel.mT))
    slopes = (d.sign() + 1) * 33 + (8 * transposed).round() + 16
    scales = torch.stack([l1_weight / valid.sum().clamp(min=1), gradient_weight / 8 / interior_count])
    loss = reference.sobel_l1_loss(pred, target, valid, l1_weight, gradient_weight)
    return loss, slopes.flatten().to(torch.uint8), scales


def _from_slopes(grad: Tensor, slopes: Tensor, scales: Tensor, pred: Tensor) -> Tensor:
    sign, eight_transposed = slopes.int() // 33 - 1, slopes.int() % 33 - 16
    return (grad * (scales[0] * sign + scales[1] * eight_transposed)).reshape(pred.shape).to(pred.dtype)


@pytest.fixture(scope="module", autouse=True)
def reference_as_the_kernels():
    with torch.library._scoped_library("depthsr", "IMPL") as library:
        library.impl("gated_depthwise", _gated_depthwise, "CPU")
        library.impl("gated_depthwise_backward", _gated_depthwise_backward, "CPU")
        library.impl("adain_statistics", _adain_statistics, "CPU")
        library.impl("sobel_l1_loss_with_slopes", _with_slopes, "CPU")
        library.impl("sobel_l1_loss_from_slopes", _from_slopes, "CPU")
        yield


def calls(random_image) -> dict[str, tuple]:
    x = random_image((2, 6, 7, 5), layout="channels_last")
    weight, bias = random_image((6, 1, 3, 3), seed=1), random_image((6, 1, 1, 1), seed=2).flatten()
    content, style = random_image((2, 3, 7, 5)), random_image((2, 3, 4, 6), seed=1)
    return {
        "gated_depthwise": ((x, weight, bias), ()),
        "adain_statistics": ((content, style), (1,)),
        "sobel_l1_loss_with_slopes": (
            (content[:, :1].clone(), content[:, 1:2].clone()),
            (content[:, 2:] > -1, 0.7, 1.3),
        ),
    }


@pytest.mark.parametrize("op", ["gated_depthwise", "adain_statistics", "sobel_l1_loss_with_slopes"])
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


def test_the_loss_takes_its_gradient_from_the_slopes(random_image):
    """And for the target the negative; both through cuda_ops, which chooses the op by whether a gradient is wanted."""
    (pred, target), rest = calls(random_image)["sobel_l1_loss_with_slopes"]
    leaves = [pred.requires_grad_(), target.requires_grad_()]
    loss, expected = cuda_ops.sobel_l1_loss(*leaves, *rest), reference.sobel_l1_loss(*leaves, *rest)
    torch.testing.assert_close(loss, expected)
    for gradient, wanted in zip(
        torch.autograd.grad(loss * 1.5, leaves), torch.autograd.grad(expected * 1.5, leaves), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)
