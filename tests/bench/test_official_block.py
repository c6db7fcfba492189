"""The benchmarks' own form of a block computes what the reference does."""

from __future__ import annotations

import pytest
import torch

from depthsr import ops
from depthsr.models.blocks import NAFBlock, blocks
from official_block import OfficialBlock, with_official_blocks


@pytest.mark.parametrize(("channels", "height", "width"), [(8, 1, 1), (16, 7, 5), (24, 9, 14)])
def test_same_result_as_the_reference(channels, height, width):
    torch.manual_seed(channels)
    block = NAFBlock(channels).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        x = 3 + torch.randn(2, channels, height, width, dtype=torch.float64)
        with ops.backend("reference"):
            expected = block(x)
        torch.testing.assert_close(with_official_blocks(block)(x), expected, rtol=1e-12, atol=1e-12)


def test_every_block_is_replaced_and_the_original_stays():
    stage = blocks(8, 3)
    replaced = with_official_blocks(stage)
    assert [type(block) for block in replaced] == [OfficialBlock] * 3
    assert [type(block) for block in stage] == [NAFBlock] * 3
