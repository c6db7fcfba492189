"""DepthSR in PyTorch behind the Predictor: any device, every model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depthsr.checkpoint import load_model
from depthsr.cuda_graphs import Function, Inputs
from depthsr.cuda_pipeline import CudaPipeline
from depthsr.models.network import DepthSR, to_channels_last
from depthsr.models.relative import normalise_relative
from depthsr.precision import Precision, choose_precision, resolve_device
from depthsr.wide_holes import Level

log = logging.getLogger(__name__)


def restore_on_device(
    model: DepthSR,
    rgb_BHW3: Tensor,
    depth_m_Bhw: Tensor,
    quantisation_step_m_B: Tensor,
    max_depth_m_B: Tensor,
    relative_BHW: Tensor | None = None,
    deep_Bhw: Tensor | None = None,
    half_B: Tensor | None = None,
    halves_m_K1HW: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Everything that is done to frames on the device: depth and expected error, both B×1×H×W float32 metres.

    rgb_BHW3                uint8, or float32 in [0, 1].
    depth_m_Bhw             float32 metres, NaN or inf = no value.
    quantisation_step_m_B, max_depth_m_B   float32 metres, 0 = unknown.
    relative_BHW            float32, larger = nearer, any unit; None: the model makes its own, if it takes any.
    deep_Bhw                bool, where wide holes are to be filled (depthsr.wide_holes); None: nowhere.
    half_B                  int64, the number of each frame's half among those of halves_m_K1HW.
    halves_m_K1HW           restored depth of frames at half the size: the first result of this function.

    Raises TypeError where some of the last three are given and others are not.
    """
    rgb_B3HW = rgb_BHW3.permute(0, 3, 1, 2)
    if rgb_B3HW.dtype == torch.uint8:
        # By a tensor: division by a number is a product with its rounded inverse on CUDA, and not what check_rgb gives.
        rgb_B3HW = rgb_B3HW.float() / torch.full((), 255.0, dtype=torch.float32, device=rgb_B3HW.device)
    depth_m_B1hw = depth_m_Bhw[:, None]
    filling_m_B1hw = None
    if deep_Bhw is not None and half_B is not None and halves_m_K1HW is not None:
        nearest_m_K1hw = F.interpolate(halves_m_K1HW, depth_m_Bhw.shape[1:], mode="nearest-exact")
        filling_m_B1hw = torch.where(deep_Bhw[:, None], nearest_m_K1hw[half_B], torch.nan)
    elif not (deep_Bhw is half_B is halves_m_K1HW is None):
        raise TypeError("deep_Bhw, half_B and halves_m_K1HW fill wide holes together: give all of them or none.")
    return model.infer(
        rgb_B3HW,
        depth_m_B1hw,
        torch.isfinite(depth_m_B1hw),
        # Scaled per frame, as the network's own is.
        relative_B1HW=None if relative_BHW is None else normalise_relative(relative_BHW[:, None]),
        quantisation_step_m=quantisation_step_m_B,
        max_depth_m=max_depth_m_B,
        filling_m_B1hw=filling_m_B1hw,
    )


class NetworkRestorer:
    """DepthSR on its device, in the arithmetic `precision` chose. A depthsr.infer.BatchRestorer.

    On CUDA: pinned memory, copies beside the computation, CUDA graphs by size (depthsr.cuda_pipeline). The weights may
    be changed in place at any time, but the model must stay where it is. graphs: False where sizes change all the time.
    """

    def __init__(self, model: DepthSR, device: torch.device, precision: Precision, *, graphs: bool = True) -> None:
        self.model, self.device, self.precision = model, device, precision
        compute = partial(restore_on_device, model)
        on_cuda = device.type == "cuda"
        self._queue: Callable[[Sequence[Inputs]], Function] = (
            CudaPipeline(compute, device, graphs=graphs).queue if on_cuda else partial(_at_once, compute, device)
        )
        self.ahead = 1 if on_cuda else 0

    is_network = True

    def __str__(self) -> str:
        return f"torch, {self.device}, {self.precision}"

    @property
    def takes_relative(self) -> bool:
        return self.model.config.takes_relative

    def start(self, levels: Sequence[Level]) -> Callable[[], list[tuple[np.ndarray, np.ndarray]]]:
        has_relative = levels[-1].frames[0].relative_HW is not None
        if self.takes_relative and not has_relative and self.model.depth_anything is None:
            # Not when the model is loaded: who brings relative depth needs neither the hub nor the network's memory.
            self.model.fetch_depth_anything()
        finish = self._queue([self._inputs(level) for level in levels])

        def restored() -> list[tuple[np.ndarray, np.ndarray]]:
            depth_m_BHW, error_m_BHW = (result[:, 0].numpy() for result in finish())
            return list(zip(depth_m_BHW, error_m_BHW, strict=True))

        return restored

    def _inputs(self, level: Level) -> Inputs:
        """What `restore_on_device` takes beside the model and the halves' results."""
        frames = level.frames
        return [
            self._stack([frame.rgb_HW3 for frame in frames]),
            self._stack([frame.depth_m_hw for frame in frames]),
            self._stack([np.float32(frame.quantisation_step_m) for frame in frames]),
            self._stack([np.float32(frame.max_depth_m or 0.0) for frame in frames]),
            None if frames[0].relative_HW is None else self._stack([frame.relative_HW for frame in frames]),
            self._stack(level.deep_hw) if level.deep_hw else None,
            self._stack([np.int64(half) for half in level.half]) if level.half else None,
        ]

    def _stack(self, arrays: Sequence[Any]) -> Tensor:
        """One tensor of arrays of one shape and type, on the host, where CUDA can copy it from."""
        shape, dtype = (len(arrays), *arrays[0].shape), torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
        stacked = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        np.stack(arrays, out=stacked.numpy())
        return stacked


def _at_once(compute: Function, device: torch.device, calls: Sequence[Inputs]) -> Function:
    """As CudaPipeline.queue; the results are there when it returns."""
    results: tuple[Tensor, ...] = ()
    for inputs in calls:
        there = [None if tensor is None else tensor.to(device) for tensor in inputs]
        results = compute(*there, *results[:1])
    here = tuple(result.cpu() for result in results)
    return lambda: here


def load_restorer(name_or_path: str | Path, device: str, dtype: str | torch.dtype) -> NetworkRestorer:
    """As depthsr.infer.load, for a model. Raises UserError as it does."""
    where = resolve_device(device)
    precision = choose_precision(dtype, where)
    model = load_model(name_or_path, device="cpu", dtype=torch.float32)
    model = model.to(precision.weights).to(where, precision.arithmetic)
    to_channels_last(model)
    if precision.reason:
        log.info("%s", precision.reason)
    return NetworkRestorer(model, where, precision)
