"""Every op of the implementations for GPUs, on a GPU: values, gradients, determinism, CUDA graphs, torch.compile.

bench/gpu_check.sh runs this, and part of it under compute-sanitizer. Expected values come from the CPU, in float64.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from depthsr import ops
from depthsr.ops import choice, reference
from depthsr.ops.reference import NAFBlockWeights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]

IMPLEMENTED = [
    ("cuda", "gated_depthwise"),
    ("cuda", "adain_statistics"),
    ("cuda", "sobel_l1_loss"),
    ("triton", "layer_norm_2d"),
    ("triton", "simple_gate"),
    ("triton", "gated_depthwise"),
    ("triton", "adain_statistics"),
    ("triton", "adain"),
    ("triton", "adain_fusion"),
    ("triton", "naf_block"),
]

#: What rounds to the storage type before it adds up, and so is compared by the root mean square of its error; of
#: Triton's gated_depthwise only the gradients, where the gradient of its convolution's result passes through memory.
ROUNDS_BEFORE_IT_SUMS = {("triton", "adain_fusion"), ("triton", "naf_block"), ("triton", "gated_depthwise", "gradient")}

#: How large that error may be, in machine epsilons of the storage type, a float32 parameter's gradient included. In
#: Triton's interpreter, whose products are exact float32, at most 10.4 and 0.8.
ERROR_EPSILONS = {torch.float32: 32, torch.float16: 2, torch.bfloat16: 2}

#: What torch.library.opcheck can be asked about, with the arguments of `call`.
REGISTERED = {
    ("cuda", "gated_depthwise"): ("gated_depthwise",),
    ("cuda", "adain_statistics"): ("adain_statistics",),
    ("cuda", "sobel_l1_loss"): ("sobel_l1_loss", "sobel_l1_loss_with_slopes"),
    ("triton", "layer_norm_2d"): ("layer_norm_2d_triton",),
    ("triton", "simple_gate"): ("simple_gate_triton",),
    ("triton", "gated_depthwise"): ("gated_depthwise_triton",),
    ("triton", "adain_statistics"): ("adain_statistics_triton",),
    ("triton", "adain"): ("adain_triton",),
}


def call(op: str, random_image, size, dtype=torch.float32, layout="channels_last") -> tuple[list[Tensor], tuple]:
    """The differentiable tensors of one call, on the CPU, and its other arguments. Parameters stay float32; those of
    gated_depthwise are numbers of the image's type, to which Triton's rounds them.
    """
    height, width = size
    if op == "layer_norm_2d":
        x = random_image((2, 37, height, width), dtype, layout)
        return [x, *random_image((2, 37, 1, 1), seed=1).flatten(1)], (1e-4,)
    if op == "simple_gate":
        return [random_image((2, 10, height, width), dtype, layout)], ()
    if op == "gated_depthwise":
        x = random_image((2, 48, height, width), dtype, layout)
        weight, bias = random_image((48, 1, 3, 3), dtype, seed=1), random_image((48, 1, 1, 1), dtype, seed=2)
        return [x, weight.float(), bias.float().flatten()], ()
    if op in ("adain", "adain_statistics"):
        style = random_image((2, 19, height + 2, width + 3), dtype, layout, seed=1)
        rest = (1e-2, 1) if op == "adain" else (1,)
        return [random_image((2, 19, height, width), dtype, layout), style * 2 + 1], rest
    if op == "adain_fusion":
        images = [random_image((2, 24, height, width), dtype, layout, seed=seed) for seed in range(2)]
        weight = random_image((24, 24, 1, 1), seed=2) / 8
        return [images[0], images[1] * 2 + 1, weight, random_image((24, 1, 1, 1), seed=3).flatten()], (1e-2,)
    if op == "sobel_l1_loss":
        valid = random_image((2, 1, height, width), seed=2) > -1
        pred, target = (random_image((2, 1, height, width), dtype, layout, seed=seed) for seed in range(2))
        return [pred, target], (valid, 0.7, 1.3)
    shapes = NAFBlockWeights.shapes(32)
    weights = [random_image((1, 1, 1, torch.Size(s).numel()), seed=i).reshape(s) / 4 for i, s in enumerate(shapes)]
    return [random_image((2, 32, height, width), dtype, layout), *weights], (1e-6,)


def compute(implementation, op: str, tensors: list[Tensor], rest: tuple) -> tuple[Tensor, ...]:
    """The op's results, always as a tuple."""
    if op == "naf_block":
        out = implementation.naf_block(tensors[0], NAFBlockWeights(*tensors[1:]), *rest)
    else:
        out = getattr(implementation, op)(*tensors, *rest)
    return out if isinstance(out, tuple) else (out,)


def on_gpu(arguments: tuple) -> tuple:
    return tuple(argument.cuda() if isinstance(argument, Tensor) else argument for argument in arguments)


def leaves_on_gpu(tensors: list[Tensor]) -> list[Tensor]:
    """Copies with the same strides, views included."""
    leaves = []
    for tensor in tensors:
        storage = tensor.as_strided((tensor.untyped_storage().size() // tensor.element_size(),), (1,), 0).cuda()
        leaves.append(storage.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).requires_grad_())
    return leaves


def gradients_of(results: tuple[Tensor, ...], leaves: list[Tensor], seed: int = 5) -> tuple[Tensor, ...]:
    """For one random gradient a result, the same on every device and in every type."""
    generator = torch.Generator().manual_seed(seed)
    grads = [torch.randn(out.shape, generator=generator).to(torch.bfloat16).to(out) for out in results]
    return torch.autograd.grad(results, leaves, grads)


@pytest.fixture(params=IMPLEMENTED, ids="-".join)
def implemented(request) -> str:
    """The op's name; its implementation is forced while the test runs."""
    name, op = request.param
    if reason := choice.why_not(name, op, (torch.zeros(1, 2, 1, 1, device="cuda"),)):
        pytest.skip(reason)
    with ops.backend(name):
        yield op


@pytest.fixture
def close_enough(close, request):
    """close_enough(result, expected, what, number): as `close`, but for what ROUNDS_BEFORE_IT_SUMS."""
    implementation, dtype = (request.node.callspec.params[name] for name in ("implemented", "dtype"))

    def check(result: Tensor, expected: Tensor, what: str, number: int) -> None:
        result, name = result.detach().cpu(), f"{what} {number}"
        if not ROUNDS_BEFORE_IT_SUMS & {implementation, (*implementation, what)}:
            close(result, expected, name)
            return
        error = (result.double() - expected).square().mean().sqrt()
        assert error <= ERROR_EPSILONS[dtype] * torch.finfo(dtype).eps * expected.square().mean().sqrt(), name

    return check


@pytest.mark.usefixtures("poisoned_memory")
def test_value_and_gradient(implemented, random_image, size, dtype, layout, close_enough):
    tensors, rest = call(implemented, random_image, size, dtype, layout)
    leaves64 = [tensor.double().requires_grad_() for tensor in tensors]
    expected = compute(reference, implemented, leaves64, rest)
    leaves = leaves_on_gpu(tensors)
    results = compute(ops, implemented, leaves, on_gpu(rest))
    for i, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        close_enough(result, wanted.detach(), "result", i)
    gradients = gradients_of(results, leaves)
    for i, (gradient, wanted) in enumerate(zip(gradients, gradients_of(expected, leaves64), strict=True)):
        assert gradient.dtype == tensors[i].dtype
        close_enough(gradient, wanted, "gradient", i)


def test_deterministic(implemented, random_image):
    """Bit by bit, on a frame of many blocks."""
    tensors, rest = call(implemented, random_image, (211, 197), torch.float16)
    runs = []
    for _ in range(3):
        leaves = leaves_on_gpu(tensors)
        results = compute(ops, implemented, leaves, on_gpu(rest))
        runs.append([*(result.detach() for result in results), *gradients_of(results, leaves)])
    for run in runs[1:]:
        for first, again in zip(runs[0], run, strict=True):
            assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("name", "op", "registered"),
    [(name, op, registered) for (name, op), names in REGISTERED.items() for registered in names],
)
def test_opcheck(name, op, registered, random_image):
    if reason := choice.why_not(name, op, (torch.zeros(1, 2, 1, 1, device="cuda"),)):
        pytest.skip(reason)
    tensors, rest = call(op, random_image, (7, 5))
    torch.library.opcheck(getattr(torch.ops.depthsr, registered).default, (*leaves_on_gpu(tensors), *on_gpu(rest)))


def test_in_a_cuda_graph(implemented, random_image):
    """What was captured computes anew from what lies in its inputs."""
    tensors, rest = call(implemented, random_image, (63, 65), torch.float16)
    inputs, rest = [tensor.detach() for tensor in leaves_on_gpu(tensors)], on_gpu(rest)
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles, and warms the allocator up
            compute(ops, implemented, inputs, rest)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = compute(ops, implemented, inputs, rest)
        inputs[0].copy_(inputs[0].flip(0) * 0.5)
        for result in captured:
            result.fill_(torch.nan)
        graph.replay()
        for result, wanted in zip(captured, compute(ops, implemented, inputs, rest), strict=True):
            assert torch.equal(result, wanted)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_in_torch_compile(implemented, random_image, mode):
    """One graph; the results and gradients of eager mode."""
    tensors, rest = call(implemented, random_image, (31, 30), torch.float32)
    leaves, rest = leaves_on_gpu(tensors), on_gpu(rest)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *leaves: compute(ops, implemented, list(leaves), rest), fullgraph=True, mode=mode)
    expected = compute(ops, implemented, leaves, rest)
    wanted = [*(out.detach() for out in expected), *gradients_of(expected, leaves)]
    for _ in range(3):  # the third call of reduce-overhead is the first to replay its graph
        results = compiled(*leaves)
        got = [*(out.detach().clone() for out in results), *gradients_of(results, leaves)]
        for result, eager in zip(got, wanted, strict=True):
            scale = eager.double().square().mean().sqrt().item()
            torch.testing.assert_close(result, eager, rtol=1e-5, atol=1e-5 * scale)


def test_another_stream(implemented, random_image):
    """Work is queued where torch's is: behind a long computation of its input."""
    tensors, rest = call(implemented, random_image, (63, 65))
    leaves, rest = [leaf.detach() for leaf in leaves_on_gpu(tensors)], on_gpu(rest)
    expected = compute(ops, implemented, leaves, rest)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = torch.full_like(leaves[0], torch.nan)
        torch.cuda._sleep(20_000_000)
        late.copy_(leaves[0])
        results = compute(ops, implemented, [late, *leaves[1:]], rest)
    stream.synchronize()
    for result, wanted in zip(results, expected, strict=True):
        assert torch.equal(result, wanted)
