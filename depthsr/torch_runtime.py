"""DepthSR in PyTorch behind the Predictor: any device, every model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from depthsr.checkpoint import load_model
from depthsr.precision import Precision, choose_precision, resolve_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkRestorer:
    """DepthSR on its device, in the arithmetic `precision` chose. A depthsr.infer.Restorer."""

    model: Any
    device: torch.device
    precision: Precision

    @property
    def takes_relative(self) -> bool:
        return self.model.config.takes_relative

    def __call__(self, rgb_HW3, depth_m_hw, relative_HW, quantisation_step_m, max_depth_m, protocol):
        if relative_HW is None and self.takes_relative and self.model.depth_anything is None:
            # Not when the model is loaded: who brings relative depth needs neither the hub nor the network's memory.
            self.model.fetch_depth_anything()
        valid_hw = np.isfinite(depth_m_hw)
        depth_m_B1HW, error_m_B1HW = self.model.infer(
            torch.from_numpy(rgb_HW3).permute(2, 0, 1)[None].to(self.device),
            self._tensor(np.where(valid_hw, depth_m_hw, 0)),
            self._tensor(valid_hw),
            relative_B1HW=self._relative(relative_HW),
            quantisation_step_m=quantisation_step_m,
            max_depth_m=max_depth_m,
        )
        return depth_m_B1HW[0, 0].cpu().numpy(), error_m_B1HW[0, 0].cpu().numpy()

    def _tensor(self, map_hw: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(map_hw)[None, None].to(self.device)

    def _relative(self, relative_HW: np.ndarray | None) -> torch.Tensor | None:
        """The user's relative depth, scaled per frame as the network's own is."""
        if relative_HW is None:
            return None
        from depthsr.models.relative import normalise_relative

        return normalise_relative(self._tensor(relative_HW))


def load_restorer(name_or_path: str, device: str, dtype: str | torch.dtype) -> NetworkRestorer:
    """As depthsr.infer.load, for a model. Raises UserError as it does."""
    where = resolve_device(device)
    precision = choose_precision(dtype, where)
    model = load_model(name_or_path, device="cpu", dtype=torch.float32)
    # channels_last: convolutions on CPUs and tensor cores are faster on it.
    model = model.to(precision.weights).to(where, precision.arithmetic)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    if precision.reason:
        log.info("%s", precision.reason)
    return NetworkRestorer(model, where, precision)
