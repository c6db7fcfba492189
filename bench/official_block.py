"""NAFNet's block as its authors run it: NCHW, and a LayerNorm made of elementwise operations and means over C.

The formula of LayerNorm2d in "Simple Baselines for Image Restoration" (Chen et al. 2022) in our words; the most common
way to run such a network, and what users who bring a model from there have.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsr.models.blocks import LayerNorm2d, NAFBlock


class OfficialBlock(nn.Module):
    """Computes what the NAFBlock does, with its weights."""

    def __init__(self, block: NAFBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_BCHW: Tensor) -> Tensor:
        block = self.block
        y = _gate(block.conv2(block.conv1(_layer_norm(x_BCHW, block.norm1))))
        y = y * block.attention(F.adaptive_avg_pool2d(y, 1))
        x_BCHW = x_BCHW + block.conv3(y) * block.beta
        y = block.conv5(_gate(block.conv4(_layer_norm(x_BCHW, block.norm2))))
        return x_BCHW + y * block.gamma


def _layer_norm(x_BCHW: Tensor, norm: LayerNorm2d) -> Tensor:
    mean_B1HW = x_BCHW.mean(1, keepdim=True)
    variance_B1HW = (x_BCHW - mean_B1HW).pow(2).mean(1, keepdim=True)
    normalised = (x_BCHW - mean_B1HW) / torch.sqrt(variance_B1HW + norm.eps)
    return normalised * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def _gate(x_B2CHW: Tensor) -> Tensor:
    first, second = x_B2CHW.chunk(2, dim=1)
    return first * second


def with_official_blocks(module: nn.Module) -> nn.Module:
    """A copy of the module, contiguous, every NAFBlock in it computed by an OfficialBlock."""
    module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    if isinstance(module, NAFBlock):
        return OfficialBlock(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, NAFBlock):
                setattr(parent, name, OfficialBlock(child))
    return module
