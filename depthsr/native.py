"""The network in C++ behind the Predictor: the CPU, numpy, and no torch in the process.

Computes what DepthSR.infer does (csrc/cpu/network.cpp), for models without Depth Anything.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from depthsr import config
from depthsr.compiled import instruction_set, why_no_module
from depthsr.frames import CheckedFrame
from depthsr.model_files import WEIGHTS_FILE, corrupt_weights, model_folder, other_weights, read_config
from depthsr.types import UserError

PRECISIONS = ("auto", "fp32", "fp16", "bf16")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NativeRestorer:
    """A depthsr.infer.Restorer on depthsr._native.Network.

    bf16     activations are stored and multiplied in bfloat16.
    weights  what they were rounded to, one of PRECISIONS.
    """

    network: Any
    bf16: bool = False
    weights: str = "fp32"
    takes_relative = False
    is_network = True

    def __str__(self) -> str:
        arithmetic = "bf16" if self.bf16 else "fp32"
        return f"native, cpu, {arithmetic if self.weights == arithmetic else f'{self.weights} weights in {arithmetic}'}"

    def __call__(self, frame: CheckedFrame, filling_m_hw: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        return self.network.infer(
            frame.unit_rgb_HW3,
            frame.depth_m_hw,
            frame.quantisation_step_m,
            frame.max_depth_m or 0.0,
            self.bf16,
            filling_m_hw,
        )


def load_restorer(name_or_path: str | Path, device: str, dtype: Any) -> NativeRestorer:
    """As depthsr.infer.load, for a model. Raises UserError as it does, and for what only torch can do."""
    if reason := why_no_module("_native"):
        raise UserError(f"the native runtime cannot start: {reason}.")
    if device not in ("auto", "cpu"):
        raise UserError(
            f"the native runtime computes on the CPU and not on {device!r}; use --device cpu, or {_use_torch()}."
        )
    if dtype not in PRECISIONS:
        raise UserError(f"precision {dtype} is unknown to the native runtime; choose one of {', '.join(PRECISIONS)}.")
    from depthsr import _native

    folder = model_folder(name_or_path)
    model_config = read_config(folder)
    if model_config.takes_relative:
        raise UserError(
            f"{name_or_path} needs Depth Anything, which the native runtime does not have; {_use_torch()}, or use the "
            "model edge."
        )
    if departures := model_config.departures():
        raise UserError(
            f"{name_or_path} has {', '.join(departures)}, which the native runtime does not know; {_use_torch()}."
        )
    if threads := config.threads():
        _native.set_threads(threads)
    weights = {name: rounded(values, dtype) for name, values in _read_weights(folder).items()}
    try:
        network = _native.Network(json.dumps(model_config.to_dict()), weights)
    except ValueError as error:
        raise other_weights(folder, str(error)) from error
    has_fast_bf16 = "bf16" in instruction_set()  # to store in bfloat16 alone is a twentieth slower (AVX2, edge)
    if dtype in ("fp16", "bf16") and not has_fast_bf16:
        log.info("%s weights, computed in fp32: this CPU has no fast half-precision arithmetic.", dtype)
    half = dtype in ("fp16", "bf16")
    return NativeRestorer(network, bf16=half and has_fast_bf16, weights=dtype if half else "fp32")


def rounded(weight: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values, those that `dtype` (one of PRECISIONS) can hold: to nearest, ties to even."""
    weight = np.ascontiguousarray(weight, np.float32)
    if dtype == "fp16":
        return weight.astype(np.float16).astype(np.float32)
    if dtype == "bf16":  # numpy has no bfloat16: float32 without its lower 16 bits
        bits = weight.view(np.uint32)
        bits = bits + (0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return bits.view(np.float32)
    return weight


def _use_torch() -> str:
    return "use --runtime torch" if find_spec("torch") else config.INSTALL_TORCH


def _read_weights(folder: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(folder / WEIGHTS_FILE)
    except (safetensors.SafetensorError, OSError) as error:
        raise corrupt_weights(folder, error) from error
