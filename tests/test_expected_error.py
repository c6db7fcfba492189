"""The error that a model expects: trained by itself it becomes the mean error; `eval` puts it beside the real one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from depthsr import checkpoint, infer
from depthsr.config import EDGE, TrainConfig
from depthsr.data.degrade import degrade, ground_truth
from depthsr.data.layouts import open_dataset
from depthsr.evaluate import evaluate
from depthsr.losses import restoration_loss
from depthsr.train import train
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = dataclasses.replace(EDGE, name="tiny", widths=(8, 8, 8, 8))


@pytest.fixture
def tiny_model(save_random_model):
    return save_random_model(TINY)


def test_the_error_head_alone_learns_the_mean_error(tiny_model, random_frames, tmp_path, monkeypatch):
    real, expected = [], []

    def recording(depth, error, target, valid, *args):
        real.append((depth - target)[valid].abs().mean().item())
        expected.append(error[valid].mean().item())
        return restoration_loss(depth, error, target, valid, *args)

    monkeypatch.setattr("depthsr.train.restoration_loss", recording)
    config = TrainConfig(
        data=str(random_frames(6, scenes=3)),
        out=str(tmp_path / "run"),
        preset=str(tiny_model),
        only="unet.error_head",
        steps=240,
        batch=4,
        crop=32,
        final_fraction=0.0,
        learning_rate=0.03,
        warmup_steps=5,
        ema=0.9,
        workers=0,
        validate_steps=1000,
        device="cpu",
    )
    folder = train(config)
    assert not 0.7 < np.mean(expected[:5]) / np.mean(real[:5]) < 1.4
    assert np.mean(expected[-40:]) / np.mean(real[-40:]) == pytest.approx(1.0, abs=0.15)
    before, after = (checkpoint.load_model(path).state_dict() for path in (tiny_model, folder))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {name for name in before if name.startswith("unet.error_head.")}
    with pytest.raises(UserError, match=r"was begun with only 'unet\.error_head' \(now None\)"):
        train(dataclasses.replace(config, only=None), resume=True)


def test_eval_puts_the_expected_error_beside_the_real_one(tiny_model, random_frames):
    folder = random_frames(3, scenes=3, holes=True)
    model, nearest = evaluate(folder, "tof", [str(tiny_model)])["rows"][:2]
    predictor, dataset = infer.load(str(tiny_model), runtime="torch"), open_dataset(folder)
    means = []
    for i, name in enumerate(dataset.names):
        frame = dataset.read(name)
        poor = degrade(frame.depth_m, "tof", seed=i)
        scored = ~np.isnan(ground_truth(frame.depth_m, "tof"))
        prediction = predictor(
            frame.rgb, poor.depth_m, quantisation_step_m=poor.quantisation_step_m, max_depth_m=poor.max_depth_m
        )
        means.append(prediction.error_m[scored].mean())
    assert model["expected_mae"] == pytest.approx(np.mean(means), rel=1e-4)
    assert nearest["expected_mae"] is None
