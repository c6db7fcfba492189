"""The ops on a GPU, forward and with their gradients: eager, torch.compile, and every implementation of this package.

    pytest bench/bench_gpu.py --benchmark-only      # appends to bench/results/gpu.csv; bench/gpu_check.sh runs it

Times are medians over replays of a CUDA graph of calls on different copies of the inputs, more of them than the L2
cache holds; eager alone is timed without a graph, launch costs included. Beside each time stand the bytes a second that
the op's floor of bytes makes of it, their share of a copy's bandwidth in this run, and the two floors themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from depthsr import ops
from depthsr.ops import reference
from depthsr.ops.reference import NAFBlockWeights
from gpu_rows import Rates, Row, Work, append, row, table
from rows import provenance

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")]

ROWS_FILE = Path(__file__).parent / "results" / "gpu.csv"
ROUNDS = 20
FORWARD, WITH_GRADIENT = "forward", "with gradient"

#: op -> elements that pass through memory, in units of B·C·H·W of its result's (gated) or input's size: forward, and
#: forward and backward; then floating-point operations an element, the same two.
FLOORS: dict[str, tuple[float, float, float, float]] = {
    "layer_norm_2d": (2, 5, 8, 20),
    "simple_gate": (3, 8, 1, 3),
    "gated_depthwise": (3, 8, 38, 148),
    "adain_statistics": (2, 6, 8, 16),  # of both inputs
    "adain": (4, 11, 10, 24),  # the content is read twice: its statistics have to be known first
    "adain_fusion": (5, 13, 10, 24),  # without its matrices; content and style are read for their statistics too
    "sobel_l1_loss": (2, 3, 30, 60),
    "joint_bilateral_upsample": (4 + 5 / 64, math.nan, 49 * 17, math.nan),  # of its result
    "mix_candidates": (2 * 12 + 5, math.nan, 12 * 6 + 10, math.nan),  # of its result
    "bilateral_sum": (7, 14, 81 * 21, 162 * 21),  # of one of its two maps
}
#: A block in two passes forward (see roofline.py); of the backward pass no floor is claimed.
BLOCK_PASSES = 5

#: Ops on depth maps, of one channel and in float32, and how many maps they are timed on.
OF_DEPTH = {"sobel_l1_loss": 8, "joint_bilateral_upsample": 1, "mix_candidates": 1, "bilateral_sum": 1}
SHAPES = [(1, 16, 480, 640), (1, 64, 480, 640), (1, 16, 1080, 1920)]
CASES = [
    *((op, shape, torch.float16) for op in FLOORS if op not in OF_DEPTH for shape in SHAPES),
    *((op, (batch, 1, *size), torch.float32) for op, batch in OF_DEPTH.items() for size in ((480, 640), (1080, 1920))),
    *(("naf_block", (1, channels, 480, 640), torch.float16) for channels in (16, 32, 64, 128)),
    ("naf_block", (1, 16, 1080, 1920), torch.float16),
]
DIRECTIONS = [FORWARD, WITH_GRADIENT]
#: Their kernels have no gradient: the one prepares a network's input, the other is what training leaves to torch.
FORWARD_ONLY = ("joint_bilateral_upsample", "mix_candidates")
#: In the order in which they are measured: torch.compile needs minutes, and a run that is cut short keeps its rows.
IMPLEMENTATIONS = ["cuda", "triton", "eager", "compile"]
#: Single passes over memory are held against a copy's bandwidth; these against torch.compile too.
COMPILED = ("naf_block", "sobel_l1_loss")
TESTS = [
    (implementation, *case, direction)
    for implementation in IMPLEMENTATIONS
    for case in CASES
    if implementation != "compile" or case[0] in COMPILED
    for direction in DIRECTIONS
    if direction == FORWARD or case[0] not in FORWARD_ONLY
]


def work_of(op: str, shape: tuple[int, int, int, int], dtype: torch.dtype, direction: str) -> Work | None:
    """None where no floor is claimed."""
    batch, channels, height, width = shape
    elements = math.prod(shape)
    if op == "naf_block":
        if direction != FORWARD:
            return None
        multiply_adds = batch * height * width * (6 * channels**2 + 18 * channels)
        return Work(BLOCK_PASSES * elements * dtype.itemsize, 2 * multiply_adds)
    passes, passes_with, operations, operations_with = FLOORS[op]
    if direction == FORWARD:
        return Work(int(passes * elements * dtype.itemsize), int(operations * elements))
    return Work(int(passes_with * elements * dtype.itemsize), int(operations_with * elements))


def arguments_of(
    op: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str
) -> tuple[list[Tensor], int]:
    """The op's tensors, random, and how many of them are images (the others are parameters)."""
    batch, channels, height, width = shape

    def image(channels: int = channels) -> Tensor:
        values = torch.randn(batch, channels, height, width, device=device, dtype=dtype)
        return values.contiguous(memory_format=torch.channels_last).requires_grad_()

    def parameter(*sizes: int) -> Tensor:
        return (0.3 * torch.randn(sizes, device=device)).requires_grad_()

    match op:
        case "layer_norm_2d":
            return [image(), parameter(channels), parameter(channels)], 1
        case "simple_gate":
            return [image(2 * channels)], 1
        case "gated_depthwise":
            return [image(2 * channels), parameter(2 * channels, 1, 3, 3), parameter(2 * channels)], 1
        case "naf_block":
            return [image(), *(parameter(*sizes) for sizes in NAFBlockWeights.shapes(channels))], 1
        case "sobel_l1_loss":
            return [image(), image().detach()], 2
        case "adain" | "adain_statistics":
            return [image(), image()], 2
        case "adain_fusion":
            return [image(), image(), parameter(channels, channels, 1, 1), parameter(channels)], 2
        case "joint_bilateral_upsample":
            guide = torch.rand(batch, 3, height, width, device=device, dtype=dtype)
            low = (batch, 1, height // 8, width // 8)
            coarse = [torch.rand(*sizes, device=device, dtype=dtype) for sizes in (low, low, (batch, 3, *low[2:]))]
            return [coarse[0], coarse[1] + 0.1, guide, coarse[2]], 4
        case "mix_candidates":
            half = (height // 2, width // 2)
            halves = [torch.randn(batch, count, *half, device=device, dtype=dtype) for count in (48, 4, 4)]
            full = [torch.rand(batch, count, height, width, device=device, dtype=dtype) for count in (12, 1)]
            return [*(tensor.contiguous(memory_format=torch.channels_last) for tensor in halves), *full], 5
        case "bilateral_sum":
            maps = torch.rand(batch, 2, height, width, device=device, dtype=dtype).requires_grad_()
            return [maps, torch.rand(batch, 3, height, width, device=device, dtype=dtype)], 2
        case _:
            raise ValueError(f"no arguments are known for {op}")


def results_of(implementation, op: str, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    if op == "naf_block":
        out = implementation.naf_block(tensors[0], NAFBlockWeights(*tensors[1:]))
    else:
        out = getattr(implementation, op)(*tensors)
    return out if isinstance(out, tuple) else (out,)


def call_of(compute: Callable[..., tuple[Tensor, ...]], tensors: list[Tensor], direction: str) -> Callable[[], object]:
    if direction == FORWARD:
        inputs = [tensor.detach() for tensor in tensors]
        return lambda: compute(*inputs)
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    grads = [torch.randn_like(out) for out in compute(*tensors)]
    return lambda: torch.autograd.grad(compute(*tensors), wanted, grads)


def captured(calls: list[Callable[[], object]]) -> Callable[[], object]:
    """Replays all calls in turn as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            calls[0]()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return lambda calls=calls: graph.replay()  # calls: they hold the inputs, which the graph only reads


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """A function that runs and waits, and answers with the seconds between two events on the GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def sample() -> float:
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    return sample


def median_s(run: Callable[[], object]) -> float:
    sample = timed(run)
    sample()
    return sorted(sample() for _ in range(ROUNDS))[ROUNDS // 2]


@pytest.fixture(scope="session")
def copy_bytes_s() -> float:
    source = torch.randn(2**28, device="cuda")  # 1 GiB: far more than any cache
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / median_s(lambda: target.copy_(source))


@pytest.fixture(scope="session")
def operations_s() -> dict[torch.dtype, float]:
    """In a product of 8192² matrices, float32 without TF32."""
    side = 8192
    rates = {}
    for dtype in (torch.float32, torch.float16):
        a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
        rates[dtype] = 2 * side**3 / median_s(lambda a=a, b=b: a @ b)
    return rates


@pytest.fixture(scope="session")
def collected(tables: list[str]) -> Iterator[list[Row]]:
    rows: list[Row] = []
    yield rows
    tables.append(table(rows))


def implementation_of(name: str, op: str) -> Callable[..., tuple[Tensor, ...]]:
    def plain(*tensors: Tensor) -> tuple[Tensor, ...]:
        return results_of(reference, op, list(tensors))

    def ours(*tensors: Tensor) -> tuple[Tensor, ...]:
        with ops.backend(name):
            return results_of(ops, op, list(tensors))

    if name == "eager":
        return plain
    if name == "compile":
        torch._dynamo.reset()
        return torch.compile(plain, fullgraph=True, mode="max-autotune-no-cudagraphs")
    return ours


@pytest.mark.parametrize(("implementation", "op", "shape", "dtype", "direction"), TESTS, ids=str)
def test_op(benchmark, implementation, op, shape, dtype, direction, copy_bytes_s, operations_s, collected):
    torch.manual_seed(0)
    work = work_of(op, shape, dtype, direction)
    compute = implementation_of(implementation, op)
    tensors, images = arguments_of(op, shape, dtype, "cuda")
    try:
        compute(*tensors)
    except RuntimeError as error:
        if "DEPTHSR_BACKEND is" not in str(error):
            raise
        pytest.skip(str(error))
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors[:images])
    cache = torch.cuda.get_device_properties("cuda").L2_cache_size
    copies = min(max(math.ceil(4 * cache / held), 1), 32)
    sets = [tensors, *(arguments_of(op, shape, dtype, "cuda")[0] for _ in range(copies - 1))]
    calls = [call_of(compute, one, direction) for one in sets]
    run = (lambda: [call() for call in calls]) if implementation == "eager" else captured(calls)
    sample = timed(run)
    samples_s: list[float] = []
    benchmark.pedantic(lambda: samples_s.append(sample()), rounds=ROUNDS, warmup_rounds=2)
    seconds = sorted(samples_s[-ROUNDS:])[ROUNDS // 2] / copies
    benchmark.extra_info["ms a call"] = 1e3 * seconds
    if work is None:
        return
    about = provenance() | {"device": torch.cuda.get_device_name()}
    new = row(
        {name: str(about[name]) for name in ("commit", "date", "device", "torch")},
        {
            "op": op, "direction": direction, "shape": "x".join(map(str, shape)),
            "dtype": str(dtype).removeprefix("torch."), "implementation": implementation,
        },
        seconds, work, Rates(copy_bytes_s, operations_s[dtype if op == "naf_block" else torch.float32]),
    )  # fmt: skip
    collected.append(new)
    append(ROWS_FILE, new)
