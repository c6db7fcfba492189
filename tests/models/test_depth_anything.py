"""Depth Anything through transformers, on a small network of the same classes: no weights can be fetched in tests."""

from __future__ import annotations

import pytest
import torch

from depthsr.config import BASE, DepthAnythingConfig
from depthsr.models.depth_anything import RENAMED, DepthAnything, load_hub_weights
from depthsr.models.network import DepthSR
from depthsr.models.relative import normalise_relative
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


@pytest.mark.parametrize("hub_names", [True, False])
def test_what_another_release_of_transformers_saved_loads(tiny_base, hub_names):
    """The attention layers' names are the hub's in 4.56, others in 5.24."""
    own = tiny_base.state_dict()
    saved = {}
    for name, tensor in own.items():
        for pair in RENAMED.items():
            name = name.replace(*(pair[::-1] if hub_names else pair))
        saved[name] = tensor + 1
    renamed = [name for name in saved if any((pair[0] if hub_names else pair[1]) in name for pair in RENAMED.items())]
    assert len(renamed) == 8 * tiny_base.config.depth_anything.layers  # four linear layers' weight and bias
    model = DepthSR(tiny_base.config)
    model.load_state_dict(saved)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, own[name] + 1)


def test_both_parts_of_base_learn(tiny_base, frame, prior_of):
    rgb, depth_m, valid = frame()
    depth, _ = tiny_base(rgb, prior_of(rgb, depth_m, valid))
    depth.square().mean().backward()
    assert tiny_base.depth_anything.network.head.conv1.weight.grad.abs().sum() > 0
    assert tiny_base.unet.relative_stem.weight.grad.abs().sum() > 0


def test_a_new_base_wants_relative_depth_and_can_fetch_its_network(tiny_base, frame, monkeypatch):
    rgb, depth_m, valid = frame()
    relative = tiny_base.depth_anything(rgb)
    expected, _ = tiny_base.infer(rgb, depth_m, valid)
    model = DepthSR(tiny_base.config).eval()
    model.unet.load_state_dict(tiny_base.unet.state_dict())
    given, _ = model.infer(rgb, depth_m, valid, relative_B1HW=relative)
    torch.testing.assert_close(given, expected)
    with pytest.raises(UserError, match="fetch_depth_anything"):
        model.infer(rgb, depth_m, valid)
    monkeypatch.setattr(
        "transformers.DepthAnythingForDepthEstimation.from_pretrained",
        lambda hub_id, revision, local_files_only: tiny_base.depth_anything.network,
    )
    model.fetch_depth_anything()
    own, _ = model.infer(rgb, depth_m, valid)
    torch.testing.assert_close(own, expected)


def test_a_state_brings_the_network_it_has_weights_for(tiny_base, frame):
    model = DepthSR(tiny_base.config)
    assert model.depth_anything is None
    model.load_state_dict(tiny_base.state_dict())
    rgb, depth_m, valid = frame()
    torch.testing.assert_close(model.eval().infer(rgb, depth_m, valid), tiny_base.infer(rgb, depth_m, valid))


@pytest.mark.parametrize("cached", [True, False])
def test_the_hub_is_asked_for_what_is_not_in_its_cache_alone(tiny_base, monkeypatch, cached):
    asked = []

    def from_pretrained(hub_id, revision, local_files_only=False):
        asked.append("cache" if local_files_only else "hub")
        if local_files_only and not cached:
            raise OSError("not in the cache")
        return DepthAnything(tiny_base.config.depth_anything).network

    monkeypatch.setattr("transformers.DepthAnythingForDepthEstimation.from_pretrained", from_pretrained)
    before = {name: tensor.clone() for name, tensor in tiny_base.depth_anything.state_dict().items()}
    load_hub_weights(tiny_base.depth_anything)
    assert asked == (["cache"] if cached else ["cache", "hub"])
    after = tiny_base.depth_anything.state_dict()
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())


def test_unreachable_weights_are_a_users_sentence(tiny_base, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"none/tiny.*'edge'"):
        load_hub_weights(tiny_base.depth_anything)
