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


def _folder_by_nvcc(nvcc: str) -> Path | None:
    """The toolkit's folder by nvcc's own account: the nvcc on PATH may be a script that calls one elsewhere."""
    try:
        answer = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None  # not an nvcc that runs here
    found = re.search(r"^#\$ _HERE_=(.+)$", answer.stdout + answer.stderr, re.MULTILINE)
    return Path(found.group(1)).parent if found else None


def find_cuda_home() -> Path | None:
    """The CUDA toolkit's folder: CUDA_HOME or CUDA_PATH, else that of the nvcc on PATH, else /usr/local/cuda."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if folder := os.environ.get(name):
            return Path(folder)
    if (nvcc := shutil.which("nvcc")) and (folder := _folder_by_nvcc(nvcc)):
        return folder
    usual = Path("/usr/local/cuda")
    return usual if (usual / "bin/nvcc").exists() else None


def _nvcc_release(cuda_home: Path | None) -> str | None:
    """The release of the CUDA toolkit's compiler ("13.0"), None where there is none."""
    if cuda_home is None or shutil.which("nvcc", path=str(cuda_home / "bin")) is None:
        return None
    answer = subprocess.run([cuda_home / "bin/nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", answer)
    return found.group(1) if found else None


def _libraries(cuda_home: Path) -> Path:
    """Where torch's build links the CUDA runtime from."""
    return cuda_home / "lib64" if (cuda_home / "lib64").exists() else cuda_home / "lib"


def why_no_cuda_build(torch_cuda: str | None, cuda_home: Path | None) -> str | None:
    """Why the CUDA kernels are not compiled here. Raises SystemExit where DEPTHSR_CUDA=1 demands them.

    torch_cuda  the CUDA release torch was built with ("13.0"), None for a CPU torch.
    cuda_home   what `find_cuda_home` found.
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
    elif os.name != "nt" and not (_libraries(cuda_home) / "libcudart.so").exists():
        reason = (
            f"there is no libcudart.so in {_libraries(cuda_home)}: install the CUDA runtime's development files there, "
            f"or set CUDA_HOME to the folder of a whole toolkit {torch_cuda}, {REBUILD}"
        )
    else:
        return None
    if switch == "1":
        raise SystemExit(f"DEPTHSR_CUDA=1, but {reason}.")
    return reason
