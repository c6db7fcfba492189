"""Which runtime computes a model: PyTorch, on any device, or the native one, in C++ on the CPU.

Decided without importing torch, which takes longer than restoring a frame.
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from depthsr import config
from depthsr.compiled import why_no_module
from depthsr.model_files import model_folder, read_config
from depthsr.types import UserError


def choose_runtime(
    runtime: str, name_or_path: str | Path = "edge", device: str = "auto", dtype: Any = "auto"
) -> tuple[str, str | None]:
    """ "torch" or "native" for one of config.RUNTIMES and what infer.load is given; and why, where "auto" chose.

    Raises UserError for another runtime, for torch where there is none, and for a model that cannot be read.
    """
    if runtime not in config.RUNTIMES:
        raise UserError(f"runtime {runtime!r} is unknown; choose one of {', '.join(config.RUNTIMES)}.")
    if runtime == "torch" and find_spec("torch") is None:
        raise UserError(
            f"torch is not installed; {config.INSTALL_TORCH}, or use --runtime native, for all models but base."
        )
    return choose_automatically(name_or_path, device, dtype) if runtime == "auto" else (runtime, None)


def choose_automatically(
    name_or_path: str | Path = "edge", device: str = "auto", dtype: Any = "auto"
) -> tuple[str, str]:
    """What "auto" means here: the runtime, and why it.

    On a CPU the native one is the faster and starts sooner. Without torch it is the only one, also for what it cannot
    do: its own message then says what is missing.
    """
    if find_spec("torch") is None:
        return "native", "torch is not installed"
    if (backend := config.backend()) != "auto":
        return "torch", f"DEPTHSR_BACKEND is {backend}, which is about its ops"
    if device not in ("auto", "cpu"):
        return "torch", f"the device is {device}"
    if not isinstance(dtype, str):
        return "torch", f"the precision is {dtype}"
    if reason := why_no_module("_native"):
        return "torch", reason
    model = read_config(model_folder(name_or_path))
    if model.takes_relative:
        return "torch", f"the native runtime has no Depth Anything, which {name_or_path} needs"
    if departures := model.departures():
        return "torch", f"the native runtime does not know {', '.join(departures)}, which {name_or_path} has"
    if any(width % 8 for width in model.widths):
        return "torch", "the native runtime takes multiples of 8 channels"
    if device == "cpu":
        return "native", "the device is the CPU"
    reason = why_no_gpu()
    return ("torch", "there is a GPU") if reason is None else ("native", f"on the CPU, as {reason}")


def why_no_gpu() -> str | None:
    """Why the installed torch would compute on the CPU; None where it has a GPU, or may have."""
    spec = find_spec("torch")
    folders = (spec and spec.submodule_search_locations) or ()
    libraries = [path.name for folder in folders for path in Path(folder, "lib").glob("*torch_*")]
    if any("torch_hip" in name for name in libraries):
        return None  # a build for AMD GPUs: only torch itself knows them
    if not any("torch_cuda" in name for name in libraries):
        return "the installed torch is a CPU build"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "NVIDIA's driver finds no GPU"
    return None
