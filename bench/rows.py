"""What a measurement has to say beside its number: commit, date, processor, versions. And its file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import torch


def provenance() -> dict[str, str | int]:
    """Of every row: commit (with + when package or benchmark differ from it), date, cpu, torch, threads."""
    return {
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
        "cpu": f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def write(path: Path, content: dict) -> None:
    """As JSON, under a temporary name first: a run that is cut short leaves the last whole file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _commit() -> str:
    """BENCH_COMMIT where the tree was copied to a machine without its repository."""
    if "BENCH_COMMIT" in os.environ:
        return os.environ["BENCH_COMMIT"]
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "depthsr", "csrc", "kernels", "bench")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"  # not a checkout


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
