"""The PEP 517 backend: setuptools, compiling against the torch that the user already has.

Frontends build in an isolated environment. Naming torch in `build-system.requires` would download a second torch there,
a gigabyte or more, although extensions on torch's stable ABI only need any torch's headers. So this backend looks for a
torch where the package is going to be installed and adds it to the end of sys.path. Only when there is none, and there
is something to compile, does it ask the frontend for one; never with DEPTHSR_TORCH=0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from setuptools import build_meta

sys.path.insert(0, str(Path(__file__).parent))
from toolchain import why_no_native_build, without_torch

# Modules have to be built against this or a later release: the first whose stable ABI has what csrc/bindings uses.
TORCH_REQUIREMENT = "torch>=2.10"

FIND_TORCH = """
import importlib.util, json, sys
spec = importlib.util.find_spec("torch")
print(json.dumps([list(sys.version_info[:2]), spec.origin if spec else None]))
"""


def _parent_python() -> str | None:
    """The interpreter of the frontend (pip) that started this process, where the system tells (Linux)."""
    try:
        command = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return None
    return command if Path(command).name.startswith("python") else None


def _candidate_pythons() -> Iterator[str]:
    """Interpreters of the environment that the package is meant for, the likeliest first."""
    yield sys.executable  # pip's usual isolation, and none: same interpreter, site-packages hidden by PYTHONPATH
    if parent := _parent_python():
        yield parent  # pip's venv isolation
    if environment := os.environ.get("VIRTUAL_ENV"):  # uv and `python -m build` in an activated environment
        yield str(Path(environment, "Scripts/python.exe" if os.name == "nt" else "bin/python"))
    own = os.path.normcase(sysconfig.get_path("scripts"))
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if folder and os.path.normcase(folder) != own and (python := shutil.which("python", path=folder)):
            yield python


def _site_packages_with_torch() -> Path | None:
    """The folder that holds an importable torch for this Python version, outside the build environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for python in dict.fromkeys(_candidate_pythons()):
        try:
            answer = subprocess.run(
                [python, "-c", FIND_TORCH], env=clean, cwd=os.path.dirname(__file__), capture_output=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            continue  # a broken interpreter on PATH is no candidate
        if answer.returncode == 0:
            version, origin = json.loads(answer.stdout)
            if origin and tuple(version) == sys.version_info[:2]:
                return Path(origin).parent.parent
    return None


def _is_recent_enough(site_packages: Path) -> bool:
    from importlib.metadata import distributions

    versions = [d.version for d in distributions(name="torch", path=[str(site_packages)])]
    return bool(versions) and tuple(int(part) for part in versions[0].split(".")[:2]) >= (2, 10)


def _use_installed_torch() -> list[str]:
    """Make an installed torch importable; the extra build requirement if there is none and one is needed."""
    if why_no_native_build() is not None or without_torch():
        return []
    site_packages = _site_packages_with_torch()
    if site_packages is None or not _is_recent_enough(site_packages):
        return [TORCH_REQUIREMENT]
    if str(site_packages) not in sys.path:
        sys.path.append(str(site_packages))
    return []


def get_requires_for_build_wheel(config_settings=None):
    return _use_installed_torch() + build_meta.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings=None):
    return _use_installed_torch() + build_meta.get_requires_for_build_editable(config_settings)


def get_requires_for_build_sdist(config_settings=None):
    return build_meta.get_requires_for_build_sdist(config_settings)


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    _use_installed_torch()
    return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory, config_settings=None):
    _use_installed_torch()
    return build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _use_installed_torch()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _use_installed_torch()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory, config_settings=None):
    return build_meta.build_sdist(sdist_directory, config_settings)
