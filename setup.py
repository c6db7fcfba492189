"""What depends on the machine or on DEPTHSR_ variables; everything else is in pyproject.toml. What to build is decided
in `planned_modules`."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "build_backend"))
from kernel_library import BuildLibrary, linking
from toolchain import find_cuda_home, why_no_cuda_build, why_no_native_build, without_torch

DEPENDENCIES = [
    "numpy>=1.26",  # depth maps and images at the boundaries
    "opencv-python>=4.9",  # PNG, JPEG, TIFF, resampling, classical baselines
    "OpenEXR>=3.3",  # EXR depth: OpenCV's wheels cannot read it
    "safetensors>=0.4",  # weights, without running code on loading
    "tqdm>=4.66",  # progress bars
    "click>=8.2",  # the command line
]
TORCH_DEPENDENCIES = [
    "torch>=2.10",  # the network; 2.10 is the first with the stable C++ ABI we build on
    "transformers>=4.56",  # Depth Anything V2 of the preset `base`
    "triton>=3.5; platform_system == 'Linux'",  # the GPU kernels of kernels/; wheels exist for Linux only
    "huggingface-hub>=0.25",  # from_pretrained / save_pretrained
    "tensorboard>=2.16",  # `depthsr train` writes its curves; SummaryWriter imports it
    "pybind11>=2.13",  # the build uses it; here so that an environment can rebuild offline
    "ninja>=1.11",  # the same, and torch.compile's C++ code on the CPU
]

CPU_KERNELS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc/cpu").glob("*.cpp"))
CUDA_KERNELS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc/cuda").glob("*.cu"))
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("**/*.h"))
INCLUDE = [str(ROOT / "csrc/include")]

# Not -march=native: a wheel built here runs on every machine of this architecture. -fno-math-errno lets sqrt vectorise,
# -ffp-contract=fast lets a * b + c be one instruction.
OPTIMISE = (
    [] if os.name == "nt" else ["-O3", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden", "-g0", "-Wall"]
)
STD = "/std:c++20" if os.name == "nt" else "-std=c++20"
# The stable ABI of torch 2.10: one binary for that and every later torch.
STABLE_TORCH = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DTORCH_STABLE_ONLY"]

#: The CPU kernels, framework-free, which both CPU modules are linked with.
CPU_LIBRARY = (
    "depthsr_cpu",
    {"sources": CPU_KERNELS, "include_dirs": INCLUDE, "cflags": [STD, *OPTIMISE], "depends": HEADERS},
)


def cpu_module() -> Extension:
    """depthsr._C_cpu: the CPU kernels as torch ops."""
    from torch.utils.cpp_extension import CppExtension

    return CppExtension(
        "depthsr._C_cpu",
        ["csrc/bindings/torch_cpu.cpp"],
        include_dirs=INCLUDE,
        depends=[*HEADERS, *CPU_KERNELS],
        extra_compile_args=[STD, *OPTIMISE, *STABLE_TORCH],
        py_limited_api=True,  # one binary for every Python as well; torch defines Py_LIMITED_API
    )


def numpy_module() -> Extension:
    """depthsr._native: the CPU kernels for numpy, without torch."""
    import pybind11

    return Extension(
        "depthsr._native",
        ["csrc/bindings/numpy.cpp"],
        include_dirs=[*INCLUDE, pybind11.get_include()],
        depends=[*HEADERS, *CPU_KERNELS],
        language="c++",
        extra_compile_args=[STD, *OPTIMISE],
    )


# Ampere to Hopper, and Jetson Orin on its own processor; the newest also as PTX, for what comes after it.
CUDA_ARCHITECTURES = ["80", "86", "89", "90", *(["87"] if platform.machine() == "aarch64" else [])]


def cuda_module() -> Extension:
    """depthsr._C_cuda: the CUDA kernels as torch ops."""
    from torch.utils.cpp_extension import CUDAExtension

    # Every architecture is named here: torch guesses from the GPUs it sees, and fails on a machine without one.
    binaries = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in CUDA_ARCHITECTURES]
    return CUDAExtension(
        "depthsr._C_cuda",
        ["csrc/bindings/torch_cuda.cpp", *CUDA_KERNELS],
        include_dirs=INCLUDE,
        depends=HEADERS,
        extra_compile_args={
            "cxx": [STD, *OPTIMISE, *STABLE_TORCH, "-DUSE_CUDA"],
            "nvcc": [STD, "-O3", *binaries, "-gencode=arch=compute_90,code=compute_90"],
        },
        py_limited_api=True,
    )


def planned_modules() -> tuple[list[Extension], dict[str, str]]:
    """What to build, and for each module one sentence: "built", or why not.

    - No compiler, or DEPTHSR_NATIVE=0: nothing. The package is pure Python then and runs on the reference ops.
    - A compiler: `_native`; with a torch, unless DEPTHSR_TORCH=0, also `_C_cpu`.
    - And with a torch built for CUDA, and nvcc of that release: `_C_cuda`.
    """
    decisions = dict.fromkeys(("_native", "_C_cpu", "_C_cuda"), "built")
    if reason := why_no_native_build():
        return [], dict.fromkeys(decisions, f"not built: {reason}")
    modules = [numpy_module()]
    if without_torch():
        reason = "not built: the build was asked for no torch (DEPTHSR_TORCH=0)"
        return modules, decisions | {"_C_cpu": reason, "_C_cuda": reason}
    if (cuda_home := find_cuda_home()) is not None:
        # Before torch looks for itself, when cpp_extension is imported: it takes a wrapper's folder for the toolkit's.
        os.environ["CUDA_HOME"] = str(cuda_home)
    try:
        modules.append(cpu_module())
    except ModuleNotFoundError as error:
        reason = f"not built: torch could not be imported at build time ({error})"
        return modules, decisions | {"_C_cpu": reason, "_C_cuda": reason}
    import torch

    if reason := why_no_cuda_build(torch.version.cuda, cuda_home):
        return modules, decisions | {"_C_cuda": f"not built: {reason}"}
    return [*modules, cuda_module()], decisions


class BuildPython(build_py):
    """Puts `decisions` beside the package's modules, for `depthsr doctor`."""

    def run(self) -> None:
        super().run()
        folder = ROOT / "depthsr" if self.editable_mode else Path(self.build_lib, "depthsr")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "_build.json").write_text(json.dumps(decisions, indent=2) + "\n", encoding="utf-8")


def build_commands(modules: list[Extension]) -> dict:
    build_extensions = build_ext
    if any(module.name == "depthsr._C_cpu" for module in modules):
        from torch.utils.cpp_extension import BuildExtension as build_extensions
    return {"build_py": BuildPython, "build_clib": BuildLibrary, "build_ext": linking(build_extensions)}


modules, decisions = planned_modules()
for name, decision in decisions.items():
    print(f"depthsr.{name}: {decision}.")
setup(
    ext_modules=modules,
    libraries=[CPU_LIBRARY] if modules else [],
    cmdclass=build_commands(modules),
    install_requires=DEPENDENCIES if without_torch() else DEPENDENCIES + TORCH_DEPENDENCIES,
)
