"""Training on wide holes that are filled coarse to fine: by which weights, and as inference fills them."""

from __future__ import annotations

import copy
import dataclasses

import cv2
import numpy as np
import pytest
import torch

from depthsr import checkpoint
from depthsr.frames import Settings, check_frame
from depthsr.infer import Predictor
from depthsr.precision import choose_precision
from depthsr.torch_runtime import NetworkRestorer
from depthsr.train import train, with_filling
from depthsr.wide_holes import deep_in_holes, halved

pytestmark = pytest.mark.usefixtures("one_thread")


def test_samples_are_filled_by_the_average_as_a_predictor_fills_them(short_training, monkeypatch, every_hole_is_wide):
    filled = []

    def without_graphs(*args, graphs):
        assert not graphs, "crops come in all sizes: each capture would stop the training"
        return NetworkRestorer(*args, graphs=graphs)

    def recording(restorer, sample):
        filled.append((copy.deepcopy(restorer.model), sample, with_filling(restorer, sample)))
        return filled[-1][-1]

    monkeypatch.setattr("depthsr.train.NetworkRestorer", without_graphs)
    monkeypatch.setattr("depthsr.train.with_filling", recording)
    folder = train(dataclasses.replace(short_training, fill_wide_holes=True, ema=0.5))
    has_filling = [after.filling_m_hw is not None for _, _, after in filled]
    assert sum(has_filling) > 0
    number = max(number for number, has in enumerate(has_filling) if has)
    model, before, after = filled[number]
    predictor = Predictor(
        "tiny", NetworkRestorer(model, torch.device("cpu"), choose_precision("fp32", torch.device("cpu")))
    )
    degraded = before.degraded
    known = {"quantisation_step_m": degraded.quantisation_step_m, "max_depth_m": degraded.max_depth_m}
    frame = check_frame(before.rgb_HW3, degraded.depth_m, None, Settings(**known))
    half = halved(frame)
    half_m = predictor(half.rgb_HW3, half.depth_m_hw, **known).depth_m
    deep = np.isfinite(after.filling_m_hw)
    size = degraded.depth_m.shape
    expected_m = cv2.resize(half_m, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_allclose(after.filling_m_hw[deep], expected_m[deep], rtol=1e-3)
    np.testing.assert_array_equal(deep, deep_in_holes(frame))
    # The average moves from step to step, and is what is saved at the end.
    weights = [one.unet.depth_stem.weight for one in (filled[0][0], model, checkpoint.load_model(folder))]
    assert not torch.equal(weights[0], weights[1])
    assert (weights[1] - weights[2]).abs().max() < (weights[0] - weights[2]).abs().max()
