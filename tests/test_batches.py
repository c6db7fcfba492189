"""What a step takes: whose samples, in which units, with which prior."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from depthsr.batches import StepKeys, add_prior, collate, load_batches, stack
from depthsr.config import TrainConfig
from depthsr.data.degrade import Degraded
from depthsr.data.pairs import Sample
from depthsr.models.prior import make_prior


def sample(
    low: tuple[int, int],
    seed: int = 0,
    step_m: float = 0.0,
    max_depth_m: float | None = None,
    size: tuple[int, int] = (32, 32),
) -> Sample:
    """A random sample with a hole in the target, one in the measurement, and relative depth."""
    rng = np.random.default_rng([seed, *low])
    target_m = rng.uniform(1, 9, size).astype(np.float32)
    target_m[0, 0] = np.nan
    low_m = rng.uniform(1, 9, low).astype(np.float32)
    low_m[-1, -1] = np.nan
    rgb, relative = rng.random((*size, 3), np.float32), rng.random(size, np.float32)
    return Sample(rgb, Degraded(low_m, low_m, step_m, max_depth_m, "classical"), target_m, relative)


def test_collate_normalises_target_and_measurement_alike():
    samples = [sample((low, low)) for low in (4, 8, 16)]
    batch = collate(samples)
    for number, one in enumerate(samples):
        scale_m = batch.prior.scale_m_B[number].item()
        known_m = np.sort(one.degraded.depth_m[np.isfinite(one.degraded.depth_m)])
        assert scale_m == pytest.approx(known_m[round((known_m.size - 1) * 0.99)])
        result_m = batch.target_B1HW[number, 0].numpy() * scale_m
        np.testing.assert_allclose(result_m, one.target_m_HW, rtol=1e-6)
        assert not batch.valid_B1HW[number, 0, 0, 0]
        assert batch.valid_B1HW[number].sum() == 32 * 32 - 1


def test_the_prior_of_a_sample_does_not_depend_on_its_company():
    """Samples of mixed low resolutions in any order: each sample's planes are those it has alone."""
    lows = [(8, 8), (4, 16), (8, 8), (1, 1), (5, 3), (8, 8), (4, 16)]
    samples = [
        sample(low, seed, step_m=0.1 * seed, max_depth_m=12.0 if seed % 2 else None) for seed, low in enumerate(lows)
    ]
    filling_m = np.where(np.isnan(samples[2].degraded.depth_m), 5, np.nan).astype(np.float32)
    samples[2] = dataclasses.replace(samples[2], filling_m_hw=filling_m)
    samples[3] = dataclasses.replace(
        samples[3], degraded=Degraded(*[np.full((1, 1), 3.0, np.float32)] * 2, 0, None, "")
    )
    batch = collate(samples)
    unseen = list(range(len(samples)))
    for row in range(len(samples)):
        number = next(n for n in unseen if np.array_equal(samples[n].relative_HW, batch.relative_B1HW[row, 0].numpy()))
        unseen.remove(number)
        one = samples[number]
        low_m = torch.from_numpy(one.degraded.depth_m)[None, None]
        rgb = torch.from_numpy(one.rgb_HW3).permute(2, 0, 1)[None]
        torch.testing.assert_close(batch.rgb_B3HW[row : row + 1], rgb, rtol=0, atol=0)
        step_m, max_depth_m = one.degraded.quantisation_step_m, one.degraded.max_depth_m or 0.0
        limits = torch.tensor([step_m]).float(), torch.tensor([max_depth_m])
        filling = None if one.filling_m_hw is None else torch.from_numpy(one.filling_m_hw)[None, None]
        alone = make_prior(low_m, low_m.isfinite(), rgb, *limits, filling)
        for plane, expected in zip(batch.prior, alone, strict=True):
            torch.testing.assert_close(plane[row : row + 1], expected, rtol=1e-5, atol=1e-6)
        target = torch.from_numpy(one.target_m_HW) / alone.scale_m_B
        torch.testing.assert_close(batch.target_B1HW[row, 0], target, equal_nan=True)
    assert unseen == []


def test_samples_of_small_frames_lie_beside_larger_ones():
    """Each keeps what it has alone; beyond it nothing is trained on, and the network sees its border."""
    samples = [sample((8, 8)), sample((8, 8), 1, size=(20, 32)), sample((4, 4), 2, size=(32, 17))]
    batch = collate(samples)
    assert batch.pixels_2[0] == batch.valid_B1HW.sum() == 32 * 32 + 20 * 32 + 32 * 17 - 3
    for one in samples:
        (row,) = (n for n, rgb in enumerate(batch.rgb_B3HW) if rgb[0, 0, 0].item() == one.rgb_HW3[0, 0, 0])
        alone = collate([one])
        height, width = one.target_m_HW.shape
        assert not batch.valid_B1HW[row, :, height:].any()
        assert not batch.valid_B1HW[row, :, :, width:].any()
        for grown, own in (
            (batch.rgb_B3HW, alone.rgb_B3HW),
            (batch.relative_B1HW, alone.relative_B1HW),
            *zip(batch.prior, alone.prior, strict=True),
        ):
            if grown.ndim == 4:
                inside = grown[row, :, :height, :width]
                torch.testing.assert_close(inside, own[0], rtol=1e-5, atol=1e-6)
                assert (grown[row, :, height:] == grown[row, :, height - 1 : height]).all()
                assert (grown[row, :, :, width:] == grown[row, :, :, width - 1 : width]).all()
            else:
                torch.testing.assert_close(grown[row], own[0])
        torch.testing.assert_close(
            batch.target_B1HW[row, :, :height, :width], alone.target_B1HW[0], rtol=1e-5, atol=1e-6, equal_nan=True
        )


def test_without_relative_depth_there_is_none():
    samples = [dataclasses.replace(sample((4, 4)), relative_HW=None) for _ in range(2)]
    assert collate(samples).relative_B1HW is None
    assert add_prior(stack(samples).to(torch.device("cpu"))).relative_B1HW is None


def test_processes_and_micro_batches_share_the_same_samples():
    """Whatever the split of a step's eight samples, all are taken, each once, in a fixed crop size."""
    config = TrainConfig(data="", out="", steps=10, batch=8, crop=128, final_fraction=0.0)
    whole = [set(keys) for keys in StepKeys(config, 4, 7, rank=0)]
    assert [len(keys) for keys in whole] == [8, 8, 8]
    assert whole[0].isdisjoint(whole[1])
    for batch, accumulate, world in ((4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 4, 2), (1, 1, 8)):
        shared = dataclasses.replace(config, batch=batch, accumulate=accumulate)
        taken = [list(StepKeys(shared, 4, 7, rank)) for rank in range(world)]
        assert {len(rank_keys) for rank_keys in taken} == {3 * accumulate} == {len(StepKeys(shared, 4, 7, 0))}
        for number, keys in enumerate(whole):
            micro_batches = [m for of_rank in taken for m in of_rank[number * accumulate : (number + 1) * accumulate]]
            assert sorted(key for micro_batch in micro_batches for key in micro_batch) == sorted(keys)


def test_keys_follow_the_crop_schedule():
    config = TrainConfig(data="", out="", steps=100, batch=8, crop=128, final_crop=256, final_fraction=0.2)
    before, after = StepKeys(config, 79, 81, rank=3)
    assert [(key[0], key[-1]) for key in before] == [(79, 128)] * 8
    assert [(key[0], key[-1]) for key in after] == [(80, 256)] * 2


class _Pairs:
    def __getitem__(self, key):
        return sample([(8, 8), (4, 16), (5, 3)][sum(key) % 3], sum(key))


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_loaded_batches_come_in_the_order_of_the_keys(workers, channels_last):
    config = TrainConfig("", "", steps=3, batch=3, crop=32, workers=workers, channels_last=channels_last)
    keys = StepKeys(config, 0, 3, rank=0)
    loaded = list(load_batches(_Pairs(), keys, config, torch.device("cpu")))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for batch, batch_keys in zip(loaded, keys, strict=True):
        assert batch.rgb_B3HW.is_contiguous(memory_format=layout)
        expected = collate([_Pairs()[key] for key in batch_keys])
        torch.testing.assert_close(batch.target_B1HW, expected.target_B1HW, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(batch.prior.candidates_BKHW, expected.prior.candidates_BKHW)


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_are_filled_where_the_batches_are_taken(workers):
    config = TrainConfig("", "", steps=3, batch=3, crop=32, workers=workers)
    keys = StepKeys(config, 0, 3, rank=0)
    here = []

    def fill(one: Sample) -> Sample:
        here.append(one)
        filling_m = np.where(np.isnan(one.degraded.depth_m), 4.0, np.nan).astype(np.float32)
        return dataclasses.replace(one, filling_m_hw=filling_m)

    loaded = list(load_batches(_Pairs(), keys, config, torch.device("cpu"), fill))
    assert len(here) == 9
    for batch, batch_keys in zip(loaded, keys, strict=True):
        expected = collate([fill(_Pairs()[key]) for key in batch_keys])
        torch.testing.assert_close(batch.prior.candidates_BKHW, expected.prior.candidates_BKHW)
        unfilled = collate([_Pairs()[key] for key in batch_keys])
        assert not torch.equal(batch.prior.candidates_BKHW, unfilled.prior.candidates_BKHW)


class _BlurredPairs(_Pairs):
    """Uses what OpenCV computes on many threads."""

    def __getitem__(self, key):
        cv2.resize(np.ones((1000, 1000), np.float32), (1500, 1500), interpolation=cv2.INTER_CUBIC)
        return super().__getitem__(key)


def test_workers_start_where_opencv_has_threads_already():
    """They hang where they meet its threads' remains."""
    threads = cv2.getNumThreads()
    config = TrainConfig("", "", steps=2, batch=2, crop=32, workers=1)
    keys = StepKeys(config, 0, 2, rank=0)
    try:
        cv2.setNumThreads(4)
        _BlurredPairs()[(0, 0, 32)]
        batches = list(load_batches(_BlurredPairs(), keys, config, torch.device("cpu")))
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    for batch, batch_keys in zip(batches, keys, strict=True):
        expected = collate([_Pairs()[key] for key in batch_keys])
        torch.testing.assert_close(batch.target_B1HW, expected.target_B1HW, rtol=0, atol=0, equal_nan=True)


@pytest.mark.gpu
def test_the_gpu_makes_the_prior_that_the_loader_makes():
    config = TrainConfig("", "", steps=2, batch=4, crop=32, workers=1)
    keys = StepKeys(config, 0, 2, rank=0)
    here = load_batches(_Pairs(), keys, config, torch.device("cpu"))
    for batch, expected in zip(load_batches(_Pairs(), keys, config, torch.device("cuda")), here, strict=True):
        assert batch.target_B1HW.is_cuda
        assert not batch.pixels_2.is_cuda
        torch.testing.assert_close(batch.target_B1HW.cpu(), expected.target_B1HW, equal_nan=True)
        for plane, expected_plane in zip(batch.prior, expected.prior, strict=True):
            torch.testing.assert_close(plane.cpu(), expected_plane, rtol=1e-4, atol=1e-5)
