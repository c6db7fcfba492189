"""Time of the ops, forward and with their gradients: the reference beside every implementation of this machine.

    pytest bench/bench_ops.py --benchmark-group-by=group --benchmark-columns=min,median,rounds

Shapes are what the preset `edge` sees at its first stage for a 640×480 frame. Public API only. An op that an
implementation lacks, or cannot run here, is skipped with its reason.
"""

from __future__ import annotations

import pytest
import torch

from depthsr import ops

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FORWARD, WITH_GRADIENT = "forward", "with gradient"
#: The joint bilateral upsampling prepares a network's input, of which nobody asks a gradient; mixing the candidates
#: makes depth of its output, and training does it by the reference.
WITH_BOTH = ("layer_norm_2d", "simple_gate", "adain", "sobel_l1_loss", "bilateral_sum")
CALLS = [
    *((op, direction) for op in WITH_BOTH for direction in (FORWARD, WITH_GRADIENT)),
    ("joint_bilateral_upsample", FORWARD),
    ("mix_candidates", FORWARD),
]


def arguments(op: str, layout: torch.memory_format, device: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)

    def image(channels: int, height: int = 240, width: int = 320) -> torch.Tensor:
        values = torch.randn(1, channels, height, width, generator=generator)
        return values.contiguous(memory_format=layout).to(device).requires_grad_()

    if op == "layer_norm_2d":
        return image(16), torch.ones(16, device=device), torch.zeros(16, device=device)
    if op == "simple_gate":
        return (image(32),)
    if op == "adain":
        return image(16), image(16)
    if op == "joint_bilateral_upsample":
        sizes = ((1, 60, 80), (1, 60, 80), (3, 480, 640), (3, 60, 80))
        return tuple(image(*size).detach().abs() for size in sizes)
    if op == "mix_candidates":
        full = [image(count, 480, 640).contiguous() for count in (12, 1)]
        return tuple(tensor.detach() for tensor in (image(48), image(4), image(4), *full))
    if op == "bilateral_sum":
        return image(2, 480, 640), image(3, 480, 640).detach().abs()
    return image(1, 480, 640), image(1, 480, 640).detach()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("backend", ["reference", "native", "triton"])
@pytest.mark.parametrize(("op", "direction"), CALLS)
def test_op(benchmark, op, backend, layout, direction, device):
    benchmark.group = f"{op}, {direction}, {str(layout).removeprefix('torch.')}, {device}"
    tensors = arguments(op, layout, device)
    function = getattr(ops, op)

    def forward() -> torch.Tensor | tuple[torch.Tensor, ...]:
        with torch.no_grad():
            out = function(*tensors)
        if device == "cuda":
            torch.cuda.synchronize()
        return out

    def with_gradient() -> tuple[torch.Tensor, ...]:
        out = function(*tensors)
        gradients = torch.autograd.grad(out, tensors[:1], torch.ones_like(out))
        if device == "cuda":
            torch.cuda.synchronize()
        return gradients

    with ops.backend(backend):
        try:
            forward()
        except RuntimeError as error:
            pytest.skip(str(error))
        benchmark(forward if direction == FORWARD else with_gradient)
