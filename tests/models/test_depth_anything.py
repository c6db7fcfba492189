"""Depth Anything through transformers, on a small network of the same classes: no weights can be fetched in tests."""

from __future__ import annotations

import pytest
import torch

from depthsr.config import BASE, DepthAnythingConfig
from depthsr.models.depth_anything import DepthAnything, load_hub_weights, normalise_relative
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_default_configuration_is_the_small_model_of_the_hub():
    with torch.device("meta"):
        network = DepthAnything(DepthAnythingConfig()).network
    assert sum(parameter.numel() for parameter in network.parameters()) == 24_785_089  # 24.8 M in the paper's table 1
    assert BASE.depth_anything.revision != "main"


def test_relative_depth_is_unmoved_by_scale_and_offset():
    raw = torch.randn(2, 1, 20, 30)
    expected = normalise_relative(raw)
    torch.testing.assert_close(normalise_relative(7 * raw + 3), expected, rtol=1e-4, atol=1e-4)
    ordered = expected.flatten(1).sort(1).values
    torch.testing.assert_close(ordered[:, round(599 * 0.02)], torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(ordered[:, round(599 * 0.98)], torch.ones(2), atol=1e-5, rtol=0)


def test_a_constant_frame_is_finite():
    assert torch.isfinite(normalise_relative(torch.full((1, 1, 5, 5), 3.0))).all()


def test_base_runs_its_own_network_or_takes_the_users(tiny_base, frame):
    rgb, depth_m, valid = frame()
    own, _ = tiny_base.infer(rgb, depth_m, valid)
    relative = tiny_base.depth_anything(rgb)
    given, _ = tiny_base.infer(rgb, depth_m, valid, relative_B1HW=relative)
    torch.testing.assert_close(given, own)
    other, _ = tiny_base.infer(rgb, depth_m, valid, relative_B1HW=1 - relative)
    assert (other - own).abs().max() > 1e-3


def test_both_parts_of_base_learn(tiny_base, frame, prior_of):
    rgb, depth_m, valid = frame()
    depth, _ = tiny_base(rgb, prior_of(rgb, depth_m, valid))
    depth.square().mean().backward()
    assert tiny_base.depth_anything.network.head.conv1.weight.grad.abs().sum() > 0
    assert tiny_base.unet.relative_stem.weight.grad.abs().sum() > 0


def test_unreachable_weights_are_a_users_sentence(tiny_base, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"none/tiny.*'edge'"):
        load_hub_weights(tiny_base.depth_anything)
