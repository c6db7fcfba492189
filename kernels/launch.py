"""How kernels are launched, on a GPU and in Triton's interpreter."""

from __future__ import annotations

import torch
import triton

#: TRITON_INTERPRET=1 as Triton saw it when it was imported: kernels then run in Python, on CPU tensors.
INTERPRETED = bool(triton.knobs.runtime.interpret)


def launcher(kernel):
    """The kernel in the form that torch.compile sees through; the interpreter's has no such form."""
    return kernel if INTERPRETED else torch.library.wrap_triton(kernel)
