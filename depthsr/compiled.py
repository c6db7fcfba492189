"""The package's compiled modules: whether one can be loaded, and if not, why. Needs no torch."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from depthsr.types import UserError


def why_no_module(name: str) -> str | None:
    """Why the compiled module depthsr.<name> cannot be used; loads it when it can."""
    try:
        importlib.import_module(f"depthsr.{name}")
    except ModuleNotFoundError:
        try:
            decisions = json.loads((Path(__file__).parent / "_build.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return f"depthsr.{name} is not built: this is a checkout; run `pip install .` in it"
        return f"depthsr.{name} was {decisions.get(name, 'not known to this build')}"
    except (ImportError, OSError) as error:
        return f"depthsr.{name} is built but does not load: {error}"
    return None


def instruction_set() -> str:
    """The instruction set whose kernels depthsr._native runs: "avx2", say. The module must be there.

    Raises UserError where DEPTHSR_ISA names none, or one that this processor lacks.
    """
    from depthsr import _native

    try:
        return _native.isa()
    except RuntimeError as error:
        raise UserError(str(error)) from error
