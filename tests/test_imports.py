"""Who may import whom, read from the sources; and that the package starts without its heavy dependencies."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import depthsr

PACKAGE = Path(depthsr.__file__).parent
EVERYONE = {"types", "config"}
#: Part of the package -> the parts it may import, beside itself and EVERYONE. A part is the first name after depthsr.
MAY_IMPORT = {
    "types": set(),
    "config": set(),
    "kernels": set(),
    "compiled": {"_native"},
    "model_files": set(),
    "native": {"compiled", "frames", "model_files", "_native"},
    "runtime": {"compiled", "model_files"},
    "ops": {"kernels", "compiled", "_C_cpu", "_C_cuda", "_native"},
    "io": set(),
    "data": {"io"},
    "metrics": {"io"},
    "losses": {"ops"},
    "models": {"ops", "precision", "model_files"},
    "checkpoint": {"models", "io", "model_files"},
}
#: Packages that no module of a part may import.
FORBIDDEN_PACKAGES = {
    "io": {"torch", "transformers", "click"},
    "data": {"torch", "transformers", "click"},
    "metrics": {"torch", "transformers", "click"},
    "types": {"torch", "transformers", "cv2", "click"},
    "config": {"torch", "transformers", "cv2", "numpy", "click"},
    "compiled": {"torch", "transformers", "cv2", "numpy", "click"},
    "model_files": {"torch", "transformers", "cv2", "click"},
    "native": {"torch", "transformers", "cv2", "click"},
    "runtime": {"torch", "transformers", "cv2", "numpy", "click"},
    "frames": {"torch", "transformers", "click"},
    "infer_files": {"torch", "transformers", "click"},
    "doctor": {"transformers", "cv2", "click"},
    "models": {"click", "OpenEXR", "tqdm"},
    "ops": {"transformers", "cv2", "click"},
    "kernels": {"transformers", "cv2", "click"},
}


def imported_names(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it. `from a import b` counts as a.b: b may be a module."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    found = [path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts]
    # rglob stays out of symlinked folders, which kernels/ is in an editable install.
    return sorted({*found, *(PACKAGE / "kernels").glob("*.py")})


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_directions(path):
    part = part_of(path)
    for name in imported_names(path):
        package, _, rest = name.partition(".")
        assert package not in FORBIDDEN_PACKAGES.get(part, ()), f"{part} must not import {package}"
        if package != "depthsr" or part not in MAY_IMPORT:
            continue
        other = rest.split(".")[0]
        assert other in MAY_IMPORT[part] | EVERYONE | {part}, f"{part} must not import depthsr.{other}"


def test_the_rules_name_parts_that_exist():
    """A rule for a part that was renamed would guard nothing."""
    parts = {part_of(path) for path in modules()} | {"kernels"}
    assert set(MAY_IMPORT) <= parts


def test_the_reader_sees_imports_inside_functions(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("import a.b\ndef f():\n    from depthsr import models\n    from depthsr.io import depth as d\n")
    assert imported_names(source) == {"a.b", "depthsr.models", "depthsr.io.depth"}


@pytest.mark.parametrize("command", ["import depthsr", "from depthsr.cli import main; main()"])
def test_starts_without_heavy_packages(command, tmp_path):
    """`import depthsr` and `depthsr --help`: torch alone takes seconds to import."""
    code = f"""
import sys
sys.argv = ["depthsr", "--help"]
try:
    {command}
except SystemExit as exit:
    assert not exit.code, exit.code
heavy = {{"torch", "transformers", "cv2", "OpenEXR", "tensorboard"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
