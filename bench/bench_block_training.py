"""A training step of one NAFNet block on a CPU, forward and all gradients: depthsr's op beside what else would run it.

    pytest bench/bench_block_training.py --benchmark-only --rows rows.json        # -k C16, --threads 1

Shapes are those that the stages of `edge` see of four crops of 192×192, as they are trained on; two for the coarsest.
All contenders of a shape take turns (replay.py), and their gradients are compared first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthsr import ops
from depthsr.compiled import why_no_module
from depthsr.models.blocks import NAFBlock
from interleaved import Budget, times_s
from measurements import relative_error
from official_block import with_official_blocks
from replay import recorded_clock, replay
from rows import provenance, write

SHAPES = ((4, 16, 96, 96), (4, 32, 48, 48), (4, 64, 24, 24), (4, 128, 24, 24), (4, 128, 12, 12))
OURS = "depthsr torch op"


def compiled(block: NAFBlock) -> nn.Module:
    return torch.compile(copy.deepcopy(block), dynamic=False)


#: Name -> the block in the form that the contender trains, its inputs' layout, and the backend of depthsr's ops.
CONTENDERS: dict[str, tuple[Callable[[NAFBlock], nn.Module], torch.memory_format, str]] = {
    "eager, official LayerNorm": (with_official_blocks, torch.contiguous_format, "reference"),
    "eager, channels_last": (copy.deepcopy, torch.channels_last, "reference"),
    "torch.compile": (compiled, torch.channels_last, "reference"),
    OURS: (copy.deepcopy, torch.channels_last, "native"),
}
#: Of the gradients' root mean squares, in float32.
WRONG = 1e-3


def step_of(name: str, block: NAFBlock, x_BCHW: Tensor, grad_BCHW: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """A function that computes the gradients of x and of the block's parameters."""
    make, layout, backend = CONTENDERS[name]
    module = make(block).to(memory_format=layout)
    leaves = [x_BCHW.contiguous(memory_format=layout).requires_grad_(), *module.parameters()]
    grad_BCHW = grad_BCHW.contiguous(memory_format=layout)

    def step() -> tuple[Tensor, ...]:
        with ops.backend(backend):
            return torch.autograd.grad(module(leaves[0]), leaves, grad_BCHW)

    return step


def measure(shape: tuple[int, int, int, int], budget: Budget) -> dict[str, list[float]]:
    """Seconds of each step of each contender. Raises ArithmeticError where the gradients differ."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    block = NAFBlock(shape[1])
    with torch.no_grad():
        for parameter in block.parameters():  # new ones have beta = gamma = 0
            parameter.add_(0.1 * torch.randn_like(parameter))
    x_BCHW, grad_BCHW = torch.randn(shape), torch.randn(shape)
    steps = {name: step_of(name, block, x_BCHW, grad_BCHW) for name in CONTENDERS}
    expected = [gradient.numpy() for gradient in steps["eager, channels_last"]()]
    for name, step in steps.items():
        error = relative_error([gradient.numpy() for gradient in step()], expected)
        if not error < WRONG:
            raise ArithmeticError(f"the gradients of {name} are off by {error:.1e}")
    return times_s(steps, budget)


@pytest.fixture(scope="session")
def threads(pytestconfig: pytest.Config) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(pytestconfig.getoption("threads"))
    yield torch.get_num_threads()
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config, threads: int) -> Callable[[tuple], dict[str, list[float]]]:
    """Of a shape: every contender's samples. Rows are written after each shape."""
    if reason := why_no_module("_C_cpu"):
        pytest.skip(reason)
    samples: dict[tuple, dict[str, list[float]]] = {}
    rows: list[dict] = []
    budget = Budget(contender_s=pytestconfig.getoption("seconds") or 2.0)

    def of(shape: tuple[int, int, int, int]) -> dict[str, list[float]]:
        if shape not in samples:
            samples[shape] = measure(shape, budget)
            medians_ms = {name: 1e3 * float(np.median(times)) for name, times in samples[shape].items()}
            rows.extend(
                provenance() | {"shape": "x".join(map(str, shape)), "contender": name, "median_ms": median_ms,
                                "ratio_to_ours": median_ms / medians_ms[OURS]}
                for name, median_ms in medians_ms.items()
            )  # fmt: skip
            if rows_file := pytestconfig.getoption("rows"):
                write(rows_file, {"rows": rows})
        return samples[shape]

    return of


@pytest.mark.benchmark(timer=recorded_clock)
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"C{s[1]}-{s[3]}x{s[2]}")
def test_step(benchmark, measured, shape: tuple[int, int, int, int], contender: str) -> None:
    benchmark.group = f"training step, {'x'.join(map(str, shape))}"
    replay(benchmark, measured(shape)[contender])
