"""The native CPU kernels on tensors and arrays of random sizes and strides: permuted, cut out, repeated, reversed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from depthsr import ops
from depthsr.ops import reference
from depthsr.ops.choice import why_no_module

pytestmark = pytest.mark.usefixtures("native", "poisoned_memory")

STORAGE = (torch.float32, torch.float16, torch.bfloat16)


def strided(random: np.random.Generator, shape: tuple[int, ...], reverse: bool = False) -> np.ndarray:
    """Normal float32 values of `shape` in memory with another order of axes, with gaps, steps and repeats."""
    order = random.permutation(len(shape))
    steps, starts = random.choice([1, 1, 2, 3], len(shape)), random.integers(0, 3, len(shape))
    extents = starts + steps * shape
    cut = tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True))
    view = random.standard_normal(extents[order], dtype=np.float32).transpose(np.argsort(order))[cut]
    if reverse:
        view = np.flip(view, [axis for axis in range(len(shape)) if random.random() < 0.5])
    if view.size and random.random() < 0.3:
        axis = random.choice([0, 2, 3])  # not the channels: all alike, they would have no variance
        strides = [0 if i == axis else stride for i, stride in enumerate(view.strides)]
        view = np.lib.stride_tricks.as_strided(view, shape, strides)
    return view


def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The array's values, rounded, with its strides."""
    values = torch.from_numpy(array)
    if dtype == torch.float32 or 0 in array.strides:  # what is repeated cannot be copied into
        return values.to(dtype)
    return torch.empty_strided(values.shape, values.stride(), dtype=dtype).copy_(values)


def call(op: str, random: np.random.Generator, image) -> tuple[list[Tensor], tuple]:
    """The tensors of a random call, made by image(shape), and the other arguments."""
    shape = tuple(int(n) for n in (random.integers(1, 4), random.integers(8, 20), *random.integers(1, 30, 2)))
    batch, channels, height, width = shape
    if op == "layer_norm_2d":
        return [image(shape), *torch.from_numpy(random.standard_normal((2, channels, 2), np.float32))[..., 0]], (1e-4,)
    if op == "simple_gate":
        return [image((batch, 2 * channels, height, width))], ()
    if op == "adain":
        return [image(shape), image((batch, channels, width, height))], (1e-3, 1)
    # Multiples of 1/64: differences are exact, and the sign of a gradient is no matter of rounding.
    pair = [(image((batch, 1, height, width)) * 64).round().clamp(-256, 256) / 64 for _ in range(2)]
    return pair, (torch.from_numpy(strided(random, (batch, 1, height, width))) > -1, 0.7, 1.3)


@pytest.mark.parametrize("op", ["layer_norm_2d", "simple_gate", "adain", "sobel_l1_loss"])
@pytest.mark.parametrize("seed", range(12))
def test_tensors(op, seed, close):
    random = np.random.default_rng(seed)
    dtype = STORAGE[seed % 3]
    tensors, rest = call(op, random, lambda shape: tensor(strided(random, shape), dtype))
    leaves = [t.detach().requires_grad_() for t in tensors]
    leaves64 = [t.detach().double().requires_grad_() for t in tensors]
    with ops.backend("native"):
        out = getattr(ops, op)(*leaves, *rest)
    expected = getattr(reference, op)(*leaves64, *rest)
    close(out, expected.detach())
    grad = tensor(strided(random, tuple(out.shape)), out.dtype) if out.dim() else torch.tensor(1.5)
    gradients = torch.autograd.grad(out, leaves, grad)
    expected_gradients = torch.autograd.grad(expected, leaves64, grad.double())
    for i, (gradient, wanted) in enumerate(zip(gradients, expected_gradients, strict=True)):
        close(gradient, wanted, f"gradient of argument {i}")


@pytest.mark.parametrize("op", ["layer_norm_2d", "simple_gate", "adain"])
@pytest.mark.parametrize("seed", range(6))
def test_arrays(op, seed, close):
    """numpy also has reversed axes."""
    if reason := why_no_module("_native"):
        pytest.skip(reason)
    from depthsr import _native

    random = np.random.default_rng(100 + seed)
    arrays = []

    def image(shape: tuple[int, ...]) -> Tensor:
        arrays.append(strided(random, shape, reverse=True))
        return torch.from_numpy(arrays[-1].copy())

    tensors, rest = call(op, random, image)
    vectors = [t.numpy() for t in tensors[len(arrays) :]]
    expected = getattr(reference, op)(*(t.double() for t in tensors), *rest)
    close(torch.from_numpy(getattr(_native, op)(*arrays, *vectors, *rest)), expected)


@pytest.mark.parametrize("shape", [(0, 8, 3, 4), (2, 8, 0, 4), (2, 8, 3, 0)])
def test_naf_block_without_pixels(shape, block_weights):
    """The result is as empty as x, and no parameter has a gradient. (torch's convolutions refuse such a frame.)"""
    x = torch.empty(shape, requires_grad=True)
    weights = [weight.clone().requires_grad_() for weight in block_weights(8)]
    with ops.backend("native"):
        out = ops.naf_block(x, reference.NAFBlockWeights(*weights))
    assert out.shape == x.shape
    for gradient in torch.autograd.grad(out.sum(), weights):
        assert torch.equal(gradient, torch.zeros_like(gradient))
