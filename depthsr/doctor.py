"""`depthsr doctor`: what is installed, which implementation each op would use here, and why not the others."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from depthsr import config
from depthsr.compiled import instruction_set, why_no_module
from depthsr.runtime import choose_automatically
from depthsr.types import UserError

PACKAGES = ("torch", "triton", "transformers", "numpy", "opencv-python", "OpenEXR", "safetensors", "huggingface-hub")
MODULES = {
    "_native": "the native runtime",
    "_C_cpu": "CPU kernels for torch",
    "_C_cuda": "CUDA kernels for torch",
}

#: Instruction set whose kernels run -> why it and no other.
INSTRUCTION_SETS = {
    "avx512bf16": "this processor has AVX-512, and its bfloat16 instructions",
    "avx512": "this processor has AVX-512, without its bfloat16 instructions",
    "avx2": "this processor has AVX2 and FMA, but not all of AVX-512 (F, BW, DQ, VL)",
    "neonbf16": "this processor has NEON, and its bfloat16 instructions",
    "neon": "this processor has NEON, without its bfloat16 instructions",
    "portable": "this processor has none of those that depthsr has kernels of their own for: AVX2, AVX-512, NEON",
}


def report() -> str:
    """Several sections of plain text. Never raises for what is missing: it says so instead. Works without torch."""
    sections = {
        "Versions": _versions(),
        "Machine": _machine(),
        "Compiled modules": _modules(),
        "Runtimes": _runtimes(),
        "Ops": _ops(),
        "Weights": _weights(),
        "Environment": _environment(),
    }
    return "\n".join("\n".join([title, *(f"  {line}" for line in lines), ""]) for title, lines in sections.items())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _versions() -> Iterator[str]:
    yield f"depthsr {_version('depthsr')} in {Path(__file__).parent}"
    yield f"Python {platform.python_version()} ({sys.executable})"
    for package in PACKAGES:
        yield f"{package} {_version(package)}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, platform.machine())


def _machine() -> Iterator[str]:
    yield f"{platform.platform()}, {platform.machine()}"
    yield f"CPU: {_cpu_name()}, {os.cpu_count()} cores"
    if importlib.util.find_spec("torch") is None:
        yield "GPU: not known, torch is not installed"
        return
    import torch

    yield f"torch's CPU code uses {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU only"
        yield f"GPU: none that torch can use (it is built {build})"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield (
            f"GPU {index}: {properties.name}, sm_{properties.major}{properties.minor}, "
            f"{properties.total_memory / 2**30:.1f} GiB"
        )


def _modules() -> Iterator[str]:
    without_torch = importlib.util.find_spec("torch") is None
    for name, purpose in MODULES.items():
        if without_torch and name != "_native":
            yield f"{purpose}: torch is not installed (pip install torch)"
        else:
            yield f"{purpose}: {why_no_module(name) or f'depthsr.{name} is loaded'}"


def _runtimes() -> Iterator[str]:
    """What `--runtime` can be here, and what the native one computes with."""
    try:
        chosen, why = choose_automatically()
        yield f"auto: {chosen} for edge ({why})"
    except UserError as error:
        yield f"auto: fails for edge: {error}"
    if reason := why_no_module("_native"):
        yield f"not native: {reason}"
        return
    from depthsr import _native

    try:
        isa, threads = instruction_set(), config.threads() or _native.threads()
    except UserError as error:
        yield f"not native: {error}"
        return
    reason = INSTRUCTION_SETS[isa] if config.environment("DEPTHSR_ISA") == "auto" else f"DEPTHSR_ISA={isa}"
    yield f"native: {isa} kernels ({reason}); {threads} thread{'s' if threads > 1 else ''}"


def _ops() -> Iterator[str]:
    """Per op and device: what would run on float32 input, and what else there is and why it would not."""
    if importlib.util.find_spec("torch") is None:
        yield "none: torch is not installed (pip install torch)"
        return
    try:
        wanted = config.backend()
    except UserError as error:
        yield str(error)
        return
    import torch

    from depthsr.ops import choice

    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        example = (torch.zeros(1, 16, 1, 1, device=device),)
        for op in choice.OPS:
            refusals = {
                name: choice.why_not(name, op, example) for name in config.BACKENDS if name not in ("auto", "reference")
            }
            able = [i.name for i in choice.IMPLEMENTATIONS if i.by_default and refusals[i.name] is None]
            if wanted != "auto":
                reason = refusals.get(wanted)
                yield f"{op} on {device}: {wanted} (DEPTHSR_BACKEND)" + (f", which fails: {reason}" if reason else "")
            else:
                yield f"{op} on {device}: {able[0] if able else 'reference'}"
            for name, reason in refusals.items():
                if reason and name != wanted:
                    yield f"    not {name}: {reason}"
                elif name not in able and name != wanted:
                    yield f"    not {name}: it has not been measured on a GPU yet; DEPTHSR_BACKEND={name} forces it"


def _weights() -> Iterator[str]:
    folder = Path(__file__).parent / "weights"
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        yield f"none shipped in {folder}"
    for file in files:
        yield f"{file} ({file.stat().st_size / 1e6:.1f} MB)"


def _environment() -> Iterator[str]:
    for name, (default, meaning) in config.ENVIRONMENT.items():
        value = os.environ.get(name)
        yield f"{name}={value if value is not None else f'{default} (default)'}: {meaning}"
