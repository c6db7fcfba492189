"""Which kernels the Triton ops launch, told to torch, whose cache of compiled graphs is keyed by their source code.

torch looks for wrap_triton in an op's own source, where this package has none, and would take from its cache, on disk,
what it compiled before a kernel was changed. Launchers and block sizes are in no key all the same: whoever edits those
sets TORCHINDUCTOR_FORCE_DISABLE_CACHES=1.
"""

from __future__ import annotations

import sys

import torch
import triton


def tell_torch_of_kernels() -> None:
    """Every kernel imported so far, to every Triton op registered so far: none is left out, at the cost of milliseconds
    a compilation. Private to torch, and nothing where a release has it no more.
    """
    kernels = {
        f"{kernel.__module__}.{kernel.__name__}": kernel
        for name, module in sys.modules.items()
        if name.startswith("depthsr.kernels.")
        for kernel in vars(module).values()
        if isinstance(kernel, triton.JITFunction) and kernel.__name__.startswith(("_forward", "_backward"))
    }
    known = getattr(torch._library.triton, "triton_ops_to_kernels", {})
    for op in known:
        if op.startswith("depthsr::"):
            known[op] = [kernels[name] for name in sorted(kernels)]
