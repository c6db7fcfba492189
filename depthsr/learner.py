"""What training moves, saved and restored together: weights, their average, AdamW's moments, the learning rate."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from depthsr.checkpoint import new_or_saved_model
from depthsr.config import TrainConfig
from depthsr.models.network import DepthSR, to_channels_last
from depthsr.schedule import make_optimizer, rate_factor, train_only


class Learner:
    """A model on its way through the steps of a configuration.

    model      what gradients are of, with new weights or a saved model's (config.preset).
    averaged   a copy in eval mode, its weights their exponential moving average (config.ema): what is validated, saved
               for inference, and fills wide holes.

    Raises UserError where the configuration names a model or parameters that do not exist.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.model = new_or_saved_model(config.preset, config.relative).to(device).train()
        if config.channels_last:
            to_channels_last(self.model)
        train_only(self.model, config.only)
        self._average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.averaged = cast(DepthSR, self._average.module).eval()
        self._optimizer = make_optimizer(self.model, config)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, partial(rate_factor, config))
        self._saved: dict[str, Any] = {
            "model": self.model,
            "average": self._average,
            "optimizer": self._optimizer,
            "scheduler": self._schedule,
        }

    @property
    def learning_rate(self) -> float:
        """The U-Net's, at the next step."""
        return float(self._schedule.get_last_lr()[0])

    def forget_gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Follow the gradients that were added up since they were last forgotten."""
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self.model)

    def state_dict(self) -> dict[str, dict]:
        return {name: part.state_dict() for name, part in self._saved.items()}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Other entries of `state` are left alone."""
        for name, part in self._saved.items():
            part.load_state_dict(state[name])
