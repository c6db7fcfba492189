from __future__ import annotations

import dataclasses
import subprocess
import sys

from depthsr import doctor


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
    assert "numpy" in done.stdout
