"""Which implementation of an op runs, and why not the others.

Every implementation has one predicate, `why_not`, that returns None or a sentence. Left to choose (`auto`), the first
that may run does, and a fall-back to the reference is logged once with that sentence; when an implementation is forced
with DEPTHSR_BACKEND or `backend(...)`, the same sentence is raised. `depthsr doctor` prints them all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from depthsr import config
from depthsr.compiled import why_no_module
from depthsr.ops import cuda_ops, reference, registration
from depthsr.types import SetupError

logger = logging.getLogger("depthsr.ops")

OPS = (
    "layer_norm_2d", "simple_gate", "gated_depthwise", "adain_statistics", "adain", "adain_fusion", "sobel_l1_loss",
    "naf_block", "fill_holes", "surrounding_measurements", "joint_bilateral_upsample", "mix_candidates",
    "fit_lines", "bilateral_sum",
)  # fmt: skip


class ForcedBackendError(SetupError, RuntimeError):
    """The implementation that was asked for by name cannot compute what it is given."""


@dataclass(frozen=True)
class Implementation:
    """A way to compute the ops on one type of device.

    functions   op name -> function with the reference's signature.
    broken      why none of them can run in this installation, or None.
    by_default  whether `auto` may choose it: not before it has been measured on the device it is for.
    limits      op name -> what else keeps this implementation from computing it on these tensors, or None.
    """

    name: str
    device: str
    dtypes: tuple[torch.dtype, ...]
    functions: dict[str, Callable[..., Any]]
    broken: str | None
    by_default: bool = True
    limits: dict[str, Callable[..., str | None]] = field(default_factory=dict)

    def why_not(self, op: str, tensors: tuple[Tensor, ...]) -> str | None:
        """None if this implementation can compute `op` on these tensors, or one sentence that says why not."""
        if self.broken is not None:
            return self.broken
        if op not in self.functions:
            return f"there is no {self.name} implementation of {op}"
        for tensor in tensors:
            if tensor.device.type != self.device:
                return f"the {self.name} kernels run on {self.device}, and {op} was given a tensor on {tensor.device}"
            if tensor.dtype not in self.dtypes:
                return f"the {self.name} kernels have no {tensor.dtype} version of {op}"
        return self.limits[op](*tensors) if op in self.limits else None


def _why_no_native_naf_block(x_BCHW: Tensor, *weights: Tensor) -> str | None:
    channels = x_BCHW.shape[1]
    return None if channels % 8 == 0 else f"the native naf_block takes a multiple of 8 channels, not {channels}"


_BY_ITS_OWN_NAME = (
    "layer_norm_2d", "simple_gate", "adain", "sobel_l1_loss", "fill_holes", "joint_bilateral_upsample",
    "mix_candidates", "fit_lines", "bilateral_sum",
)  # fmt: skip

NATIVE = Implementation(
    name="native",
    device="cpu",
    dtypes=(torch.float32, torch.float16, torch.bfloat16),
    functions={
        **{op: getattr(torch.ops.depthsr, op).default for op in _BY_ITS_OWN_NAME},
        "adain_fusion": registration.adain_fusion,
        "naf_block": registration.naf_block,
        "surrounding_measurements": registration.surrounding_measurements,
    },
    broken=why_no_module("_C_cpu"),
    limits={
        "naf_block": _why_no_native_naf_block,
        **{op: partial(registration.why_no_gradient, "native", op) for op in registration.WITHOUT_GRADIENT},
    },
)


def why_no_triton() -> str | None:
    """Why Triton kernels cannot run in this installation."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if torch.version.cuda is None and not interpreted:
        return "the installed torch is a CPU build, and Triton kernels run on GPUs"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: it exists for Linux only"
    return None


def _triton() -> Implementation:
    broken = why_no_triton()
    functions: dict[str, Callable[..., Any]] = {}
    limits: dict[str, Callable[..., str | None]] = {}
    if broken is None:
        from depthsr.ops import triton_ops

        ops = tuple(op for op in OPS if op != "sobel_l1_loss")
        functions = {op: getattr(triton_ops, op) for op in ops}
        limits = {op: partial(triton_ops.why_not, op) for op in ops}
    return Implementation(
        name="triton",
        device="cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda",
        dtypes=(torch.float32, torch.float16, torch.bfloat16),
        functions=functions,
        broken=broken,
        by_default=False,  # tested in the interpreter and compiled for GPUs, but no GPU has run or timed them so far
        limits=limits,
    )


TRITON = _triton()

CUDA = Implementation(
    name="cuda",
    device="cuda",
    dtypes=(torch.float32, torch.float16, torch.bfloat16),
    functions={op: getattr(cuda_ops, op) for op in ("gated_depthwise", "adain_statistics", "sobel_l1_loss")},
    broken=why_no_module("_C_cuda"),
    by_default=False,  # tested on the CPU and compiled for GPUs, but no GPU has run or timed them so far
)

#: Beside the reference, the fastest first.
IMPLEMENTATIONS = (NATIVE, CUDA, TRITON)

#: Under torch.compile these stay whole: on a CPU their kernels are faster than what Inductor makes of their references.
#: Of the others, which wait for memory, it makes more by fusing the reference with its neighbours: it cannot look into
#: an op.
BETTER_THAN_COMPILED = ("naf_block", "bilateral_sum", *registration.WITHOUT_GRADIENT)

_backend = config.backend()
_told: set[str] = set()


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Within the block ops use this implementation ("auto" chooses), whatever DEPTHSR_BACKEND says."""
    global _backend
    if name not in config.BACKENDS:
        raise ValueError(f"there is no backend {name!r}; use one of {', '.join(config.BACKENDS)}.")
    before, _backend = _backend, name
    try:
        yield
    finally:
        _backend = before


def active_backend() -> str:
    """The implementation that ops use now, or "auto"."""
    return _backend


def why_not(name: str, op: str, tensors: tuple[Tensor, ...]) -> str | None:
    """Why the implementation called `name` cannot compute `op` on these tensors; None if it can."""
    if name == "reference":
        return None
    for implementation in IMPLEMENTATIONS:
        if implementation.name == name:
            return implementation.why_not(op, tensors)
    return f"this version of depthsr has no {name} implementation"


def is_exporting() -> bool:
    """torch.compiler.is_exporting(), which Dynamo of torch 2.10 and 2.11 takes for True in all it compiles."""
    return torch.compiler._is_exporting_flag


def choose(op: str, *tensors: Tensor) -> Callable[..., Any]:
    """The function that computes `op` on these tensors. Raises ForcedBackendError when a forced one cannot."""
    in_plain_torch = getattr(reference, op)
    # While exporting, the graph must need nothing of this package: ONNX and AOTInductor know torch's own ops.
    if _backend == "reference" or is_exporting():
        return in_plain_torch
    if _backend != "auto":
        reason = why_not(_backend, op, tensors)
        if reason is not None:
            raise ForcedBackendError(f"DEPTHSR_BACKEND is {_backend}, but {reason}; leave it unset or set it to auto.")
        return next(i for i in IMPLEMENTATIONS if i.name == _backend).functions[op]
    compiling = torch.compiler.is_compiling()
    if compiling and op not in BETTER_THAN_COMPILED:
        return in_plain_torch
    if op in registration.WITHOUT_GRADIENT and registration.wants_gradient(*tensors):
        return in_plain_torch  # which alone has one, so that there is nothing to tell
    reasons = []
    for implementation in IMPLEMENTATIONS:
        if not implementation.by_default or implementation.device != tensors[0].device.type:
            continue
        reason = implementation.why_not(op, tensors)
        if reason is None:
            return implementation.functions[op]
        reasons.append(reason)
    for reason in reasons:
        if reason not in _told and not compiling:  # a message would break the graph
            _told.add(reason)
            logger.warning("using the slower reference implementation: %s.", reason)
    return in_plain_torch


assert set(OPS) - {"adain_fusion"} <= set(registration.SCHEMAS)  # which is made of others
