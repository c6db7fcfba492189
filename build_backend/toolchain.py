"""What this machine can compile: each function returns None for "yes" or one sentence that says why not."""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from pathlib import Path

REBUILD = "then install depthsr again"


def _switch(name: str) -> str:
    """A build switch from the environment (listed in depthsr/config.py): "auto", "0" or "1"."""
    value = os.environ.get(name, "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"{name} is {value!r}; set it to auto, 0 or 1.")
    return value


def _missing_compiler() -> str | None:
    default = sysconfig.get_config_var("CXX") or ("cl" if os.name == "nt" else "c++")
    compiler = shlex.split(os.environ.get("CXX") or default)[0]
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler ({compiler}): install one (Debian: g++), {REBUILD}"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return f"Python's headers are missing: install them (Debian: python3-dev), {REBUILD}"
    return None


def why_no_native_build() -> str | None:
    """Why no C++ at all is compiled here. Raises SystemExit where DEPTHSR_NATIVE=1 demands it."""
    switch = _switch("DEPTHSR_NATIVE")
    if switch == "0":
        return "the build was asked not to (DEPTHSR_NATIVE=0)"
    reason = _missing_compiler()
    if reason and switch == "1":
        raise SystemExit(f"DEPTHSR_NATIVE=1, but {reason}.")
    return reason


def why_no_cuda_build(torch_cuda_version: str | None, nvcc: str | None) -> str | None:
    """Why the CUDA kernels are not compiled here. Raises SystemExit where DEPTHSR_CUDA=1 demands them.

    torch_cuda_version  the CUDA release torch was built with ("13.0"), None for a CPU torch.
    nvcc                path of the compiler that torch would use, None if it found none.
    """
    switch = _switch("DEPTHSR_CUDA")
    if switch == "0":
        return "the build was asked not to (DEPTHSR_CUDA=0)"
    if torch_cuda_version is None:
        reason = f"the installed torch is a CPU build: install a CUDA one, {REBUILD}"
    elif nvcc is None or not Path(nvcc).exists():
        reason = f"there is no nvcc: install the CUDA toolkit {torch_cuda_version}, {REBUILD}"
    else:
        return None
    if switch == "1":
        raise SystemExit(f"DEPTHSR_CUDA=1, but {reason}.")
    return reason
