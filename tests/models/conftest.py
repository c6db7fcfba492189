"""Models small enough for tests, with random weights everywhere (fresh heads, beta and gamma are zero)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from depthsr.config import BASE, EDGE, DepthAnythingConfig, ModelConfig
from depthsr.models.network import DepthSR
from depthsr.models.prior import make_prior

SMALL = {
    "widths": (8, 8, 16, 16),
    "relative_blocks": (1, 1, 1, 1),
    "depth_blocks": (1, 1, 1, 1),
    "middle_blocks": 1,
    "decoder_blocks": (1, 1, 1),
}

TINY_EDGE = dataclasses.replace(EDGE, name="tiny", **SMALL)

TINY_DEPTH_ANYTHING = DepthAnythingConfig(
    hub_id="none/tiny",
    hidden_size=32,
    layers=4,
    heads=2,
    out_indices=(1, 2, 3, 4),
    neck_sizes=(8, 8, 16, 16),
    fusion_size=8,
    image_side_px=56,
)

TINY_BASE = dataclasses.replace(BASE, name="tiny-base", depth_anything=TINY_DEPTH_ANYTHING, **SMALL)


@pytest.fixture
def random_model():
    def make(config: ModelConfig, seed: int = 0) -> DepthSR:
        torch.manual_seed(seed)
        model = DepthSR(config)
        if config.takes_relative:
            model.add_depth_anything()
        model.eval()
        with torch.no_grad():
            for parameter in model.unet.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture
def tiny_edge(random_model) -> DepthSR:
    return random_model(TINY_EDGE)


@pytest.fixture
def tiny_base(random_model) -> DepthSR:
    return random_model(TINY_BASE)


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
