"""simple_gate in Triton: what it computes is specified by depthsr/ops/reference.py.

In both layouts the input is, again and again, a run of `inner` values followed by a run of their gates.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import empty_channels_last, launcher

#: Values a program computes: 8 a thread with 4 warps, one 16-byte load each in half precision. Not measured yet.
BLOCK = 1024

#: Elements of the input from which its indices take 64 bits. Each is divided, which takes many times as long then.
WIDE_ELEMENTS = 2**31 - 2 * BLOCK


@triton.jit
def _halves(elements, inner, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """Indices of this program's outputs, of their two inputs, and which of them exist."""
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    i = program * BLOCK + tl.arange(0, BLOCK)
    first = i + i // inner * inner
    return i, first, first + inner, i < elements


@triton.jit
def _forward(x_ptr, out_ptr, elements, inner, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    i, first, second, exists = _halves(elements, inner, WIDE, BLOCK)
    a = tl.load(x_ptr + first, mask=exists, other=0.0).to(tl.float32)
    b = tl.load(x_ptr + second, mask=exists, other=0.0).to(tl.float32)
    tl.store(out_ptr + i, (a * b).to(out_ptr.dtype.element_ty), mask=exists)


@triton.jit
def _backward(grad_ptr, x_ptr, grad_x_ptr, elements, inner, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    i, first, second, exists = _halves(elements, inner, WIDE, BLOCK)
    grad = tl.load(grad_ptr + i, mask=exists, other=0.0).to(tl.float32)
    a = tl.load(x_ptr + first, mask=exists, other=0.0).to(tl.float32)
    b = tl.load(x_ptr + second, mask=exists, other=0.0).to(tl.float32)
    tl.store(grad_x_ptr + first, (grad * b).to(grad_x_ptr.dtype.element_ty), mask=exists)
    tl.store(grad_x_ptr + second, (grad * a).to(grad_x_ptr.dtype.element_ty), mask=exists)


def _inner(x_B2CHW: Tensor) -> int:
    """Length of one run: the halves of a frame when contiguous, of a pixel when channels_last."""
    _, channels, height, width = x_B2CHW.shape
    return channels // 2 * (height * width if x_B2CHW.is_contiguous() else 1)


def _is_wide(x_B2CHW: Tensor) -> bool:
    return bool(x_B2CHW.numel() >= WIDE_ELEMENTS)  # not symbolic, where torch.compile traces: a constant of the kernel


def simple_gate(x_B2CHW: Tensor) -> Tensor:
    """x dense in one of the two layouts; the result has the same."""
    batch, channels, height, width = x_B2CHW.shape
    if x_B2CHW.is_contiguous():
        out = x_B2CHW.new_empty((batch, channels // 2, height, width))
    else:
        out = empty_channels_last(batch, channels // 2, height, width, x_B2CHW)
    elements = out.numel()
    launcher(_forward)[(triton.cdiv(elements, BLOCK),)](
        x_B2CHW, out, elements, _inner(x_B2CHW), WIDE=_is_wide(x_B2CHW), BLOCK=BLOCK
    )
    return out


def simple_gate_backward(grad_BCHW: Tensor, x_B2CHW: Tensor) -> Tensor:
    """grad and x dense in the same layout."""
    grad_x = torch.empty_like(x_B2CHW)
    elements = grad_BCHW.numel()
    launcher(_backward)[(triton.cdiv(elements, BLOCK),)](
        grad_BCHW, x_B2CHW, grad_x, elements, _inner(x_B2CHW), WIDE=_is_wide(x_B2CHW), BLOCK=BLOCK
    )
    return grad_x
