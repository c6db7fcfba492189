"""Training: one readable loop. `torchrun`-ready, exactly resumable, every file written atomically.

A step's samples depend only on the seed, the step and their number in it. So a run that was killed continues with the
same losses, and a step is the same however processes and micro-batches share its samples.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from depthsr import checkpoint
from depthsr.batches import Batch, StepKeys, load_batches
from depthsr.config import VALIDATION_PROTOCOLS, TrainConfig
from depthsr.data.layouts import open_dataset
from depthsr.data.mixture import Mixture
from depthsr.data.pairs import Sample, TrainingPairs
from depthsr.frames import CheckedFrame
from depthsr.infer import Predictor
from depthsr.journal import Journal
from depthsr.learner import Learner
from depthsr.losses import balance, restoration_loss
from depthsr.precision import choose_precision, resolve_device
from depthsr.resume import resumed_config
from depthsr.schedule import with_steps
from depthsr.torch_runtime import NetworkRestorer
from depthsr.types import UserError
from depthsr.validation import Validation, split_names
from depthsr.wide_holes import coarse_to_fine


def train(config: TrainConfig, *, resume: bool = False) -> Path:
    """Train and return the folder of the saved model (config.out/model).

    Under torchrun every process takes config.accumulate micro-batches of config.batch samples a step, and every process
    holds the whole model: parameters, gradients, AdamW's moments and the average are 20 bytes a parameter, 0.6 GB for
    all of `base`, so that sharding them (FSDP) would save little.

    resume  go on from config.out/checkpoint.pt; train_config.json then holds the settings in force from there on.

    Raises UserError for bad settings or data, for a run folder that holds a run already (without `resume`) or none
    (with it), for settings other than the resumed run's (depthsr.resume.MAY_CHANGE may be), and FloatingPointError when
    the loss or its gradient is no number, before any weight is changed by it and with the step's batches saved beside
    the checkpoint.
    """
    rank, world = _start_distributed()
    device = resolve_device(config.device)
    out = Path(config.out)
    state_path = out / "checkpoint.pt"
    if state_path.exists() and not resume:
        raise UserError(f"{out} holds a training run already; add --resume to continue it, or name another folder.")
    if resume and not state_path.exists():
        raise UserError(f"{out} holds no checkpoint.pt to resume from; name a run's folder, or leave --resume out.")
    state = checkpoint.load_training_state(state_path, device) if resume else None
    if state is not None:
        config = resumed_config(config, world, state)
    out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(config.seed)
    dataset = open_dataset(config.data)
    if config.extra_data:
        dataset = Mixture(dataset, [open_dataset(folder) for folder in config.extra_data])
    train_names, validation_names = split_names(dataset, config.validation)
    config = with_steps(config, len(train_names), world)
    learner = Learner(config, device)
    first_step, trained_s = 0, 0.0
    if state is not None:
        learner.load_state_dict(state)
        first_step, trained_s = state["step"], state["trained_s"]
    if rank == 0:
        checkpoint.write_json(out / "train_config.json", dataclasses.asdict(config))

    model = cast(nn.Module, torch.compile(learner.model)) if config.compile else learner.model
    if world > 1:
        model = data_parallel(model)
    pairs = TrainingPairs(
        dataset,
        train_names,
        recipe=config.recipe,
        seed=config.seed,
        cache_frames=config.cache_frames,
        relative=config.relative == "simulated",
    )
    keys = StepKeys(config, first_step, config.steps, rank)
    restorer = NetworkRestorer(learner.averaged, device, choose_precision("fp32", device), graphs=False)
    fill = partial(with_filling, restorer) if config.fill_wide_holes else None
    batches = load_batches(pairs, keys, config, device, fill)
    journal = validation = None
    if rank == 0:
        protocol = config.validation_protocol or VALIDATION_PROTOCOLS[config.recipe]
        validation = Validation(dataset, validation_names, protocol, config.relative)
        journal = Journal(out, first_step)
    bar = tqdm(total=config.steps, initial=first_step, desc="train", disable=rank != 0, unit="step")
    start_s = last_saved_s = time.monotonic()

    def save(step: int) -> None:
        state = {
            **learner.state_dict(),
            "step": step,
            "trained_s": trained_s + time.monotonic() - start_s,
            "world": world,
            "accumulate": config.accumulate,
            "config": dataclasses.asdict(config),
        }
        checkpoint.save_training_state(state, state_path)
        checkpoint.save_model(learner.averaged, out / "model")

    for step in range(first_step, config.steps):
        micro_batches = list(islice(batches, config.accumulate))
        learner.forget_gradients()
        figures = add_step_gradients(model, micro_batches, config, world)
        figures["gradient_norm"] = nn.utils.clip_grad_norm_(learner.model.parameters(), config.gradient_clip)
        # The one place where every step waits for its device. The norm is of all processes, so they stop together.
        if not torch.isfinite(figures["loss"] + figures["gradient_norm"]):
            path = out / f"bad_step_{step}_process_{rank}.pt"
            torch.save([batch._asdict() for batch in micro_batches], path)
            said = ", ".join(f"{name} {value.item()}" for name, value in figures.items())
            raise FloatingPointError(f"step {step} gives no number ({said}); its batches are in {path}.")
        learner.step()
        done = step + 1
        bar.update()
        if journal is None or validation is None:
            continue
        journal.add(done, figures, learner.learning_rate)
        if done % config.validate_steps == 0 or done == config.steps:
            journal.write(done, validation(Predictor("the model", restorer)))
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


def with_filling(restorer: NetworkRestorer, sample: Sample) -> Sample:
    """The sample, its wide holes filled as a Predictor would fill them before it restores the frame."""
    degraded = sample.degraded
    frame = CheckedFrame(
        sample.rgb_HW3,
        degraded.depth_m,
        sample.relative_HW,
        degraded.quantisation_step_m,
        degraded.max_depth_m,
        protocol="metric",
    )
    *halves, whole = coarse_to_fine([frame])
    halves_m = [depth_m_HW for depth_m_HW, _ in restorer.start(halves)()] if halves else []
    (filling_m_hw,) = whole.fillings_m(halves_m)
    return dataclasses.replace(sample, filling_m_hw=filling_m_hw)


def data_parallel(model: nn.Module) -> nn.parallel.DistributedDataParallel:
    """The model with gradients that are means over all processes."""
    # Depth Anything has parameters that no forward pass of ours uses: its mask token, half of its first fusion layer.
    return nn.parallel.DistributedDataParallel(model, find_unused_parameters=model.depth_anything is not None)


def averaging(model: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    """Where gradients of several processes are averaged or, not yet wanted, added up in each process."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not wanted:
        return model.no_sync()
    return nullcontext()


def add_step_gradients(
    model: nn.Module, micro_batches: list[Batch], config: TrainConfig, world: int
) -> dict[str, Tensor]:
    """Forward and backward of a step's micro-batches in this process; the parts of its loss, summed over them."""
    figures: dict[str, Tensor] = {}
    for batch, share in zip(micro_batches, pixel_shares(micro_batches, world), strict=True):
        with averaging(model, batch is micro_batches[-1]):
            for name, value in add_gradients(model, batch, config, share).items():
                figures[name] = figures[name] + value if name in figures else value
    return figures


def add_gradients(model: nn.Module, batch: Batch, config: TrainConfig, share: tuple[float, float]) -> dict[str, Tensor]:
    """Forward and backward of one micro-batch; the parts of its loss."""
    with torch.autocast(batch.rgb_B3HW.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        depth, error = model(batch.rgb_B3HW, batch.prior, batch.relative_B1HW)
    target, valid = batch.target_B1HW, batch.valid_B1HW
    # Every term of the loss is proportional to the depths, so weights of samples are factors on their depths.
    weight = balance(batch.prior.candidates_BKHW[:, :1], target, valid) if config.balance else 1.0
    loss, parts = restoration_loss(
        depth * weight, error * weight, target * weight, valid, config.gradient_weight, config.rmse_weight, share
    )
    loss.backward()
    return parts


def pixel_shares(batches: list[Batch], world: int) -> list[tuple[float, float]]:
    """For `restoration_loss`: each batch's shares of the pixels of the whole step, `world` times as much.

    So weighted, the mean over processes that DistributedDataParallel takes is the gradient of the step's mean loss, be
    there as much sky in one process's samples as there may.
    """
    pixels = torch.stack([batch.pixels_2 for batch in batches]).double()
    total = pixels.sum(0)
    if world > 1:
        dist.all_reduce(total)
    return [(valid, interior) for valid, interior in (world * pixels / total.clamp(min=1)).tolist()]


def _start_distributed() -> tuple[int, int]:
    """(rank, world size); (0, 1) when not started by torchrun."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return 0, 1
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    if dist.get_rank() > 0:
        logging.getLogger("depthsr").setLevel(logging.ERROR)  # what there is to say, the first process says
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return dist.get_rank(), dist.get_world_size()
