"""Steps, crops and learning rates of a run."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from depthsr.config import EDGE, TrainConfig
from depthsr.models.network import DepthSR
from depthsr.schedule import crop_schedule, make_optimizer, rate_factor, train_only, with_steps
from depthsr.types import UserError

TINY = dataclasses.replace(EDGE, name="tiny", widths=(8, 8, 8, 8))


def test_epochs_become_steps():
    """An epoch is as many samples as there are frames, whoever takes them; the last step may go a little beyond."""
    config = TrainConfig(data="", out="", epochs=500, batch=8)
    assert with_steps(config, frames=900, world=1).steps == 56250
    assert with_steps(dataclasses.replace(config, accumulate=2), frames=900, world=4).steps == 7032
    assert with_steps(dataclasses.replace(config, epochs=0.5), frames=900, world=1).steps == 57
    assert with_steps(TrainConfig(data="", out="", steps=7), frames=900, world=3).steps == 7


def test_the_last_steps_take_larger_crops_of_about_as_many_pixels():
    config = TrainConfig(data="", out="", steps=100, batch=8, crop=128, final_crop=256, final_fraction=0.2)
    schedule = [crop_schedule(config, step) for step in range(100)]
    assert schedule == [(8, 128)] * 80 + [(2, 256)] * 20


def test_learning_rate_warms_up_and_falls_to_zero():
    config = TrainConfig(data="", out="", steps=1000, warmup_steps=100)
    factors = [rate_factor(config, step) for step in range(1001)]
    assert factors[0] == 0.01
    assert factors[99] == 1.0
    assert factors[550] == pytest.approx(0.5)
    assert factors[1000] == pytest.approx(0.0)


def test_parts_have_their_own_learning_rates():
    model = DepthSR(TINY)
    model.depth_anything = torch.nn.Linear(3, 4)
    config = TrainConfig(data="", out="", learning_rate=2e-4, backbone_learning_rate=2e-6)
    optimizer = make_optimizer(model, config)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {rate_of[id(p)] for p in model.unet.parameters()} == {2e-4}
    assert {rate_of[id(p)] for p in model.depth_anything.parameters()} == {2e-6}
    assert len(rate_of) == sum(1 for _ in model.parameters())
    block = model.unet.middle[0]
    assert decay_of[id(block.beta)] == decay_of[id(block.norm1.weight)] == 0
    assert decay_of[id(block.conv1.weight)] == config.weight_decay


def test_what_is_frozen_is_not_optimised():
    model = DepthSR(TINY)
    train_only(model, None)
    assert all(parameter.requires_grad for parameter in model.parameters())
    train_only(model, "unet.error_head")
    trained = [p for group in make_optimizer(model, TrainConfig(data="", out="")).param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in model.unet.error_head.parameters()}
    with pytest.raises(UserError, match=r"--only head: no parameter's name begins so; there are unet\.relative_stem, "):
        train_only(model, "head")
