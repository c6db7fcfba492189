"""How a run proceeds: crop sizes, learning rates, and the optimiser they drive."""

from __future__ import annotations

import dataclasses
import math

import torch

from depthsr.config import TrainConfig
from depthsr.models.network import DepthSR
from depthsr.types import UserError


def with_steps(config: TrainConfig, frames: int, world: int) -> TrainConfig:
    """The configuration with its epochs, where it has any, turned into steps. An epoch is as many samples as frames."""
    if config.epochs is None:
        return config
    samples = config.batch * config.accumulate * world
    return dataclasses.replace(config, steps=math.ceil(config.epochs * frames / samples))


def crop_schedule(config: TrainConfig, step: int) -> tuple[int, int]:
    """(batch, crop side) of a step: large crops at the end, with about the same number of pixels."""
    if step < config.steps * (1 - config.final_fraction):
        return config.batch, config.crop
    return max(1, round(config.batch * (config.crop / config.final_crop) ** 2)), config.final_crop


def rate_factor(config: TrainConfig, step: int) -> float:
    """Share of the learning rate: linear warm-up, cosine to zero."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train_only(model: DepthSR, beginning: str | None) -> None:
    """Freeze the parameters whose names do not begin so; None freezes none. Raises UserError where that is all."""
    if beginning is None:
        return
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(beginning))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        parts = ", ".join(f"unet.{name}" for name, _ in model.unet.named_children())
        raise UserError(f"--only {beginning}: no parameter's name begins so; there are {parts}.")


def make_optimizer(model: DepthSR, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; Depth Anything has its own learning rate; vectors (gains, biases, beta, gamma) do not decay.

    What is frozen is left out.
    """
    groups = []
    for part, rate in ((model.unet, config.learning_rate), (model.depth_anything, config.backbone_learning_rate)):
        if part is None:
            continue
        parameters = [p for p in part.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.squeeze().ndim > 1]
        vectors = [p for p in parameters if p.squeeze().ndim <= 1]
        groups.append({"params": matrices, "lr": rate, "weight_decay": config.weight_decay})
        groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, betas=(0.9, 0.9), fused=True)
