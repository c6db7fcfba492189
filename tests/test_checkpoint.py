"""Models from disk: what was saved comes back, and broken files are told apart."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from depthsr import checkpoint
from depthsr.config import BASE, EDGE, PRESETS
from depthsr.model_files import SHIPPED
from depthsr.models.network import DepthSR
from depthsr.types import UserError

TINY = dataclasses.replace(EDGE, name="tiny", widths=(8, 8, 8, 8))


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    checkpoint.save_model(DepthSR(TINY), tmp_path / "model")
    return tmp_path / "model"


def test_round_trip_through_both_doors(saved):
    ours, hub = checkpoint.load_model(saved), DepthSR.from_pretrained(saved)
    assert ours.config == hub.config == TINY
    assert not ours.training
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(hub.state_dict()[name], tensor, rtol=0, atol=0)
    half = checkpoint.load_model(saved, dtype=torch.float16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}


def test_the_shipped_edge_model_is_trained():
    model = checkpoint.load_model("edge")
    assert model.config == EDGE
    assert model.unet.residual_head.weight.abs().max() > 1e-3  # zero when fresh
    weights = SHIPPED / "edge" / checkpoint.WEIGHTS_FILE
    assert weights.stat().st_size < 6e6


def test_the_shipped_base_model_is_the_trained_unet_alone():
    model = checkpoint.load_model("base")
    assert model.config == BASE
    assert model.depth_anything is None
    assert model.unet.residual_head.weight.abs().max() > 1e-3  # zero when fresh
    assert sum(path.stat().st_size for path in SHIPPED.rglob(checkpoint.WEIGHTS_FILE)) < 20e6


@pytest.mark.parametrize("preset", ["edge", "base"])
def test_the_shipped_models_come_through_the_hubs_door_without_the_hub(preset, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", lambda **_: pytest.fail("asked the hub"))
    expected, found = checkpoint.load_model(preset).state_dict(), DepthSR.from_pretrained(preset).state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_everybody_may_read_what_was_saved(saved):
    weights, config = saved / checkpoint.WEIGHTS_FILE, saved / checkpoint.CONFIG_FILE
    assert weights.stat().st_mode == config.stat().st_mode


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_without_weights_says_how_to_train_them(preset, tmp_path, monkeypatch):
    monkeypatch.setattr("depthsr.model_files.SHIPPED", tmp_path)
    with pytest.raises(UserError, match=f"no trained weights of '{preset}' ship.*depthsr train --preset {preset}"):
        checkpoint.load_model(preset)


def test_broken_models_are_told_apart(saved, tmp_path):
    with pytest.raises(UserError, match=r"nowhere/config.json does not exist"):
        checkpoint.load_model(tmp_path / "nowhere")
    weights, config = saved / checkpoint.WEIGHTS_FILE, saved / checkpoint.CONFIG_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model.safetensors is corrupt"):
        checkpoint.load_model(saved)
    weights.write_bytes(whole)
    described = json.loads(config.read_text())
    config.write_text(json.dumps({**described, "widths": [8, 8, 8, 16]}))
    with pytest.raises(UserError, match=r"does not belong to the model"):
        checkpoint.load_model(saved)
    config.write_text(json.dumps({**described, "wings": 2}))
    with pytest.raises(UserError, match=r"config.json is no model configuration.*wings"):
        checkpoint.load_model(saved)
    config.write_text(json.dumps({**described, "widths": [8] * 5}))
    with pytest.raises(UserError, match=r"config.json is no model configuration.*widths is \(8, 8, 8, 8, 8\)"):
        checkpoint.load_model(saved)
    config.write_text("{")
    with pytest.raises(UserError, match=r"config.json is no model configuration"):
        checkpoint.load_model(saved)
    weights.unlink()
    with pytest.raises(UserError, match=r"model.safetensors does not exist"):
        checkpoint.load_model(saved)


def test_a_corrupt_training_state_is_told(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save_training_state({"step": 3}, path)
    with pytest.raises(UserError, match=r"checkpoint.pt is of an older depthsr; resume it with that one"):
        checkpoint.load_training_state(path, torch.device("cpu"))
    checkpoint.save_training_state({"step": 3, "world": 2}, path)
    assert checkpoint.load_training_state(path, torch.device("cpu")) == {"step": 3, "world": 2}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"checkpoint.pt is corrupt"):
        checkpoint.load_training_state(path, torch.device("cpu"))
