"""One network behind every runtime that a user would consider on a CPU, its inputs in the layout each likes best.

A function here makes a Run of a network with its inputs: module in fp32, inputs contiguous fp32 B×C×H×W. It raises
Absent where the runtime, or the arithmetic that was asked for, does not exist on this machine. All use as many threads
as torch was told to.
"""

from __future__ import annotations

import copy
import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from depthsr import ops
from depthsr.compiled import why_no_module

HOW_TO_GET = "pip install '.[bench]'"

Outputs = list[np.ndarray]


class Absent(Exception):
    """One sentence: what is missing, and how to get it."""


@dataclass(frozen=True)
class Run:
    """call() is what is timed. read(what call returned) gives float32 arrays, and is not."""

    call: Callable[[], Any]
    read: Callable[[Any], Outputs]
    version: str


def imported(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise Absent(f"{error.name} is not installed: {HOW_TO_GET}") from error


def _arrays(outputs: Tensor | Sequence[Tensor]) -> Outputs:
    tensors = [outputs] if isinstance(outputs, Tensor) else outputs
    return [tensor.float().contiguous().numpy() for tensor in tensors]


def _as(inputs: Sequence[Tensor], dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
    return [x.to(dtype, memory_format=layout) if x.dim() == 4 else x.to(dtype) for x in inputs]


def eager(
    module: nn.Module, inputs: Sequence[Tensor], layout: torch.memory_format, dtype: torch.dtype, backend: str
) -> Run:
    """PyTorch, operation by operation; depthsr's own ones by this backend."""
    if backend == "native" and (reason := why_no_module("_C_cpu")):
        raise Absent(reason)
    module = copy.deepcopy(module).to(dtype)
    module = module.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack it
    inputs = _as(inputs, dtype, layout)

    @torch.inference_mode()
    def call() -> Any:
        with ops.backend(backend):
            return module(*inputs)

    return Run(call, _arrays, torch.__version__)


def compiled(module: nn.Module, inputs: Sequence[Tensor], dtype: torch.dtype, backend: str) -> Run:
    """torch.compile for these very sizes: weights frozen and packed, channels_last, GEMM templates tried out.

    backend  "reference": all of it for Inductor to fuse. "auto": the ops that depthsr does better stay whole.
    """
    module = copy.deepcopy(module).to(dtype)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = _as(inputs, dtype, torch.channels_last)
    function = torch.compile(module, dynamic=False, options={"freezing": True, "max_autotune": True})

    @torch.no_grad()  # freezing asks for this; it does not know inference_mode
    def call() -> Any:
        with ops.backend(backend):
            return function(*inputs)

    call()
    return Run(call, _arrays, torch.__version__)


def export_onnx(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> None:
    """With these sizes. While exporting, depthsr's operations take the form of their reference."""
    imported("onnxscript")
    with torch.no_grad():
        torch.onnx.export(module, tuple(inputs), path, dynamo=True, external_data=False, verbose=False)


class OnnxFile:
    """A network and its inputs; written when first asked for, so that a run without ONNX does not export."""

    def __init__(self, write: Callable[[Path], object], arrays: Sequence[np.ndarray]) -> None:
        self.arrays = [np.ascontiguousarray(x) for x in arrays]
        self._write = write
        self._folder = tempfile.TemporaryDirectory(prefix="depthsr-bench-")

    @property
    def path(self) -> Path:
        path = Path(self._folder.name, "network.onnx")
        if not path.exists():
            self._write(path)
        return path


def onnx_runtime(file: OnnxFile) -> Run:
    """All graph optimisations, which put convolutions into its blocked layout; outputs bound beforehand."""
    ort = imported("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Its threads spin while it runs, as they would alone, but not on into the next contender's turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(file.path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for argument, array in zip(session.get_inputs(), file.arrays, strict=True):
        binding.bind_ortvalue_input(argument.name, ort.OrtValue.ortvalue_from_numpy(array))
    results = []
    for output in session.get_outputs():
        results.append(ort.OrtValue.ortvalue_from_numpy(np.empty(output.shape, np.float32)))
        binding.bind_ortvalue_output(output.name, results[-1])
    return Run(
        lambda: session.run_with_iobinding(binding),
        lambda _: [result.numpy() for result in results],
        ort.__version__,
    )


@cache
def _openvino_core() -> Any:
    return imported("openvino").Core()


def openvino(file: OnnxFile, precision: str) -> Run:
    """The CPU plugin, set for latency. precision: "f32" or "bf16", a hint that it may overrule."""
    core = _openvino_core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Absent("OpenVINO computes in f32 on this CPU, whatever it is asked for: it has no fast bf16")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
    }
    network = core.compile_model(file.path, "CPU", settings)
    request = network.create_infer_request()
    for i, array in enumerate(file.arrays):
        request.set_input_tensor(i, imported("openvino").Tensor(array))
    return Run(
        lambda: request.infer(share_outputs=True),  # without it Python gets a copy
        lambda _: [np.array(request.get_output_tensor(i).data) for i in range(len(network.outputs))],
        imported("openvino").__version__,
    )
