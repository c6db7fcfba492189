"""What this machine can compile: each function returns None for "yes" or one sentence that says why not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

REBUILD = "then install depthsr again"


def _switch(name: str) -> str:
    """A build switch from the environment (listed in depthsr/config.py): "auto", "0" or "1"."""
    value = os.environ.get(name, "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"{name} is {value!r}; set it to auto, 0 or 1.")
    return value


def without_torch() -> bool:
    """Whether the package is wanted without torch: for the native runtime alone."""
    if (switch := _switch("DEPTHSR_TORCH")) == "1":
        raise SystemExit("DEPTHSR_TORCH is '1'; set it to auto or 0.")
    return switch == "0"


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


def _nvcc_release(cuda_home: str | None) -> str | None:
    """The release of the CUDA toolkit's compiler ("13.0"), None where there is none."""
    nvcc = Path(cuda_home or "", "bin", "nvcc")
    if cuda_home is None or not nvcc.exists():
        return None
    answer = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", answer)
    return found.group(1) if found else None


def why_no_cuda_build(torch_cuda: str | None, cuda_home: str | None) -> str | None:
    """Why the CUDA kernels are not compiled here. Raises SystemExit where DEPTHSR_CUDA=1 demands them.

    torch_cuda  the CUDA release torch was built with ("13.0"), None for a CPU torch.
    cuda_home   folder of the CUDA toolkit that torch would use, None if it found none.
    """
    switch = _switch("DEPTHSR_CUDA")
    if switch == "0":
        return "the build was asked not to (DEPTHSR_CUDA=0)"
    if torch_cuda is None:
        reason = f"the installed torch is a CPU build: install a CUDA one, {REBUILD}"
    elif (release := _nvcc_release(cuda_home)) is None:
        reason = f"there is no nvcc: install the CUDA toolkit {torch_cuda}, {REBUILD}"
    elif release.split(".")[0] != torch_cuda.split(".")[0]:
        reason = f"nvcc is of CUDA {release} and torch of {torch_cuda}: install the toolkit {torch_cuda}, {REBUILD}"
    else:
        return None
    if switch == "1":
        raise SystemExit(f"DEPTHSR_CUDA=1, but {reason}.")
    return reason
