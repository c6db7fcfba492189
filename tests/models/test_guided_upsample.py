"""Joint bilateral upsampling's reference against its formula, pixel by pixel, and its two guides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depthsr.data.resample import centre_sample
from depthsr.models.guided_upsample import area_guide, point_guide
from depthsr.ops.reference import FLOOR, REACH, SIGMA_COLOUR, SIGMA_SPACE, joint_bilateral_upsample


def by_the_formula(x_hw, confidence_hw, guide_HW3, guide_hw3):
    (h, w), (height, width) = x_hw.shape, guide_HW3.shape[:2]
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            u, v = (i + 0.5) * h / height - 0.5, (j + 0.5) * w / width - 0.5
            total = weights = 0.0
            for y in np.rint(u) + np.arange(-REACH, REACH + 1):
                for x in np.rint(v) + np.arange(-REACH, REACH + 1):
                    coarse = int(np.clip(y, 0, h - 1)), int(np.clip(x, 0, w - 1))
                    colour = np.sum((guide_HW3[i, j] - guide_hw3[coarse]) ** 2)
                    weight = max(0, 1 - colour / (16 * SIGMA_COLOUR**2)) ** 8 + FLOOR
                    weight *= confidence_hw[coarse] * np.exp(-((y - u) ** 2 + (x - v) ** 2) / (2 * SIGMA_SPACE**2))
                    total, weights = total + weight * x_hw[coarse], weights + weight
            out[i, j] = total / weights
    return out


@pytest.mark.parametrize(
    ("low_size", "size"), [((3, 4), (12, 16)), ((5, 3), (13, 11)), ((1, 1), (6, 7)), ((4, 5), (4, 5))]
)
def test_is_the_formula(low_size, size):
    rng = np.random.default_rng(0)
    x, confidence, guide, low_guide = (rng.random(shape) for shape in (low_size, low_size, (*size, 3), (*low_size, 3)))
    planes = (x[..., None], confidence[..., None], guide, low_guide)
    tensors = [torch.from_numpy(plane).permute(2, 0, 1)[None] for plane in planes]
    result = joint_bilateral_upsample(*tensors)[0, 0]
    np.testing.assert_allclose(result.numpy(), by_the_formula(x, confidence, guide, low_guide), rtol=1e-9)


def test_an_edge_of_the_guide_is_an_edge_of_the_result():
    """Two colours, two depths, the border in the middle of a coarse pixel: bilinear blurs over it, this does not."""
    guide = torch.zeros(1, 3, 16, 32)
    guide[..., 18:] = 1.0
    depth = torch.where(point_guide(guide, (4, 8))[:, :1] > 0.5, 50.0, 2.0)
    result = joint_bilateral_upsample(depth, torch.ones_like(depth), guide, point_guide(guide, (4, 8)))
    torch.testing.assert_close(result, torch.where(guide[:, :1] > 0.5, 50.0, 2.0), rtol=0, atol=0.02)


def test_what_counts_little_is_seen_only_where_nothing_else_is():
    """A hole filled with nonsense, in the middle of depth 3 and of one colour, and a frame that is nothing but hole."""
    depth, confidence = torch.full((2, 1, 9, 9), 3.0), torch.ones(2, 1, 9, 9)
    depth[0, :, 3:6, 3:6], confidence[0, :, 3:6, 3:6] = 1000.0, 1e-6
    confidence[1] = 1e-6
    guide = torch.full((2, 3, 36, 36), 0.4)
    result = joint_bilateral_upsample(depth, confidence, guide, point_guide(guide, (9, 9)))
    torch.testing.assert_close(result, torch.full_like(result, 3.0), rtol=0.02, atol=0)


def test_guides():
    guide = torch.rand(2, 3, 48, 64)
    blocks = guide.reshape(2, 3, 6, 8, 8, 8).mean((3, 5))
    torch.testing.assert_close(area_guide(guide, (6, 8)), blocks)
    sampled = centre_sample(guide[1, 2].numpy(), (6, 8))
    np.testing.assert_array_equal(point_guide(guide, (6, 8))[1, 2].numpy(), sampled)
