"""base without Depth Anything: trained, saved, restored with and scored on relative depth that is made or given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import depthsr
from depthsr import checkpoint
from depthsr.config import TrainConfig
from depthsr.data.dataset import Frame
from depthsr.data.pairs import TrainingPairs
from depthsr.data.relative import inverse_depth, normalise_relative
from depthsr.evaluate import evaluate
from depthsr.models.network import DepthSR
from depthsr.models.relative import normalise_relative as normalise_tensor
from depthsr.report import markdown_table
from depthsr.train import train
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(random_frames):
    return random_frames(4, scenes=3)


@pytest.fixture
def saved(save_random_model, tiny_base_config):
    """A U-Net alone whose every weight is random."""
    return Path(save_random_model(tiny_base_config))


@pytest.fixture
def no_depth_anything(monkeypatch):
    def refuse(*args):
        raise AssertionError("Depth Anything was built")

    monkeypatch.setattr(DepthSR, "add_depth_anything", refuse)
    monkeypatch.setattr(DepthSR, "fetch_depth_anything", refuse)


class Brightness(torch.nn.Module):
    """In the place of Depth Anything: what is bright is near."""

    def forward(self, rgb_B3HW):
        return normalise_tensor(rgb_B3HW.mean(1, keepdim=True))


class Frames:
    """A slope with sky above it."""

    def read(self, name: str) -> Frame:
        depth_m = np.repeat(np.linspace(60, 2, 64, dtype=np.float32)[:, None], 96, 1)
        depth_m[:20] = np.inf
        return Frame(np.random.default_rng(int(name)).integers(0, 256, (64, 96, 3), dtype=np.uint8), depth_m)


def test_a_sample_carries_the_relative_depth_of_its_target():
    settings = {"recipe": "mixed", "seed": 5, "cache_frames": 2}
    with_relative = TrainingPairs(Frames(), ["1", "2"], relative=True, **settings)
    without = TrainingPairs(Frames(), ["1", "2"], **settings)
    correlations = []
    for step in range(12):
        sample, plain = with_relative[step, 0, 48], without[step, 0, 48]
        assert plain.relative_HW is None
        np.testing.assert_array_equal(sample.rgb_HW3, plain.rgb_HW3)
        np.testing.assert_array_equal(sample.degraded.depth_m, plain.degraded.depth_m)
        scene_m = np.where(np.isnan(sample.target_m_HW), np.inf, sample.target_m_HW)
        truth = normalise_relative(inverse_depth(scene_m))
        assert sample.relative_HW.shape == truth.shape
        correlations.append(np.corrcoef(sample.relative_HW.ravel(), truth.ravel())[0, 1])
    assert np.median(correlations) > 0.85


def test_the_u_net_trains_saves_and_restores_without_depth_anything(saved, data, tmp_path, no_depth_anything):
    config = TrainConfig(
        data=str(data),
        out=str(tmp_path / "run"),
        preset=str(saved),
        relative="simulated",
        steps=2,
        batch=2,
        crop=32,
        final_fraction=0.0,
        warmup_steps=1,
        ema=0.0,
        workers=0,
        validate_steps=2,
        device="cpu",
    )
    folder = train(config)
    before, after = (checkpoint.load_model(path).state_dict() for path in (saved, folder))
    assert {name.split(".")[0] for name in after} == {"unet"}
    stem = "unet.relative_stem.weight"
    assert (before[stem][:, 0] != after[stem][:, 0]).any()  # the relative depth's own channel learns

    rng = np.random.default_rng(0)
    rgb, depth_m = rng.random((32, 48, 3), np.float32), rng.uniform(1, 9, (8, 12)).astype(np.float32)
    # Of 256 levels, so that the second is the first without a rounding: a network of random weights makes much of one.
    relative = rng.integers(0, 256, (32, 48)).astype(np.float32) / 256
    predictor = depthsr.load(str(folder))
    result = predictor(rgb, depth_m, relative=relative).depth_m
    np.testing.assert_allclose(predictor(rgb, depth_m, relative=3 + 16 * relative).depth_m, result, rtol=1e-5)
    assert np.abs(predictor(rgb, depth_m, relative=1 - relative).depth_m - result).max() > 1e-3


def test_relative_depth_that_is_not_given_is_fetched_once(saved, monkeypatch):
    predictor = depthsr.load(str(saved))
    rng = np.random.default_rng(0)
    rgb, depth_m = rng.random((32, 48, 3), np.float32), rng.uniform(1, 9, (8, 12)).astype(np.float32)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"none/tiny.*relative depth of your own"):
        predictor(rgb, depth_m)
    model = predictor.restorer.model
    fetched = []

    def fetch(self):
        fetched.append(self)
        self.depth_anything = Brightness()

    monkeypatch.setattr(DepthSR, "fetch_depth_anything", fetch)
    first, second = (predictor(rgb, depth_m).depth_m for _ in range(2))
    assert fetched == [model]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(predictor(rgb, depth_m, relative=rgb.mean(2)).depth_m, first, rtol=1e-3)


def test_weights_in_half_precision_are_read_back_as_float32(saved, tmp_path):
    model = checkpoint.load_model(saved)
    checkpoint.save_model(model, tmp_path / "half", dtype=torch.float16)
    sizes = [(folder / checkpoint.WEIGHTS_FILE).stat().st_size for folder in (saved, tmp_path / "half")]
    assert sizes[1] < 0.7 * sizes[0]
    again = checkpoint.load_model(tmp_path / "half")
    for name, tensor in model.state_dict().items():
        assert again.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(again.state_dict()[name], tensor.half().float(), rtol=0, atol=0)


def test_a_folder_with_depth_anything_keeps_it(saved, tmp_path):
    model = checkpoint.load_model(saved)
    model.add_depth_anything()
    checkpoint.save_model(model, tmp_path / "whole")
    again = checkpoint.new_or_saved_model(str(tmp_path / "whole"))
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    with pytest.raises(UserError, match="--relative network"):
        checkpoint.new_or_saved_model(str(tmp_path / "whole"), "simulated")


@pytest.mark.parametrize(
    ("preset", "relative", "sentence"),
    [("edge", "simulated", "takes no relative depth"), ("edge", "guessed", "network, simulated")],
)
def test_mistakes_are_told(preset, relative, sentence):
    with pytest.raises(UserError, match=sentence):
        checkpoint.new_or_saved_model(preset, relative)


def test_eval_with_simulated_relative_depth_says_so(saved, data, no_depth_anything):
    settings = {"baselines": False, "relative": "simulated", "device": "cpu"}
    whole = evaluate(data, "gdsr-x4", [str(saved), "bilinear"], **settings)
    assert whole["relative"] == "simulated"
    assert "relative depth: simulated" in markdown_table(whole)
    one = evaluate(data, "gdsr-x4", [str(saved)], limit=1, **settings)
    assert one["per_frame"][0]["rmse"][0] == pytest.approx(whole["per_frame"][0]["rmse"][0], rel=1e-6)
    other = evaluate(data, "gdsr-x4", [str(saved)], limit=1, seed=1, **settings)  # this protocol has no noise itself
    assert other["per_frame"][0]["rmse"][0] != pytest.approx(one["per_frame"][0]["rmse"][0], rel=1e-6)
    assert evaluate(data, "gdsr-x4", ["bilinear"], baselines=False)["relative"] is None
    with pytest.raises(UserError, match="takes relative depth"):
        evaluate(data, "gdsr-x4", ["bilinear"], **settings)
