"""How kernels are launched, on a GPU and in Triton's interpreter, and where their results go."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

#: TRITON_INTERPRET=1 as Triton saw it when it was imported: kernels then run in Python, on CPU tensors.
INTERPRETED = bool(triton.knobs.runtime.interpret)


def launcher(kernel):
    """The kernel in the form that torch.compile sees through; the interpreter's has no such form."""
    return kernel if INTERPRETED else torch.library.wrap_triton(kernel)


def empty_channels_last(batch: int, channels: int, height: int, width: int, like: Tensor) -> Tensor:
    """Room for an image of `like`'s type and device. Of torch.empty with a memory_format, Inductor of torch 2.11 makes
    one more kernel, which fills it with NaN.
    """
    return torch.empty((batch, height, width, channels), dtype=like.dtype, device=like.device).permute(0, 3, 1, 2)
