"""Training configurations: the published recipe, what overrides it, and mistakes."""

from __future__ import annotations

import pytest

from depthsr.config import TrainConfig, train_config
from depthsr.types import UserError


def test_paper_is_the_published_recipe():
    config = train_config(data="d", out="o", preset="paper")
    assert (config.preset, config.recipe, config.validation) == ("base", "ais", "last100")
    assert (config.epochs, config.batch, config.accumulate) == (500, 8, 1)
    assert (config.learning_rate, config.backbone_learning_rate) == (2e-4, 2e-6)
    assert (config.gradient_weight, config.rmse_weight, config.balance) == (1.0, 0.0, False)


def test_options_count_more_than_the_preset_and_the_preset_more_than_the_defaults():
    paper = train_config(data="d", out="o", preset="paper", learning_rate=1e-5, batch=TrainConfig.batch)
    assert (paper.learning_rate, paper.batch) == (1e-5, TrainConfig.batch)
    assert paper.recipe == "ais" != TrainConfig.recipe
    assert train_config(data="d", out="o", preset="paper", steps=30).epochs is None
    assert train_config(data="d", out="o", preset="paper", epochs=2).epochs == 2


def test_without_a_training_preset_options_are_the_configuration():
    assert train_config(data="d", out="o", preset="base", steps=9) == TrainConfig("d", "o", preset="base", steps=9)
    assert train_config(data="d", out="o") == TrainConfig("d", "o")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 10, "epochs": 2}, "steps and epochs"),
        ({"recipe": "misxed"}, "no recipe 'misxed'; choose one of mixed, ais"),
        ({"precision": "fp16"}, "no precision 'fp16'; choose one of fp32, bf16"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"epochs": -1.0}, "epochs is -1.0"),
        ({"batch": -4}, "batch is -4"),
        ({"validate_steps": 0}, "validate_steps is 0; it must be more than 0"),
        ({"workers": -1}, "workers is -1; it must be 0 or more"),
        ({"cache_frames": -1}, "cache_frames is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"final_fraction": 1.5}, "final_fraction is 1.5; it must be from 0 to 1"),
        ({"ema": 1.0}, "ema is 1.0; it must be 0 or more and less than 1"),
        ({"ema": float("nan")}, "ema is nan"),
    ],
)
def test_mistakes_are_told_in_a_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence):
        train_config(data="d", out="o", **options)
