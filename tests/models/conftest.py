"""Frames as tensors, for the models' own tests."""

from __future__ import annotations

import pytest
import torch

from depthsr.models.prior import make_prior


@pytest.fixture
def frame():
    """(rgb_B3HW, depth_m_B1hw, valid_B1hw) with holes that hold NaN."""

    def make(size=(64, 96), low_size=(16, 12), batch=1, seed=0, holes=0.2):
        generator = torch.Generator().manual_seed(seed)
        rgb = torch.rand((batch, 3, *size), generator=generator)
        depth_m = 1 + 5 * torch.rand((batch, 1, *low_size), generator=generator)
        valid = torch.rand((batch, 1, *low_size), generator=generator) >= holes
        valid[..., 0, 0] = True
        return rgb, torch.where(valid, depth_m, torch.nan), valid

    return make


@pytest.fixture
def prior_of():
    """prior_of(rgb, depth_m, valid): no quantisation step, range unknown."""

    def make(rgb, depth_m, valid):
        nothing_B = torch.zeros(rgb.shape[0])
        return make_prior(depth_m, valid, rgb, nothing_B, nothing_B)

    return make
