"""Who takes part: a name, the storage type, and how to prepare it for a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch

import depthsr
import opencv_filters
from cases import Case
from depthsr.models.baselines import EDGE_AWARE
from official_block import with_official_blocks
from runtimes import Absent, OnnxFile, Run, compiled, eager, onnx_runtime, openvino

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Contender:
    name: str
    dtype: str
    scope: str  # "network" or "frame"
    prepare: Callable[[Case], Run]
    is_network: bool = True  # whether it computes the network, so that its result and its work are known

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}"


def _frame_run(restore: Callable[[np.ndarray, np.ndarray], np.ndarray], case: Case, version: str) -> Run:
    return Run(partial(restore, *case.frame), lambda depth_m: [depth_m], version)


def eager_official(case: Case) -> Run:
    module = with_official_blocks(case.module)
    return eager(module, case.inputs, torch.contiguous_format, torch.float32, "reference")


def eager_channels_last(case: Case) -> Run:
    return eager(case.module, case.inputs, torch.channels_last, torch.float32, "reference")


def torch_op(dtype: str, case: Case) -> Run:
    return eager(case.module, case.inputs, torch.channels_last, DTYPES[dtype], "native")


def torch_compile(dtype: str, case: Case) -> Run:
    return compiled(case.module, case.inputs, DTYPES[dtype], "reference")


def depthsr_compiled(case: Case) -> Run:
    return compiled(case.module, case.inputs, torch.float32, "auto")


def predictor(runtime: str, dtype: str, case: Case) -> Run:
    try:
        predict = depthsr.load(case.model, device="cpu", dtype=dtype, runtime=runtime)
    except depthsr.UserError as error:
        raise Absent(str(error)) from error
    if runtime == "native" and dtype == "bf16" and not predict.restorer.bf16:
        raise Absent("depthsr's native runtime computes in fp32 on this CPU: it has no fast bf16")
    return _frame_run(lambda rgb, depth_m: predict(rgb, depth_m).depth_m, case, depthsr.__version__)


def whole_frame(runtime: Callable[[OnnxFile], Run], case: Case) -> Run:
    """Of what `depthsr export` writes; its first result is the depth, B×1×H×W."""
    run = runtime(case.frame_onnx)
    return Run(run.call, lambda results: [run.read(results)[0][0, 0]], run.version)


def opencv_filter(name: str, case: Case) -> Run:
    if not hasattr(cv2, "ximgproc"):
        raise Absent(f"OpenCV is here without its ximgproc module: {opencv_filters.HOW_TO_GET}")
    return _frame_run(opencv_filters.FILTERS[name], case, cv2.__version__)


def baseline(name: str, case: Case) -> Run:
    predict = depthsr.load(name)
    return _frame_run(lambda rgb, depth_m: predict(rgb, depth_m).depth_m, case, depthsr.__version__)


#: Of a block.
BLOCK = [
    Contender("eager, official LayerNorm", "fp32", "network", eager_official),
    Contender("eager, channels_last", "fp32", "network", eager_channels_last),
    *(Contender("torch.compile", dtype, "network", partial(torch_compile, dtype)) for dtype in DTYPES),
    Contender("ONNX Runtime", "fp32", "network", lambda case: onnx_runtime(case.onnx)),
    Contender("OpenVINO", "fp32", "network", lambda case: openvino(case.onnx, "f32")),
    Contender("OpenVINO", "bf16", "network", lambda case: openvino(case.onnx, "bf16")),
    *(Contender("depthsr torch op", dtype, "network", partial(torch_op, dtype)) for dtype in DTYPES),
]
#: Of the network of `edge`, and of a whole frame.
EDGE = [
    *BLOCK,
    Contender("depthsr compiled", "fp32", "network", depthsr_compiled),
    Contender("depthsr torch", "fp32", "frame", partial(predictor, "torch", "fp32")),
    *(Contender("depthsr native", dtype, "frame", partial(predictor, "native", dtype)) for dtype in DTYPES),
    Contender("depthsr export in ONNX Runtime", "fp32", "frame", partial(whole_frame, onnx_runtime)),
    Contender("depthsr export in OpenVINO", "fp32", "frame", partial(whole_frame, partial(openvino, precision="f32"))),
    *(Contender(f"OpenCV {n}", "fp32", "frame", partial(opencv_filter, n), False) for n in opencv_filters.FILTERS),
    *(Contender(f"baseline {n}", "fp32", "frame", partial(baseline, n), False) for n in EDGE_AWARE),
]
