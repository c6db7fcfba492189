"""The network's parts: NAFNet block, AdaIN fusion, down- and upsampling, error head.

Shapes: B batch, C channels, H×W pixels of the stage.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthsr import ops

#: Channels between the two layers of the error and the refinement head.
HEAD_CHANNELS = 16


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of each pixel, with gain and bias (NAFNet, Chen et al. 2022)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return ops.layer_norm_2d(x_BCHW, self.weight, self.bias, self.eps)


class NAFBlock(nn.Module):
    """Block of "Simple Baselines for Image Restoration" (Chen et al., ECCV 2022, figure 3c).

    Two residual halves: LN, 1×1, depthwise 3×3, gate, channel attention, 1×1; then LN, 1×1, gate, 1×1.
    `beta` and `gamma` start at zero, so a new block is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weights = ops.NAFBlockWeights(
            self.norm1.weight,
            self.norm1.bias,
            self.conv1.weight,
            self.conv1.bias,
            self.conv2.weight,
            self.conv2.bias,
            self.attention.weight,
            self.attention.bias,
            self.conv3.weight,
            self.conv3.bias,
            self.norm2.weight,
            self.norm2.bias,
            self.conv4.weight,
            self.conv4.bias,
            self.conv5.weight,
            self.conv5.bias,
            self.beta,
            self.gamma,
        )
        return ops.naf_block(x_BCHW, weights, self.norm1.eps)


class AdaINFusion(nn.Module):
    """Relative-depth features, re-styled with the depth path's statistics, added to the depth path.

    AdaIN (Huang & Belongie 2017) with content = relative path, style = depth path: the relative path knows shape
    and edges but neither scale nor offset; the depth path's per-channel mean and deviation supply them.
    The 1×1 projection starts at a tenth of its usual size so that early training follows the measurement.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()

    def forward(self, relative_BCHW: Tensor, depth_BCHW: Tensor) -> Tensor:
        return ops.adain_fusion(relative_BCHW, depth_BCHW, self.project.weight, self.project.bias)


class ConcatenationFusion(nn.Module):
    """In the place of AdaINFusion, for ablations: both paths' features side by side, projected and added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(2 * channels, channels, 1)
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()

    def forward(self, relative_BCHW: Tensor, depth_BCHW: Tensor) -> Tensor:
        return depth_BCHW + self.project(torch.cat([relative_BCHW, depth_BCHW], 1))


FUSIONS = {"adain": AdaINFusion, "concatenation": ConcatenationFusion}


class SubpixelHead(nn.Module):
    """Maps of four values for each pixel of the finest stage, which works at half the resolution (pixel shuffle).

    Two 1×1 layers, on the decoder's features and on Prior.condition_B2: the same features stand for other errors at a
    factor of 8 than at 1. A new head gives 0.
    """

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, HEAD_CHANNELS, 1)
        self.condition = nn.Linear(2, HEAD_CHANNELS, bias=False)
        self.head = nn.Conv2d(HEAD_CHANNELS, 4 * maps, 1)
        zero(self.head)

    def forward(self, x_BCHW: Tensor, condition_B2: Tensor) -> Tensor:
        hidden_BCHW = self.hidden(x_BCHW) + self.condition(condition_B2)[:, :, None, None]
        return self.head(F.relu(hidden_BCHW))


def zero(layer: nn.Module) -> None:
    """A head that starts so gives 0 until it has learnt otherwise."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


def down(channels: int, out_channels: int) -> nn.Conv2d:
    """Halve H and W."""
    return nn.Conv2d(channels, out_channels, 2, stride=2)


def up(channels: int, out_channels: int) -> nn.Sequential:
    """Double H and W: 1×1 then pixel shuffle."""
    return nn.Sequential(nn.Conv2d(channels, 4 * out_channels, 1, bias=False), nn.PixelShuffle(2))
