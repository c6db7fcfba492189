"""From training samples to what a step takes: numbered through the step, stacked, moved, given their priors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from depthsr.config import TrainConfig
from depthsr.data.pairs import Sample, TrainingPairs
from depthsr.losses import pixel_counts
from depthsr.models.prior import Prior, make_prior
from depthsr.schedule import crop_schedule
from depthsr.types import UserError

#: Micro-batches that each loader process prepares ahead.
PREFETCHED = 4


class Stacked(NamedTuple):
    """Samples, grouped by low resolution and size. Those of frames smaller than the crop lie at the upper left.

    rgb_B3HW               float32 [0, 1], channels_last; beyond a sample its border, repeated.
    sizes                  (H, W) of each group's samples.
    depths_m_B1hw          the low-resolution depths, a tensor for each group; metres, NaN = no value.
    fillings_m_B1hw        what their holes are filled with, a tensor for each group; metres, NaN = nothing.
    quantisation_step_m_B  0 = none or unknown.
    max_depth_m_B          0 = unknown.
    target_m_B1HW          metres, NaN = not trained on, or beyond a sample.
    relative_B1HW          simulated relative depth; None: the model takes none, or has a network that makes it.
    pixels_2               what `pixel_counts` says of the target; never moved, so that reading it waits for no device.
    """

    rgb_B3HW: Tensor
    sizes: list[tuple[int, ...]]
    depths_m_B1hw: list[Tensor]
    fillings_m_B1hw: list[Tensor]
    quantisation_step_m_B: Tensor
    max_depth_m_B: Tensor
    target_m_B1HW: Tensor
    relative_B1HW: Tensor | None
    pixels_2: Tensor

    def to(self, device: torch.device) -> Stacked:
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Stacked(
            moved(self.rgb_B3HW),
            self.sizes,
            [moved(depth_m) for depth_m in self.depths_m_B1hw],
            [moved(filling_m) for filling_m in self.fillings_m_B1hw],
            moved(self.quantisation_step_m_B),
            moved(self.max_depth_m_B),
            moved(self.target_m_B1HW),
            None if self.relative_B1HW is None else moved(self.relative_B1HW),
            self.pixels_2,
        )


class Batch(NamedTuple):
    """What the network is trained on at once; depths in units of prior.scale_m_B. The others as in Stacked."""

    rgb_B3HW: Tensor
    prior: Prior
    target_B1HW: Tensor
    valid_B1HW: Tensor
    relative_B1HW: Tensor | None
    pixels_2: Tensor


def stack(samples: list[Sample]) -> Stacked:
    samples = sorted(samples, key=_sizes)
    size = tuple(np.max([sample.target_m_HW.shape for sample in samples], axis=0))
    target_m = torch.from_numpy(np.stack([_grown(sample.target_m_HW, size, np.nan) for sample in samples]))[:, None]
    target_m = target_m.float()
    groups = [list(group) for _, group in groupby(samples, _sizes)]
    relatives = [_grown(sample.relative_HW, size) for sample in samples if sample.relative_HW is not None]
    return Stacked(
        torch.from_numpy(np.stack([_grown(sample.rgb_HW3, size) for sample in samples])).permute(0, 3, 1, 2),
        [group[0].target_m_HW.shape for group in groups],
        [torch.from_numpy(np.stack([sample.degraded.depth_m for sample in group]))[:, None] for group in groups],
        [torch.from_numpy(np.stack([_filling_m(sample) for sample in group]))[:, None] for group in groups],
        torch.tensor([sample.degraded.quantisation_step_m for sample in samples], dtype=torch.float32),
        torch.tensor([sample.degraded.max_depth_m or 0.0 for sample in samples], dtype=torch.float32),
        target_m,
        torch.from_numpy(np.stack(relatives))[:, None] if relatives else None,
        pixel_counts(torch.isfinite(target_m)),
    )


def add_prior(stacked: Stacked) -> Batch:
    """Normalised and upsampled on the device of the tensors, the samples of one group in one go."""
    priors: list[Prior] = []
    groups = zip(stacked.sizes, stacked.depths_m_B1hw, stacked.fillings_m_B1hw, strict=True)
    for (height, width), depth_m_B1hw, filling_m_B1hw in groups:
        first = sum(len(prior.scale_m_B) for prior in priors)
        rows = slice(first, first + len(depth_m_B1hw))
        prior = make_prior(
            depth_m_B1hw,
            torch.isfinite(depth_m_B1hw),
            stacked.rgb_B3HW[rows, :, :height, :width],
            stacked.quantisation_step_m_B[rows],
            stacked.max_depth_m_B[rows],
            filling_m_B1hw,
        )
        priors.append(_grown_prior(prior, stacked.rgb_B3HW.shape[2:]))
    prior = Prior(*(torch.cat(planes) for planes in zip(*priors, strict=True)))
    target = stacked.target_m_B1HW / prior.scale_m_B[:, None, None, None]
    return Batch(stacked.rgb_B3HW, prior, target, torch.isfinite(target), stacked.relative_B1HW, stacked.pixels_2)


def collate(samples: list[Sample]) -> Batch:
    """Samples, whatever their sizes and low resolutions, to a batch of the largest size."""
    return add_prior(stack(samples))


class StepKeys:
    """Batch sampler: keys of TrainingPairs for the micro-batches that this process takes in steps first..last-1.

    A step's samples are numbered through all processes and micro-batches. So a step of 2 processes with 3 micro-batches
    of 4 samples takes the very samples of a step of one process with a batch of 24.
    """

    def __init__(self, config: TrainConfig, first: int, last: int, rank: int) -> None:
        self._config, self._first, self._last = config, first, last
        self._micro_batches = range(rank * config.accumulate, (rank + 1) * config.accumulate)

    def __len__(self) -> int:
        return (self._last - self._first) * len(self._micro_batches)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for step in range(self._first, self._last):
            batch, side = crop_schedule(self._config, step)
            for micro_batch in self._micro_batches:
                yield [(step, micro_batch * batch + slot, side) for slot in range(batch)]


def load_batches(
    pairs: TrainingPairs,
    keys: StepKeys,
    config: TrainConfig,
    device: torch.device,
    fill: Callable[[Sample], Sample] | None = None,
) -> Iterator[Batch]:
    """The micro-batches of `keys`, in order, on the device.

    Decoding, cropping, degrading and colours are numpy's in the loader's processes, where a sample is a function of its
    key on every machine. The prior, half of the work (7 of 15 ms for 192×192 on one Zen 3 core), is made there too when
    training on the CPU; for a GPU the raw samples, a quarter of the bytes, come in pinned memory and the GPU makes it.

    fill  applied to each sample before its prior is made: here, not in the loader's processes, as it needs the network.
          The prior is then made here as well.
    """
    on_device = device.type == "cuda"
    loader: DataLoader = DataLoader(
        cast(Dataset, pairs),  # which knows nothing of torch
        batch_sampler=keys,
        collate_fn=list if fill is not None else stack if on_device else collate,
        num_workers=config.workers,
        prefetch_factor=PREFETCHED if config.workers > 0 else None,
        pin_memory=on_device,
    )
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    for loaded in _loaded(loader):
        if fill is not None:
            loaded = stack([fill(sample) for sample in loaded])
        batch = add_prior(loaded.to(device)) if isinstance(loaded, Stacked) else loaded
        yield batch._replace(rgb_B3HW=batch.rgb_B3HW.contiguous(memory_format=layout))


def _loaded(loader: DataLoader) -> Iterator[Any]:
    """What it loads. A user's mistake that a loader process met is told as this one would tell it."""
    try:
        yield from _started(loader)
    except UserError as error:  # torch puts the process's traceback before the sentence
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from error


def _started(loader: DataLoader) -> Iterator[Any]:
    """Its iterator, whose processes run; each with one thread, as the processes are the parallelism.

    torch sees to that for itself. OpenCV's threads have to be gone before the processes are forked: these would wait
    forever for threads that only this process has.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return iter(loader)
    finally:
        cv2.setNumThreads(threads)


def _filling_m(sample: Sample) -> np.ndarray:
    return np.full_like(sample.degraded.depth_m, np.nan) if sample.filling_m_hw is None else sample.filling_m_hw


def _sizes(sample: Sample) -> tuple[tuple[int, ...], ...]:
    return sample.degraded.depth_m.shape, sample.target_m_HW.shape


def _grown(plane_HW: np.ndarray, size: tuple[int, ...], value: float | None = None) -> np.ndarray:
    """Below and to the right with `value`; None: with its border, as the network pads what it is given."""
    below, right = (int(wanted - side) for wanted, side in zip(size, plane_HW.shape, strict=False))
    if below == right == 0:
        return plane_HW
    widths = ((0, below), (0, right), (0, 0))[: plane_HW.ndim]
    return np.pad(plane_HW, widths, "edge") if value is None else np.pad(plane_HW, widths, constant_values=value)


def _grown_prior(prior: Prior, size: tuple[int, ...]) -> Prior:
    below, right = (wanted - side for wanted, side in zip(size, prior.valid_B1HW.shape[2:], strict=True))
    if below == right == 0:
        return prior
    planes = {name: plane for name, plane in prior._asdict().items() if plane.ndim == 4}
    return prior._replace(
        **{name: F.pad(plane, (0, right, 0, below), mode="replicate") for name, plane in planes.items()}
    )
