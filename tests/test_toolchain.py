"""Where the build looks for CUDA and what it says when something is missing, with folders made up for it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for nvcc are shell scripts")


@pytest.fixture
def toolchain(monkeypatch):
    spec = importlib.util.spec_from_file_location("toolchain", Path(__file__).parents[1] / "build_backend/toolchain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("CUDA_HOME", "CUDA_PATH", "DEPTHSR_CUDA"):
        monkeypatch.delenv(name, raising=False)
    return module


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture
def toolkit(tmp_path) -> Path:
    """A CUDA 13.0 whose nvcc answers as the real one does."""
    folder = tmp_path / "cuda-13.0"
    script(
        folder / "bin/nvcc",
        'case "$1" in',
        "--version) echo 'Cuda compilation tools, release 13.0, V13.0.88';;",
        f"--dryrun) echo '#$ _SPACE_= ' >&2; echo '#$ _HERE_={folder}/bin' >&2;;",
        "esac",
    )
    (folder / "lib64").mkdir()
    (folder / "lib64/libcudart.so").touch()
    return folder


def test_a_wrapper_on_the_path_leads_to_the_real_toolkit(toolchain, toolkit, tmp_path, monkeypatch):
    wrapper = script(tmp_path / "local/bin/nvcc", f'exec {toolkit}/bin/nvcc "$@"')
    monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")
    assert toolchain.find_cuda_home() == toolkit
    assert toolchain.why_no_cuda_build("13.2", toolchain.find_cuda_home()) is None


@pytest.mark.parametrize("name", ["CUDA_HOME", "CUDA_PATH"])
def test_the_users_folder_comes_first(toolchain, toolkit, tmp_path, monkeypatch, name):
    monkeypatch.setenv("PATH", str(toolkit / "bin"))
    monkeypatch.setenv(name, str(tmp_path / "mine"))
    assert toolchain.find_cuda_home() == tmp_path / "mine"


def test_an_nvcc_that_does_not_run_leads_nowhere(toolchain, tmp_path, monkeypatch):
    broken = script(tmp_path / "bin/nvcc", "echo cannot execute >&2", "exit 1")
    monkeypatch.setenv("PATH", str(broken.parent))
    assert toolchain.find_cuda_home() in (None, Path("/usr/local/cuda"))


def test_a_missing_runtime_library_is_named(toolchain, toolkit):
    (toolkit / "lib64/libcudart.so").unlink()
    reason = toolchain.why_no_cuda_build("13.0", toolkit)
    assert reason.startswith(f"there is no libcudart.so in {toolkit}/lib64: ")
    assert "CUDA_HOME" in reason
    (toolkit / "lib64").rmdir()
    (toolkit / "lib").mkdir()
    (toolkit / "lib/libcudart.so").touch()
    assert toolchain.why_no_cuda_build("13.0", toolkit) is None


@pytest.mark.parametrize(
    ("torch_cuda", "with_toolkit", "reason"),
    [
        (None, True, "the installed torch is a CPU build"),
        ("13.0", False, "there is no nvcc: install the CUDA toolkit 13.0"),
        ("12.8", True, "nvcc is of CUDA 13.0 and torch of 12.8"),
    ],
)
def test_every_other_reason(toolchain, toolkit, monkeypatch, torch_cuda, with_toolkit, reason):
    cuda_home = toolkit if with_toolkit else None
    assert toolchain.why_no_cuda_build(torch_cuda, cuda_home).startswith(reason)
    monkeypatch.setenv("DEPTHSR_CUDA", "1")
    with pytest.raises(SystemExit, match=f"DEPTHSR_CUDA=1, but {reason}"):
        toolchain.why_no_cuda_build(torch_cuda, cuda_home)


def test_the_build_can_be_forbidden(toolchain, toolkit, monkeypatch):
    monkeypatch.setenv("DEPTHSR_CUDA", "0")
    assert toolchain.why_no_cuda_build("13.0", toolkit) == "the build was asked not to (DEPTHSR_CUDA=0)"
