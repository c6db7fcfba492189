"""Training: one readable loop. `torchrun`-ready, exactly resumable, every file written atomically.

A step's samples depend only on (seed, step, rank, slot), so a run that was killed continues with the same losses.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from depthsr import checkpoint
from depthsr.config import TrainConfig
from depthsr.data.degrade import degrade, ground_truth
from depthsr.data.layouts import FrameDataset, open_dataset
from depthsr.data.pairs import Sample, TrainingPairs
from depthsr.data.relative import simulated_relative_depth
from depthsr.losses import restoration_loss
from depthsr.models.network import DepthSR
from depthsr.models.prior import Prior, make_prior
from depthsr.precision import resolve_device
from depthsr.types import UserError

log = logging.getLogger(__name__)

#: The published recipe validates on this many last samples of the data set.
PUBLISHED_VALIDATION = 100

#: While training, validation looks at this many frames, evenly spaced, under the challenge law.
VALIDATION_FRAMES = 8

#: In `balance`: the normalised error of a measurement that gets about weight 1; what bounds the weight of better ones.
BALANCE_UNIT = 0.02
BALANCE_FLOOR = 0.004


class Batch(NamedTuple):
    """What one step trains on; depths in units of prior.scale_m_B."""

    rgb_B3HW: Tensor
    prior: Prior
    target_B1HW: Tensor
    valid_B1HW: Tensor
    relative_B1HW: Tensor | None = None

    def to(self, device: torch.device, channels_last: bool) -> Batch:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        rgb = self.rgb_B3HW.to(device, non_blocking=True, memory_format=layout)
        prior = Prior(*(plane.to(device, non_blocking=True) for plane in self.prior))
        relative = None if self.relative_B1HW is None else self.relative_B1HW.to(device, non_blocking=True)
        return Batch(rgb, prior, self.target_B1HW.to(device), self.valid_B1HW.to(device), relative)


def collate(samples: list[Sample]) -> Batch:
    """Samples of one crop size, whatever their low resolutions, to a batch."""
    rgb = torch.from_numpy(np.stack([sample.rgb_HW3 for sample in samples])).permute(0, 3, 1, 2)
    priors, targets = [], []
    for number, sample in enumerate(samples):
        depth_m_11hw = torch.from_numpy(sample.degraded.depth_m)[None, None]
        prior = make_prior(
            depth_m_11hw,
            torch.isfinite(depth_m_11hw),
            rgb[number : number + 1],
            torch.tensor([sample.degraded.quantisation_step_m], dtype=torch.float32),
            torch.tensor([sample.degraded.max_depth_m or 0.0], dtype=torch.float32),
        )
        priors.append(prior)
        targets.append(torch.from_numpy(sample.target_m_HW)[None, None].float() / prior.scale_m_B)
    target = torch.cat(targets)
    prior = Prior(*(torch.cat(planes) for planes in zip(*priors, strict=True)))
    maps = [sample.relative_HW for sample in samples if sample.relative_HW is not None]
    relative = torch.from_numpy(np.stack(maps))[:, None] if maps else None
    return Batch(rgb, prior, target, torch.isfinite(target), relative)


class StepKeys:
    """Batch sampler: the keys of TrainingPairs for this rank's steps first..last-1."""

    def __init__(self, config: TrainConfig, first: int, last: int, rank: int) -> None:
        self._config, self._first, self._last, self._rank = config, first, last, rank

    def __len__(self) -> int:
        return self._last - self._first

    def __iter__(self) -> Iterator[list[tuple[int, int, int, int]]]:
        for step in range(self._first, self._last):
            batch, side = crop_schedule(self._config, step)
            yield [(step, self._rank, slot, side) for slot in range(batch)]


def crop_schedule(config: TrainConfig, step: int) -> tuple[int, int]:
    """(batch, crop side) of a step: large crops at the end, with about the same number of pixels."""
    if step < config.steps * (1 - config.final_fraction):
        return config.batch, config.crop
    return max(1, round(config.batch * (config.crop / config.final_crop) ** 2)), config.final_crop


def balance(batch: Batch) -> Tensor:
    """B×1×1×1 weights: the inverse of how wrong each sample's upsampled measurement is, about 1 for a coarse one.

    Without them the loss of a clean ×4 sample is a tenth of that of a challenge sample, and little of it is learnt.
    """
    wrong = torch.where(batch.valid_B1HW, (batch.prior.candidates_BKHW[:, :1] - batch.target_B1HW).abs(), 0.0)
    wrong_B = wrong.flatten(1).sum(1) / batch.valid_B1HW.flatten(1).sum(1).clamp(min=1)
    return (BALANCE_UNIT / (BALANCE_FLOOR + wrong_B))[:, None, None, None]


def rate_factor(config: TrainConfig, step: int) -> float:
    """Share of the learning rate: linear warm-up, cosine to zero."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_optimizer(model: DepthSR, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; Depth Anything has its own learning rate; vectors (gains, biases, beta, gamma) do not decay."""
    groups = []
    for part, rate in ((model.unet, config.learning_rate), (model.depth_anything, config.backbone_learning_rate)):
        if part is None:
            continue
        parameters = list(part.parameters())
        matrices = [p for p in parameters if p.squeeze().ndim > 1]
        vectors = [p for p in parameters if p.squeeze().ndim <= 1]
        groups.append({"params": matrices, "lr": rate, "weight_decay": config.weight_decay})
        groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, betas=(0.9, 0.9), fused=True)


def split_names(dataset: FrameDataset, validation: str) -> tuple[list[str], list[str]]:
    """(training names, validation names) by scene, or the last 100 as published. Raises UserError for another rule."""
    if validation == "scene":
        return dataset.split("train"), dataset.split("val")
    if validation == "last100":
        held_out = dataset.last(PUBLISHED_VALIDATION)
        return [name for name in dataset.names if name not in set(held_out)], held_out
    raise UserError(f"there is no validation rule {validation!r}; use scene or last100.")


def train(config: TrainConfig, *, resume: bool = False) -> Path:
    """Train and return the folder of the saved model (config.out/model).

    Under torchrun every process takes config.batch samples a step. Raises UserError for bad settings or data, for a
    run folder that holds a run already (without `resume`), and FloatingPointError when the loss is no number, with the
    batch saved beside the checkpoint.
    """
    rank, world = _start_distributed()
    device = resolve_device(config.device)
    out = Path(config.out)
    state_path = out / "checkpoint.pt"
    if state_path.exists() and not resume:
        raise UserError(f"{out} holds a training run already; add --resume to continue it, or name another folder.")
    out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(config.seed)
    dataset = open_dataset(config.data)
    train_names, validation_names = split_names(dataset, config.validation)
    model = checkpoint.new_or_saved_model(config.preset, config.relative).to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    optimizer = make_optimizer(model, config)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(config, step))
    first_step, trained_s = 0, 0.0
    if resume and state_path.exists():
        state = checkpoint.load_training_state(state_path, device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        first_step, trained_s = state["step"], state["trained_s"]
    elif rank == 0:
        checkpoint.write_json(out / "train_config.json", dataclasses.asdict(config))

    step_model: nn.Module = torch.compile(model) if config.compile else model
    if world > 1:
        step_model = nn.parallel.DistributedDataParallel(step_model, find_unused_parameters=False)
    pairs = TrainingPairs(
        dataset,
        train_names,
        recipe=config.recipe,
        seed=config.seed,
        cache_frames=config.cache_frames,
        relative=config.relative == "simulated",
    )
    loader = DataLoader(
        pairs,
        batch_sampler=StepKeys(config, first_step, config.steps, rank),
        collate_fn=collate,
        num_workers=config.workers,
        pin_memory=device.type == "cuda",
    )
    journal = _Journal(out, first_step) if rank == 0 else None
    bar = tqdm(total=config.steps, initial=first_step, desc="train", disable=rank != 0, unit="step")
    start_s = last_saved_s = time.monotonic()

    def save(step: int) -> None:
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "step": step,
            "trained_s": trained_s + time.monotonic() - start_s,
        }
        checkpoint.save_training_state(state, state_path)
        checkpoint.save_model(average.module, out / "model")

    model.train()
    for step, batch in zip(range(first_step, config.steps), loader, strict=True):
        batch = batch.to(device, config.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            depth, error = step_model(batch.rgb_B3HW, batch.prior, batch.relative_B1HW)
        # Every term of the loss is linear in the depths, so weights of samples are factors on their depths.
        weight = balance(batch) if config.balance else torch.ones_like(batch.prior.scale_m_B[:, None, None, None])
        loss, parts = restoration_loss(
            depth * weight, error * weight, batch.target_B1HW * weight, batch.valid_B1HW, config.gradient_weight
        )
        if not torch.isfinite(loss):
            torch.save(batch._asdict(), out / f"bad_batch_{step}.pt")
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; its batch is in {out}.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
        scheduler.step()
        average.update_parameters(model)
        done = step + 1
        bar.update()
        if journal is None:
            continue
        journal.add(done, {**parts, "gradient_norm": norm}, scheduler.get_last_lr()[0])
        if done % config.validate_steps == 0 or done == config.steps:
            journal.write(done, validate(average.module, dataset, validation_names, device, config.relative))
        if done == config.steps or time.monotonic() - last_saved_s > 60 * config.checkpoint_minutes:
            save(done)
            last_saved_s = time.monotonic()
    bar.close()
    if journal is not None:
        journal.close()
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()
    return out / "model"


def validate(
    model: DepthSR, dataset: FrameDataset, names: list[str], device: torch.device, relative: str
) -> dict[str, float]:
    """Mean RMSE and MAE in metres of a few validation frames under the challenge law; relative: RELATIVE_SOURCES."""
    model.eval()
    squared, absolute = [], []
    chosen = names[:: max(1, len(names) // VALIDATION_FRAMES)][:VALIDATION_FRAMES]
    for number, name in enumerate(chosen):
        frame = dataset.read(name)
        poor = degrade(frame.depth_m, "ais", seed=number)
        rgb = torch.from_numpy(frame.rgb).permute(2, 0, 1)[None].to(device, torch.float32) / 255
        depth_m = torch.from_numpy(poor.depth_m)[None, None].to(device)
        relative_B1HW = None
        if relative == "simulated":
            simulated = simulated_relative_depth(frame.depth_m, np.random.default_rng(number), rgb_HW3=frame.rgb)
            relative_B1HW = torch.from_numpy(simulated)[None, None].to(device)
        restored_m, _ = model.infer(
            rgb,
            depth_m,
            torch.isfinite(depth_m),
            relative_B1HW=relative_B1HW,
            quantisation_step_m=poor.quantisation_step_m,
            max_depth_m=poor.max_depth_m,
        )
        difference = restored_m[0, 0].cpu().numpy() - ground_truth(frame.depth_m, "ais")
        squared.append(math.sqrt(np.nanmean(difference**2)))
        absolute.append(float(np.nanmean(np.abs(difference))))
    return {"val_rmse_m": float(np.mean(squared)), "val_mae_m": float(np.mean(absolute))}


class _Journal:
    """metrics.jsonl and TensorBoard. Training figures are means over the steps since the last line."""

    EVERY_STEPS = 50

    def __init__(self, out: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = out / "metrics.jsonl"
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)
        self._sums: dict[str, float] = {}
        self._count = 0
        # Lines beyond the checkpoint belong to steps that are run again now.
        if self._path.exists():
            lines = [line for line in self._path.read_text().splitlines() if json.loads(line)["step"] <= first_step]
            checkpoint.write_text(self._path, "".join(line + "\n" for line in lines))

    def add(self, step: int, figures: dict[str, Tensor], learning_rate: float) -> None:
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += 1
        if step % self.EVERY_STEPS == 0:
            means = {name: total / self._count for name, total in self._sums.items()}
            self._sums, self._count = {}, 0
            self.write(step, {**means, "learning_rate": learning_rate})

    def write(self, step: int, figures: dict[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._board.close()


def _start_distributed() -> tuple[int, int]:
    """(rank, world size); (0, 1) when not started by torchrun."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return 0, 1
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return dist.get_rank(), dist.get_world_size()
