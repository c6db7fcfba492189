"""What a network has to compute and to move, and what this machine can: the two floors under its time."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from depthsr import ops
from depthsr.models.blocks import AdaINFusion, NAFBlock

#: Times that a NAFNet block's feature map passes through memory when each of its halves is one pass: the first reads x
#: and writes the gated features, whose mean the second needs; that reads x and the features and writes the result.
BLOCK_PASSES = 5

#: How long each of the machine's own rates is measured.
ROUNDS_S = 0.5


@dataclass(frozen=True)
class Work:
    """Of one forward pass. multiply_adds: of convolutions and linear layers. elements: through memory, see `count`."""

    multiply_adds: int
    elements: int

    def floor_s(self, machine: Machine, dtype: torch.dtype) -> float:
        """No implementation that stores `dtype` is faster on this machine: the larger of the two floors."""
        arithmetic_s = self.multiply_adds / machine.multiply_adds_s[dtype]
        return max(arithmetic_s, self.elements * dtype.itemsize / machine.copy_bytes_s)


def count(module: nn.Module, inputs: Iterable[Tensor]) -> Work:
    """The work of module(*inputs), without doing it.

    Elements: parameters once; a block BLOCK_PASSES times its map; a fusion reads both maps for their statistics, then
    both again, and writes one; every other convolution or linear layer reads its input and writes its output; a pixel
    shuffle reads the skip that is added to its result, and is itself part of the convolution before it.
    """
    module = copy.deepcopy(module).to("meta")
    elements = sum(parameter.numel() for parameter in module.parameters())

    def add(passes: Callable[[tuple[Tensor, ...], Tensor], int]):
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal elements
            elements += passes(arguments, output)

        return hook

    fused = [m for m in module.modules() if isinstance(m, (NAFBlock, AdaINFusion))]
    inside = {part for whole in fused for part in whole.modules()}
    for part in module.modules():
        if isinstance(part, NAFBlock):
            part.register_forward_hook(add(lambda _, output: BLOCK_PASSES * output.numel()))
        elif isinstance(part, AdaINFusion):
            part.register_forward_hook(add(lambda maps, output: 2 * sum(m.numel() for m in maps) + output.numel()))
        elif isinstance(part, nn.PixelShuffle):
            part.register_forward_hook(add(lambda _, output: output.numel()))
        elif isinstance(part, (nn.Conv2d, nn.Linear)) and part not in inside:
            part.register_forward_hook(add(lambda maps, output: maps[0].numel() + output.numel()))
    with torch.no_grad(), ops.backend("reference"), FlopCounterMode(display=False) as counter:
        module(*(tensor.to("meta") for tensor in inputs))
    return Work(counter.get_total_flops() // 2, elements)


@dataclass(frozen=True)
class Machine:
    """copy_bytes_s: read plus written. multiply_adds_s: of a matrix product, by storage type."""

    copy_bytes_s: float
    multiply_adds_s: dict[torch.dtype, float]


def measure_machine() -> Machine:
    """On torch's current number of threads. The best of several rounds each: these are ceilings."""
    # A chip without bfloat16 arithmetic widens it and computes in float32.
    fp32, bf16 = _product_rate(torch.float32), _product_rate(torch.bfloat16)
    return Machine(_copy_rate(), {torch.float32: fp32, torch.bfloat16: max(fp32, bf16)})


def _copy_rate() -> float:
    """Bytes read plus bytes written in a second."""
    source = torch.rand(2**26)  # 256 MB, beyond any cache
    target = torch.empty_like(source)
    threads = torch.get_num_threads()
    parts = [np.array_split(tensor.numpy(), threads) for tensor in (target, source)]
    with ThreadPoolExecutor(threads) as pool:  # the C library's copy goes past the caches, torch's does not
        copies = (lambda: target.copy_(source), lambda: list(pool.map(np.copyto, *parts)))
        return 2 * source.nbytes / min(_best_s(copy) for copy in copies)


def _product_rate(dtype: torch.dtype) -> float:
    """Multiply-adds of a matrix product in a second, the best of three sizes."""
    best = 0.0
    for side in (512, 1024, 2048):
        if best and side**3 > best * ROUNDS_S:
            break  # an emulated type: a larger product would take seconds, and gain nothing
        matrix = torch.rand(side, side).to(dtype)
        out = torch.empty_like(matrix)
        best = max(best, side**3 / _best_s(lambda matrix=matrix, out=out: torch.mm(matrix, matrix, out=out)))
    return best


def _best_s(function: Callable[[], object]) -> float:
    """Of as many calls as fit into ROUNDS_S, after one that does not count; at least one."""
    function()
    begin = end = time.perf_counter()
    best_s = math.inf
    while end - begin < ROUNDS_S:
        start = time.perf_counter()
        function()
        end = time.perf_counter()
        best_s = min(best_s, end - start)
    return best_s
