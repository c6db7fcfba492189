"""depthsr: a sharp metric depth map from an RGB image and a poor depth map.

Importing this package imports nothing heavy; torch comes with the first name that needs it (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from depthsr.types import Prediction, UserError

if TYPE_CHECKING:
    from depthsr.infer import Predictor, load
    from depthsr.models.network import DepthSR

__version__ = "0.1.0"

__all__ = ["DepthSR", "Prediction", "Predictor", "UserError", "load", "ops"]

_LAZY = {"load": "depthsr.infer", "Predictor": "depthsr.infer", "DepthSR": "depthsr.models.network"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "ops":
        return import_module("depthsr.ops")
    raise AttributeError(f"module 'depthsr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, "ops"])
