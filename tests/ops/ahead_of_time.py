"""Triton kernels compiled for GPUs that are not here, exactly as the package would launch them.

The package's own launch code runs on meta tensors, with a launcher that records instead of launching: kernels, types
and block sizes are then those of a real call.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
_OPTIONS = ("num_warps", "num_stages")


@dataclass(frozen=True)
class Launch:
    """One kernel with the types of its arguments: what Triton compiles once."""

    kernel: triton.JITFunction
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, object], ...]
    options: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        return f"{self.kernel.fn.__module__.rsplit('.', 1)[-1]}.{self.kernel.fn.__name__} {dict(self.constants)}"


@dataclass(frozen=True)
class Resources:
    """registers a thread; stack_bytes a thread, which are spilled registers; shared_bytes a program."""

    registers: int
    stack_bytes: int
    shared_bytes: int


def _launch(kernel, arguments, keywords) -> Launch:
    signature = {}
    for name, value in zip(kernel.arg_names, arguments, strict=False):
        signature[name] = _TYPES[value.dtype] if isinstance(value, Tensor) else {int: "i32", float: "fp32"}[type(value)]
    constants = {name: value for name, value in keywords.items() if name not in _OPTIONS}
    signature |= dict.fromkeys(constants, "constexpr")
    options = {name: value for name, value in keywords.items() if name in _OPTIONS}
    return Launch(kernel, tuple(signature.items()), tuple(constants.items()), tuple(options.items()))


def launches_of(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> list[Launch]:
    """Every launch of `call`, once, in order."""
    recorded: dict[Launch, None] = {}

    class Recorder:
        def __init__(self, kernel) -> None:
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *arguments, **keywords: recorded.setdefault(_launch(self.kernel, arguments, keywords))

    with monkeypatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("depthsr.kernels.") and hasattr(module, "launcher"):
                patch.setattr(module, "launcher", Recorder)
        call()
    return list(recorded)


@functools.cache
def compile_for(launch: Launch, architecture: int) -> Resources:
    """Pointers are taken to be aligned to 16 bytes, as torch's are."""
    aligned = {
        (index,): [["tt.divisibility", 16]] for index, (_, kind) in enumerate(launch.signature) if kind.startswith("*")
    }
    source = ASTSource(launch.kernel, dict(launch.signature), dict(launch.constants), aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=dict(launch.options))
    return _resources(compiled)


def _resources(compiled) -> Resources:
    # From standard input cuobjdump reads nothing: it wants a file.
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    return Resources(int(registers), int(stack), compiled.metadata.shared)
