"""The training loop: it learns, resumes exactly, runs on two processes, stops on NaN and refuses mistakes."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from depthsr import checkpoint
from depthsr.config import EDGE, TrainConfig
from depthsr.data.degrade import Degraded
from depthsr.data.pairs import Sample
from depthsr.losses import restoration_loss
from depthsr.models.network import DepthSR
from depthsr.train import StepKeys, balance, collate, crop_schedule, make_optimizer, rate_factor, train
from depthsr.types import UserError

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = dataclasses.replace(
    EDGE, name="tiny", widths=(8, 8, 8, 8), depth_blocks=(1, 1, 1, 1), relative_blocks=(1, 1, 1, 1)
)


@pytest.fixture
def data(tmp_path):
    """Six random frames of three scenes in the folder layout."""
    folder = tmp_path / "data"
    (folder / "rgb").mkdir(parents=True)
    (folder / "depth").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        name = f"scene{number % 3}_{number}"
        coarse = rng.uniform(2, 60, (6, 8)).astype(np.float32)
        np.save(folder / "depth" / f"{name}.npy", cv2.resize(coarse, (96, 64)))
        cv2.imwrite(str(folder / "rgb" / f"{name}.png"), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def tiny_model(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "tiny"
    checkpoint.save_model(DepthSR(TINY), folder)
    return folder


@pytest.fixture
def config(data, tiny_model, tmp_path):
    return TrainConfig(
        data=str(data),
        out=str(tmp_path / "run"),
        preset=str(tiny_model),
        steps=8,
        batch=2,
        crop=32,
        final_crop=64,
        final_fraction=0.25,
        warmup_steps=2,
        workers=0,
        validate_steps=4,
        checkpoint_minutes=60,
        device="cpu",
    )


def journal(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses_of(monkeypatch):
    """Records every step's loss."""
    seen = []

    def recording(*args, **kwargs):
        loss, parts = restoration_loss(*args, **kwargs)
        seen.append(loss.item())
        return loss, parts

    monkeypatch.setattr("depthsr.train.restoration_loss", recording)
    return seen


def test_a_killed_run_resumes_exactly(config, tmp_path, monkeypatch):
    seen = losses_of(monkeypatch)
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
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0)
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


def test_one_batch_can_be_learnt():
    """Depth that the guide shows and the measurement does not: the loss must fall far below that of no correction."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    mask = cv2.resize(rng.random((4, 4)).astype(np.float32), (32, 32)) > 0.5
    target_m = np.where(mask, 4.0, 2.0).astype(np.float32)
    rgb = np.repeat(mask[..., None], 3, 2).astype(np.float32)
    low_m = target_m.reshape(8, 4, 8, 4).mean((1, 3))
    batch = collate([Sample(rgb, Degraded(low_m, low_m, 0.0, None, "classical"), target_m)])
    model = DepthSR(TINY).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.9))
    l1 = []
    for _ in range(150):
        depth, error = model(batch.rgb_B3HW, batch.prior)
        loss, parts = restoration_loss(depth, error, batch.target_B1HW, batch.valid_B1HW)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        l1.append(parts["l1"].item())
    assert l1[-1] < 0.25 * l1[0]
    real_error = (depth - batch.target_B1HW).abs().mean()
    assert error.mean().item() == pytest.approx(real_error.item(), rel=1.0)


def test_collate_normalises_target_and_measurement_alike():
    rng = np.random.default_rng(0)
    samples = []
    for low in (4, 8, 16):
        target_m = rng.uniform(1, 9, (32, 32)).astype(np.float32)
        target_m[0, 0] = np.nan
        low_m = rng.uniform(1, 9, (low, low)).astype(np.float32)
        samples.append(
            Sample(rng.random((32, 32, 3), np.float32), Degraded(low_m, low_m, 0.0, None, "classical"), target_m)
        )
    batch = collate(samples)
    for number, sample in enumerate(samples):
        scale_m = batch.prior.scale_m_B[number].item()
        assert scale_m == pytest.approx(
            np.sort(sample.degraded.depth_m.ravel())[round((sample.degraded.depth_m.size - 1) * 0.99)]
        )
        result_m = batch.target_B1HW[number, 0].numpy() * scale_m
        np.testing.assert_allclose(result_m, sample.target_m_HW, rtol=1e-6)
        assert not batch.valid_B1HW[number, 0, 0, 0]
        assert batch.valid_B1HW[number].sum() == 32 * 32 - 1


def test_balance_is_the_inverse_error_of_the_measurement():
    rng = np.random.default_rng(0)
    samples = []
    for noise in (0.01, 0.1, 0.4):
        low_m = np.full((8, 8), 5.0, np.float32)
        target_m = low_m.repeat(4, 0).repeat(4, 1) + noise * rng.choice([-1, 1], (32, 32)).astype(np.float32)
        target_m[3] = np.nan
        samples.append(
            Sample(rng.random((32, 32, 3), np.float32), Degraded(low_m, low_m, 0.0, 10.0, "classical"), target_m)
        )
    weights = balance(collate(samples)).flatten()
    torch.testing.assert_close(weights, 0.02 / (0.004 + torch.tensor([0.001, 0.01, 0.04])), rtol=1e-4, atol=0)


def test_two_processes_train_as_one(config, tmp_path):
    """torchrun on gloo: each rank sees samples of its own; the weights are those of one process with both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = dataclasses.asdict(dataclasses.replace(config, steps=3, batch=1, warmup_steps=1, final_fraction=0.0))
    script = tmp_path / "two.py"
    script.write_text(
        "import json, sys\nfrom depthsr.config import TrainConfig\nfrom depthsr.train import train\n"
        f"train(TrainConfig(**json.loads({json.dumps(settings)!r})))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={port}",
        str(script),
    ]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    result = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    for name, expected in _mean_gradient_training(TrainConfig(**settings)).items():
        torch.testing.assert_close(result[name], expected, rtol=1e-4, atol=1e-6)


def _mean_gradient_training(config):
    """The same run in one process: both ranks' samples, gradients averaged."""
    from depthsr.data.layouts import open_dataset
    from depthsr.data.pairs import TrainingPairs
    from depthsr.train import split_names

    model = checkpoint.new_or_saved_model(config.preset).to(memory_format=torch.channels_last).train()
    dataset = open_dataset(config.data)
    names, _ = split_names(dataset, config.validation)
    pairs = TrainingPairs(dataset, names, recipe=config.recipe, seed=config.seed, cache_frames=10)
    optimizer = make_optimizer(model, config)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(config, step))
    for step in range(config.steps):
        optimizer.zero_grad()
        for rank in range(2):
            batch = collate([pairs[step, rank, 0, config.crop]]).to(torch.device("cpu"), channels_last=True)
            depth, error = model(batch.rgb_B3HW, batch.prior)
            (restoration_loss(depth, error, batch.target_B1HW, batch.valid_B1HW)[0] / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
        scheduler.step()
    return model.state_dict()


def test_a_loss_that_is_no_number_stops_with_its_batch(config, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        loss, parts = restoration_loss(*args, **kwargs)
        return loss * torch.nan, parts

    monkeypatch.setattr("depthsr.train.restoration_loss", broken)
    with pytest.raises(FloatingPointError, match="step 0"):
        train(config)
    batch = torch.load(tmp_path / "run" / "bad_batch_0.pt", weights_only=False)
    assert batch["rgb_B3HW"].shape == (2, 3, 32, 32)


def test_the_last_steps_take_larger_crops_of_about_as_many_pixels():
    config = TrainConfig(data="", out="", steps=100, batch=8, crop=128, final_crop=256, final_fraction=0.2)
    schedule = [crop_schedule(config, step) for step in range(100)]
    assert schedule == [(8, 128)] * 80 + [(2, 256)] * 20
    keys = [key for batch in StepKeys(config, 79, 81, rank=3) for key in batch]
    assert keys == [(79, 3, slot, 128) for slot in range(8)] + [(80, 3, slot, 256) for slot in range(2)]


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


def test_published_validation_is_the_last_hundred(config):
    with pytest.raises(UserError, match="6 frames, of which the last 100"):
        train(dataclasses.replace(config, validation="last100"))


def test_a_finished_run_is_not_overwritten(config):
    train(config)
    with pytest.raises(UserError, match="--resume"):
        train(config)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"validation": "random"}, "scene or last100"),
        ({"device": "gpu7"}, "gpu7"),
        ({"preset": "edgy"}, "config.json does not exist"),
        ({"data": "/nowhere"}, "/nowhere is no folder"),
    ],
)
def test_mistakes_are_told_in_a_sentence(config, change, sentence):
    with pytest.raises(UserError, match=sentence):
        train(dataclasses.replace(config, **change))
