"""What is computed: a NAFNet block, or the network of `edge` with the frame that it restores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import depthsr
from depthsr import export, ops
from depthsr.checkpoint import load_model
from depthsr.models.blocks import NAFBlock
from interleaved import Budget
from roofline import Work, count
from runtimes import OnnxFile, Outputs, eager, export_onnx, imported

UPSAMPLING = 8

BLOCK_BUDGET = Budget(contender_s=0.6)
FRAME_BUDGET = Budget(contender_s=2.0)


@dataclass
class Case:
    """A network with its inputs (contiguous fp32), and for `edge` the frame that it restores."""

    name: str
    module: nn.Module
    inputs: list[Tensor]
    budget: Budget
    model: str | None = None
    frame: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.onnx = OnnxFile(partial(export_onnx, self.module, self.inputs), [x.numpy() for x in self.inputs])
        self.work: Work = count(self.module, self.inputs)

    @cached_property
    def frame_onnx(self) -> OnnxFile:
        """Of the whole frame, as `depthsr export` writes it."""
        imported("onnxscript")
        rgb, depth_m = self.frame
        unknown = np.zeros(1, np.float32)
        write = partial(export.export_onnx, self.model, size=rgb.shape[:2], low_size=depth_m.shape)
        return OnnxFile(write, [rgb[None], depth_m[None], unknown, unknown])

    def expected(self, scope: str) -> Outputs:
        if scope == "frame":
            with ops.backend("reference"):
                return [depthsr.load(self.model, device="cpu", dtype="fp32", runtime="torch")(*self.frame).depth_m]
        run = eager(self.module, self.inputs, torch.contiguous_format, torch.float32, "reference")
        return run.read(run.call())


def block_case(channels: int, height: int, width: int) -> Case:
    torch.manual_seed(0)
    block = NAFBlock(channels).eval()
    with torch.no_grad():
        for parameter in block.parameters():  # new ones have beta = gamma = 0
            parameter.add_(0.2 * torch.randn_like(parameter))
    name = f"naf_block C{channels} {width}x{height}"
    return Case(name, block, [torch.randn(1, channels, height, width)], BLOCK_BUDGET)


def edge_case(height: int, width: int, model: str) -> Case:
    torch.manual_seed(0)
    unet = load_model(model).unet
    inputs = [
        torch.rand(1, unet.relative_stem.in_channels, height, width),
        torch.rand(1, unet.depth_stem.in_channels, height, width),
        torch.rand(1, 2),
    ]
    rng = np.random.default_rng(0)
    small_rgb = rng.integers(0, 256, (height // UPSAMPLING, width // UPSAMPLING, 3), dtype=np.uint8)
    rgb = cv2.resize(small_rgb, (width, height), interpolation=cv2.INTER_CUBIC)
    depth_m = rng.uniform(1, 10, small_rgb.shape[:2]).astype(np.float32)
    return Case(f"edge {width}x{height}", unet, inputs, FRAME_BUDGET, model, (rgb, depth_m))
