"""The training loop: it learns, resumes exactly, stops on NaN and refuses mistakes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch

from depthsr import checkpoint, cli
from depthsr.batches import collate
from depthsr.data.degrade import Degraded
from depthsr.data.layouts import open_dataset
from depthsr.data.mixture import Mixture
from depthsr.data.pairs import Sample, TrainingPairs
from depthsr.evaluate import evaluate
from depthsr.losses import restoration_loss
from depthsr.train import train
from depthsr.types import UserError
from depthsr.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def config(short_training):
    return short_training


def journal(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def trained(out):
    """The weights at the end of a run, not their average."""
    return torch.load(out / "checkpoint.pt", weights_only=True)["model"]


def assert_equal_weights(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, **tolerance, msg=lambda said, name=name: f"{name}: {said}")


def losses_of(monkeypatch):
    """Records the loss of every micro-batch."""
    seen = []

    def recording(*args, **kwargs):
        loss, parts = restoration_loss(*args, **kwargs)
        seen.append(loss.item())
        return loss, parts

    monkeypatch.setattr("depthsr.train.restoration_loss", recording)
    return seen


@pytest.mark.parametrize("fill", [False, True])
def test_a_killed_run_resumes_exactly(config, fill, tmp_path, monkeypatch, every_hole_is_wide):
    seen = losses_of(monkeypatch)
    config = dataclasses.replace(config, fill_wide_holes=fill)
    whole = train(config)
    expected = list(seen)
    seen.clear()

    killed = dataclasses.replace(config, out=str(tmp_path / "killed"), checkpoint_minutes=0)
    real_save = checkpoint.save_training_state

    def save_then_die(state, path):
        real_save(state, path)
        if state["step"] == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_training_state", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(killed)
    monkeypatch.setattr(checkpoint, "save_training_state", real_save)
    resumed = train(killed, resume=True)

    assert seen == expected
    ours, theirs = (checkpoint.load_model(folder).state_dict() for folder in (resumed, whole))
    assert_equal_weights(ours, theirs, rtol=0, atol=0)
    assert [line["step"] for line in journal(tmp_path / "killed")] == [4, 8]
    assert journal(tmp_path / "killed")[-1] == journal(tmp_path / "run")[-1]


def test_the_average_is_what_is_saved(config):
    folder = train(dataclasses.replace(config, ema=0.5))
    state = torch.load(folder.parent / "checkpoint.pt", weights_only=True)
    saved = checkpoint.load_model(folder).state_dict()
    name = "unet.residual_head.weight"
    torch.testing.assert_close(saved[name], state["average"][f"module.{name}"])
    assert not torch.equal(saved[name], state["model"][name])
    assert saved[name].abs().sum() > 0


def test_one_sample_can_be_learnt(config, monkeypatch):
    """Depth that the guide shows and the measurement does not: the error must fall far below that of no correction."""
    rng = np.random.default_rng(0)
    mask = cv2.resize(rng.random((4, 4)).astype(np.float32), (32, 32)) > 0.5
    target_m = np.where(mask, 4.0, 2.0).astype(np.float32)
    low_m = target_m.reshape(8, 4, 8, 4).mean((1, 3))
    rgb = np.repeat(mask[..., None], 3, 2).astype(np.float32)
    sample = Sample(rgb, Degraded(low_m, low_m, 0.0, None, "classical"), target_m)
    monkeypatch.setattr(TrainingPairs, "__getitem__", lambda self, key: sample)
    l1, real, expected = [], [], []

    def recording(depth, error, target, valid, *args):
        loss, parts = restoration_loss(depth, error, target, valid, *args)
        l1.append(parts["l1"].item())
        real.append((depth - target).abs().mean().item())
        expected.append(error.mean().item())
        return loss, parts

    monkeypatch.setattr("depthsr.train.restoration_loss", recording)
    train(dataclasses.replace(config, steps=200, batch=1, final_fraction=0.0, learning_rate=3e-3, validate_steps=1000))
    assert max(l1[99], l1[-1]) < 0.25 * l1[0]
    # The error head follows it down, a little behind; test_expected_error.py sees to what it settles.
    assert 0.5 < sum(expected[50:100]) / sum(real[50:100]) < 2
    assert expected[-1] < 0.25 * expected[0]


def test_bf16_learns_as_fp32_does(config, monkeypatch):
    """The losses of each step stay close, yet differ (autocast is on); weights and optimiser states stay float32."""
    seen = losses_of(monkeypatch)
    config = dataclasses.replace(config, steps=6, final_fraction=0.0, learning_rate=3e-3)
    train(config)
    expected = list(seen)
    seen.clear()
    out = Path(config.out).with_name("bf16")
    train(dataclasses.replace(config, precision="bf16", out=str(out)))
    assert seen == pytest.approx(expected, rel=0.02)
    assert seen != expected
    assert expected[-1] != pytest.approx(expected[0], rel=0.02)
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    moments = [value for moment in state["optimizer"]["state"].values() for value in moment.values()]
    assert {tensor.dtype for tensor in [*state["model"].values(), *moments]} == {torch.float32}


def test_a_step_is_the_same_however_micro_batches_share_it(config, tmp_path):
    """Four samples at once, or in two or four parts of unequal numbers of valid pixels."""
    config = dataclasses.replace(config, steps=4, batch=4, final_fraction=0.0, balance=True, gradient_clip=1e9)
    train(config)
    expected = trained(tmp_path / "run")
    untrained = checkpoint.new_or_saved_model(config.preset).state_dict()
    name = "unet.residual_head.weight"
    assert (expected[name] - untrained[name]).abs().max() > 1e-3
    for accumulate in (2, 4):
        out = tmp_path / f"run{accumulate}"
        train(dataclasses.replace(config, batch=4 // accumulate, accumulate=accumulate, out=str(out)))
        assert_equal_weights(trained(out), expected, rtol=1e-4, atol=1e-6)


def test_ten_steps_from_the_command_line(config, tmp_path, monkeypatch):
    """As a user starts it, with a loader process: the model that is saved loads, and is no longer what it was."""
    options = {"data": config.data, "out": tmp_path / "run", "preset": config.preset, "steps": 10, "batch": 2}
    options |= {"crop": 32, "final-crop": 48, "accumulate": 2, "warmup-steps": 2, "ema": 0.5, "device": "cpu"}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["depthsr", "train", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    (last,) = journal(tmp_path / "run")
    assert last["step"] == 10
    assert 0 < last["val_mae_m"] <= last["val_rmse_m"] < 60
    ours, before = (checkpoint.load_model(folder).unet for folder in (tmp_path / "run" / "model", config.preset))
    changed = [not torch.equal(p, q) for p, q in zip(ours.parameters(), before.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.gpu
def test_the_gpu_learns_as_the_cpu_does(config, monkeypatch):
    seen = losses_of(monkeypatch)
    config = dataclasses.replace(config, steps=6, accumulate=2, learning_rate=3e-3)
    train(config)
    expected = list(seen)
    seen.clear()
    train(dataclasses.replace(config, device="cuda", workers=1, out=str(Path(config.out).with_name("cuda"))))
    assert seen == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_what_is_no_number_stops_with_the_batches_and_changes_no_weight(config, tmp_path, monkeypatch, broken):
    """In the second of two micro-batches of the third step."""
    calls = []

    def breaking(depth, *args):
        loss, parts = restoration_loss(depth, *args)
        calls.append(loss)
        if len(calls) < 6:
            return loss, parts
        # The gradient of the root at 0 is infinite, and 0 times that no number; its value is 0.
        factor = torch.nan if broken == "loss" else 1 + 0 * (depth - depth.detach()).abs().sum().sqrt()
        return loss * factor, parts

    made = []
    real_new = checkpoint.new_or_saved_model

    def remember(*args):
        made.append(real_new(*args))
        return made[0]

    weights = []
    real_clip = torch.nn.utils.clip_grad_norm_

    def remember_weights(*args):
        weights.append({name: tensor.clone() for name, tensor in made[0].state_dict().items()})
        return real_clip(*args)

    monkeypatch.setattr("depthsr.learner.new_or_saved_model", remember)
    monkeypatch.setattr("depthsr.train.restoration_loss", breaking)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", remember_weights)
    with pytest.raises(
        FloatingPointError, match=r"step 2 gives no number .*gradient_norm nan.*bad_step_2_process_0.pt"
    ):
        train(dataclasses.replace(config, accumulate=2))
    first, second = torch.load(tmp_path / "run" / "bad_step_2_process_0.pt", weights_only=False)
    assert torch.isfinite(first["rgb_B3HW"]).all()
    assert not torch.equal(first["rgb_B3HW"], second["rgb_B3HW"])
    assert len(weights) == 3
    assert_equal_weights(made[0].state_dict(), weights[2], rtol=0, atol=0)
    assert not torch.equal(weights[2]["unet.residual_head.weight"], weights[1]["unet.residual_head.weight"])


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [({}, "gdsr-x8"), ({"recipe": "ais"}, "ais"), ({"validation_protocol": "tof"}, "tof")],
)
def test_validation_scores_what_eval_does(config, tmp_path, settings, protocol):
    model = train(dataclasses.replace(config, steps=2, learning_rate=0.01, **settings))
    row = evaluate(config.data, protocol, [str(model)], baselines=False, split="val", device="cpu")["rows"][0]
    line = journal(tmp_path / "run")[-1]
    assert (line["val_rmse_m"], line["val_mae_m"]) == pytest.approx((row["rmse"], row["mae"]), rel=1e-4)


def test_frames_with_nothing_to_validate_on_are_told_before_training(config, tmp_path):
    for name in open_dataset(config.data).split("val"):
        np.save(Path(config.data) / "depth" / f"{name}.npy", np.full((64, 96), np.nan, np.float32))
    with pytest.raises(UserError, match="data has no validation frame with depth to score"):
        train(config)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("recipe", ["mixed", "ais"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_of_holes_is_not_trained_on(config, recipe, workers, monkeypatch):
    """The challenge's law makes measurements of holes too, but there is nothing that they should become."""
    monkeypatch.setattr("depthsr.data.pairs.MOST_DRAWS", 20)
    for name in open_dataset(config.data).split("train"):
        np.save(Path(config.data) / "depth" / f"{name}.npy", np.full((64, 96), np.nan, np.float32))
    with pytest.raises(UserError, match=r"^\S*data has no depth to train on in 20 crops[^\n]*depth folder\.$"):
        train(dataclasses.replace(config, recipe=recipe, workers=workers))


def test_frames_smaller_than_the_crop_are_trained_on_beside_larger_ones(config, monkeypatch):
    """In the first and in the last steps; every sample gives a loss."""
    folder = Path(config.data)
    for number, name in enumerate(open_dataset(folder).names):
        if number % 2:
            np.save(folder / "depth" / f"{name}.npy", np.load(folder / "depth" / f"{name}.npy")[-24:, :40])
            rgb = cv2.imread(str(folder / "rgb" / f"{name}.png"))
            cv2.imwrite(str(folder / "rgb" / f"{name}.png"), rgb[-24:, :40])
    sizes, seen = [], losses_of(monkeypatch)

    def recording(samples):
        sizes.append({sample.target_m_HW.shape for sample in samples})
        return collate(samples)

    monkeypatch.setattr("depthsr.batches.collate", recording)
    train(dataclasses.replace(config, batch=8, final_fraction=0.5))
    assert {(24, 32), (32, 32)} in sizes
    assert {(24, 40), (64, 64)} in sizes
    assert min(seen) > 0


def test_published_validation_is_the_last_hundred(config):
    with pytest.raises(UserError, match="6 frames, of which the last 100"):
        train(dataclasses.replace(config, validation="last100"))


def test_epochs_are_counted_in_the_training_frames(config, tmp_path):
    """Four of the six frames are for training here: three epochs are six steps of two."""
    train(dataclasses.replace(config, epochs=3.0))
    assert [line["step"] for line in journal(tmp_path / "run")] == [4, 6]
    assert json.loads((tmp_path / "run" / "train_config.json").read_text())["steps"] == 6


def test_a_finished_run_is_not_overwritten(config):
    train(config)
    with pytest.raises(UserError, match="--resume"):
        train(config)


@pytest.fixture
def begun(config):
    """The configuration of a run that has come to its end, and can go on to a later one."""
    train(config)
    return config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.5, "seed": 3}, r"learning_rate 0.001 \(now 0.5\), seed 0 \(now 3\)"),
        ({"preset": "edge"}, r"preset '.*tiny' \(now 'edge'\)"),
        ({"recipe": "ais"}, r"recipe 'mixed' \(now 'ais'\)"),
        ({"accumulate": 2}, r"accumulate 1 \(now 2\)"),
        ({"extra_data": ("more",)}, r"extra_data \(\) \(now \('more',\)\)"),
        ({"only": "unet.error_head"}, r"only None \(now 'unet.error_head'\)"),
    ],
)
def test_another_run_is_not_resumed(begun, change, said):
    with pytest.raises(UserError, match=f"run was begun with {said}; resume it with that"):
        train(dataclasses.replace(begun, **change), resume=True)


def test_a_run_goes_on_to_a_later_end_and_its_settings_are_those_in_force(begun, tmp_path):
    longer = dataclasses.replace(begun, steps=10, final_fraction=0.5, validate_steps=5, cache_frames=2)
    train(longer, resume=True)
    assert [line["step"] for line in journal(tmp_path / "run")] == [4, 8, 10]
    written = json.loads((tmp_path / "run" / "train_config.json").read_text())
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in written.items()} == (
        dataclasses.asdict(longer)
    )


def test_of_an_older_state_only_is_known(begun, tmp_path):
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["config"]
    torch.save({**state, "only": None}, path)
    with pytest.raises(UserError, match="begun with only None"):
        train(dataclasses.replace(begun, only="unet.error_head"), resume=True)
    train(dataclasses.replace(begun, steps=9, weight_decay=0.0), resume=True)
    assert journal(tmp_path / "run")[-1]["step"] == 9


def test_nothing_is_resumed_from_nothing(config, tmp_path):
    with pytest.raises(UserError, match=r"run holds no checkpoint\.pt to resume from"):
        train(config, resume=True)
    assert not (tmp_path / "run").exists()


def test_extra_folders_are_trained_on_and_not_validated_on(config, tmp_path):
    """The samples of a run name the frames they are cut from, the journal's scores those they are of."""
    extra = tmp_path / "extra"
    shutil.copytree(config.data, extra)
    with (
        patch.object(Mixture, "read", autospec=True, side_effect=Mixture.read) as read,
        patch("depthsr.train.Validation", side_effect=Validation) as validation,
    ):
        train(dataclasses.replace(config, extra_data=(str(extra),), steps=20, validate_steps=20))
    own = open_dataset(config.data)
    assert {name for call in validation.call_args_list for name in call.args[1]} == set(own.split("val"))
    assert {call.args[1] for call in read.call_args_list} == {*own.names, *(f"1:{name}" for name in own.names)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"validation": "random"}, "scene or last100"),
        ({"validation_protocol": "random"}, "no validation protocol 'random'; choose one of ais, gdsr-x4"),
        ({"device": "gpu7"}, "gpu7"),
        ({"preset": "edgy"}, "config.json does not exist"),
        ({"data": "/nowhere"}, "/nowhere is no folder"),
        ({"extra_data": ("/elsewhere",)}, "/elsewhere is no folder"),
    ],
)
def test_mistakes_are_told_in_a_sentence(config, change, sentence):
    with pytest.raises(UserError, match=sentence):
        train(dataclasses.replace(config, **change))
