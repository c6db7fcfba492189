"""The arithmetic of the benchmarks' floors, against counts made by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from depthsr.config import EDGE
from depthsr.models.blocks import AdaINFusion, NAFBlock, down, up
from depthsr.models.network import UNet
from roofline import Machine, Work, count


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("channels", [8, 24])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (2, 7, 5)])
def test_block(channels, batch, height, width):
    block = NAFBlock(channels)
    work = count(block, [torch.rand(batch, channels, height, width)])
    # conv1, conv4: 2C² each; conv3, conv5: C² each; conv2: nine taps of 2C. Attention: C² for each frame.
    a_pixel = 6 * channels**2 + 18 * channels
    assert work.multiply_adds == batch * (height * width * a_pixel + channels**2)
    assert work.elements == 5 * batch * channels * height * width + parameters(block)


def test_fusion_reads_both_maps_twice():
    fusion = AdaINFusion(8)
    maps = [torch.rand(1, 8, 6, 4), torch.rand(1, 8, 6, 4)]
    work = count(fusion, maps)
    assert work.multiply_adds == 6 * 4 * 8 * 8
    assert work.elements == 5 * 8 * 6 * 4 + parameters(fusion)


def test_other_layers_read_and_write_once():
    halve, double = down(8, 16), up(16, 8)
    assert count(halve, [torch.rand(1, 8, 6, 4)]).elements == 8 * 6 * 4 + 16 * 3 * 2 + parameters(halve)
    # what it doubles, its result, and the skip of the result's size
    assert count(double, [torch.rand(1, 16, 3, 2)]).elements == 16 * 3 * 2 + 2 * 8 * 6 * 4 + parameters(double)


def test_whole_network_is_the_sum_of_its_parts():
    config = dataclasses.replace(
        EDGE,
        widths=(8, 16, 16, 24),
        relative_blocks=(1, 2, 1, 1),
        depth_blocks=(1, 1, 3, 1),
        middle_blocks=2,
        decoder_blocks=(1, 2, 1),
    )
    unet = UNet(config)
    height, width = 48, 32
    inputs = [
        torch.rand(1, unet.relative_stem.in_channels, height, width),
        torch.rand(1, unet.depth_stem.in_channels, height, width),
        torch.rand(1, 2),
    ]

    def stage(i: int) -> torch.Tensor:
        return torch.rand(1, config.widths[i], height >> (i + 1), width >> (i + 1))

    parts = [count(stem, [frame]) for stem, frame in zip((unet.relative_stem, unet.depth_stem), inputs, strict=False)]
    parts.append(count(unet.condition, [inputs[2]]))
    for i in range(4):
        block = count(NAFBlock(config.widths[i]), [stage(i)])
        blocks = config.relative_blocks[i] + config.depth_blocks[i]
        blocks += config.middle_blocks if i == 3 else config.decoder_blocks[2 - i]
        parts += [block] * blocks
        parts.append(count(unet.fusions[i], [stage(i), stage(i)]))
        if i < 3:
            parts += [count(unet.relative_downs[i], [stage(i)]), count(unet.depth_downs[i], [stage(i)])]
            parts.append(count(unet.ups[2 - i], [stage(i + 1)]))
    # The heads' pixel shuffle is a function, which only moves what the head before it wrote.
    parts += [count(head, [stage(0)]) for head in (unet.choice_head, unet.residual_head)]
    parts += [count(head, [stage(0), inputs[2]]) for head in (unet.error_head, unet.refinement_head)]

    work = count(unet, inputs)
    assert work.multiply_adds == sum(part.multiply_adds for part in parts)
    assert work.elements == sum(part.elements for part in parts)


def test_counting_leaves_the_network_as_it_is():
    block = NAFBlock(8)
    x = torch.rand(1, 8, 3, 3)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    assert count(block, [x]) == count(block, [x])
    for name, value in block.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not block._forward_hooks
    assert not block.conv1._forward_hooks


def test_the_larger_floor_decides():
    machine = Machine(copy_bytes_s=100.0, multiply_adds_s={torch.float32: 10.0, torch.bfloat16: 20.0})
    assert Work(multiply_adds=40, elements=25).floor_s(machine, torch.float32) == pytest.approx(4.0)
    assert Work(multiply_adds=40, elements=25).floor_s(machine, torch.bfloat16) == pytest.approx(2.0)
    assert Work(multiply_adds=4, elements=75).floor_s(machine, torch.float32) == pytest.approx(3.0)
    assert Work(multiply_adds=4, elements=75).floor_s(machine, torch.bfloat16) == pytest.approx(1.5)
