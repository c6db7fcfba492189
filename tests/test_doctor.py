from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from depthsr import doctor
from depthsr.runtime import choose_automatically


def test_names_the_implementation_of_every_op(native, monkeypatch):
    monkeypatch.delenv("DEPTHSR_BACKEND", raising=False)
    report = doctor.report()
    for op in ("layer_norm_2d", "simple_gate", "adain", "sobel_l1_loss"):
        assert f"{op} on cpu: native" in report
    assert "CPU kernels for torch: depthsr._C_cpu is loaded" in report


def test_says_why_the_reference_runs(monkeypatch):
    from depthsr.ops import choice

    broken = dataclasses.replace(choice.NATIVE, broken="depthsr._C_cpu was not built: there is no C++ compiler")
    monkeypatch.setattr(choice, "IMPLEMENTATIONS", (broken,))
    monkeypatch.delenv("DEPTHSR_BACKEND", raising=False)
    report = doctor.report()
    assert "adain on cpu: reference\n      not native: depthsr._C_cpu was not built: there is no C++ compiler" in report
    monkeypatch.setenv("DEPTHSR_BACKEND", "native")
    assert "adain on cpu: native (DEPTHSR_BACKEND), which fails: depthsr._C_cpu was not built" in doctor.report()


def test_reports_a_wrong_environment_variable(monkeypatch):
    monkeypatch.setenv("DEPTHSR_BACKEND", "fastest")
    assert "DEPTHSR_BACKEND is 'fastest'; set it to one of auto" in doctor.report()


def test_says_which_instruction_set_the_native_runtime_uses_and_why(native_module, monkeypatch):
    isa = native_module.isa()
    monkeypatch.delenv("DEPTHSR_ISA", raising=False)
    monkeypatch.setenv("DEPTHSR_THREADS", "3")
    report = doctor.report()
    assert "  auto: {} for edge ({})\n".format(*choose_automatically()) in report
    assert f"  native: {isa} kernels ({doctor.INSTRUCTION_SETS[isa]}); 3 threads\n" in report
    monkeypatch.setenv("DEPTHSR_ISA", isa)
    assert f"  native: {isa} kernels (DEPTHSR_ISA={isa}); 3 threads\n" in doctor.report()
    monkeypatch.setenv("DEPTHSR_THREADS", "all")
    assert "not native: DEPTHSR_THREADS is 'all'; set it to auto or a number" in doctor.report()


@pytest.mark.parametrize("wrong", ["sse9", "AVX2", ""])
def test_reports_an_instruction_set_that_does_not_exist(native_module, tmp_path, wrong):
    """In a process of its own: the kernels are chosen once."""
    done = subprocess.run(
        [sys.executable, "-c", "from depthsr import doctor; print(doctor.report())"],
        cwd=tmp_path,
        env={**os.environ, "DEPTHSR_ISA": wrong},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"not native: DEPTHSR_ISA is '{wrong}'; set it to one of auto, " in done.stdout


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the processor's features are read from /proc/cpuinfo")
def test_the_instruction_set_is_the_best_of_this_processor(native_module):
    """As Linux lists the features, independently of the compiler's own detection."""
    if os.environ.get("DEPTHSR_ISA", "auto") != "auto":
        pytest.skip("DEPTHSR_ISA chooses, not the processor")
    features = set(Path("/proc/cpuinfo").read_text().split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        assert native_module.isa() in ("avx512", "avx512bf16")
        assert ("bf16" in native_module.isa()) <= ("avx512_bf16" in features)
    elif {"avx2", "fma"} <= features:
        assert native_module.isa() == "avx2"
    elif "asimd" in features:
        assert native_module.isa() == ("neonbf16" if "bf16" in features else "neon")
    else:
        assert native_module.isa() == "portable"


def test_says_why_there_is_no_native_runtime(monkeypatch):
    monkeypatch.setattr(doctor, "why_no_module", lambda name: f"depthsr.{name} was not built: there is no C++ compiler")
    assert "not native: depthsr._native was not built: there is no C++ compiler" in doctor.report()


def test_works_without_torch(tmp_path):
    code = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find_spec(name, package)
sys.meta_path.insert(0, NoTorch())
from depthsr import doctor
print(doctor.report())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "none: torch is not installed" in done.stdout
    assert "auto: native for edge (torch is not installed)" in done.stdout
    assert "numpy" in done.stdout
