"""mix_candidates: the reference against its formula pixel by pixel and its gradient; native code, and a GPU's Triton,
which interpreted_triton.py tests on the CPU, against the reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from depthsr import ops
from depthsr.ops import choice, reference

SIZES = [(1, 1), (2, 2), (7, 5), (13, 140)]


def heads(size: tuple[int, int], count=12, dtype=torch.float32, layout="channels_last", more=0) -> list[Tensor]:
    """Random arguments for a result of that size, the network's of type `dtype`; `more` rows and columns to cut off."""
    generator = torch.Generator().manual_seed(size[1])
    half = [(side + 1) // 2 + more for side in size]
    halves = [3 * torch.randn(2, channels, *half, generator=generator) for channels in (4 * count, 4, 4)]
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    halves = [half.to(dtype).contiguous(memory_format=memory_format) for half in halves]
    return [*halves, *(torch.rand(2, channels, *size, generator=generator) for channels in (count, 1))]


@pytest.mark.parametrize("size", SIZES[:3])
def test_reference_is_the_formula(size):
    logits, correction, error, candidates, ambiguity = (tensor.double() for tensor in heads(size, count=3, more=1))
    depth, expected = reference.mix_candidates(logits, correction, error, candidates, ambiguity)
    assert depth.shape == expected.shape == (2, 1, *size)
    for frame in range(2):
        for y, x in ((y, x) for y in range(size[0]) for x in range(size[1])):
            quarter, here = 2 * (y % 2) + x % 2, (frame, slice(None), y // 2, x // 2)
            weights = [math.exp(logits[here][4 * k + quarter]) for k in range(3)]
            mixed = sum(weight * candidates[frame, k, y, x] for k, weight in enumerate(weights)) / sum(weights)
            unsure = ambiguity[frame, 0, y, x]
            torch.testing.assert_close(depth[frame, 0, y, x], mixed + correction[here][quarter] * unsure)
            softplus = math.log1p(math.exp(error[here][quarter] - 2))
            torch.testing.assert_close(expected[frame, 0, y, x], softplus * unsure)


def test_gradient():
    arguments = [tensor.double().requires_grad_() for tensor in heads((3, 5), count=2)]
    assert torch.autograd.gradcheck(ops.mix_candidates, arguments)


def test_half_precision_heads_are_taken_as_they_are():
    """The candidates stay float32: depth in half precision would be off by a thousandth."""
    halves = heads((7, 5), dtype=torch.float16)
    exact = [tensor.double() for tensor in halves]
    for result, expected in zip(ops.mix_candidates(*halves), reference.mix_candidates(*exact), strict=True):
        assert result.dtype == torch.float32
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_candidate_that_is_impossible_is_not_taken():
    """As the residual head says it: logits -inf."""
    arguments = heads((4, 6), count=2)
    arguments[0][:, 4:] = -torch.inf
    depth, _ = ops.mix_candidates(*arguments)
    correction = torch.nn.functional.pixel_shuffle(arguments[1], 2) * arguments[4]
    torch.testing.assert_close(depth, arguments[3][:, :1] + correction)


@pytest.mark.usefixtures("native", "poisoned_memory")
class TestNative:
    @pytest.mark.parametrize("size", SIZES)
    def test_values(self, size, dtype, layout, close):
        arguments = heads(size, dtype=dtype, layout=layout, more=size[0] % 2)
        with ops.backend("native"):
            results = ops.mix_candidates(*arguments)
        for result, expected in zip(
            results, reference.mix_candidates(*(tensor.double() for tensor in arguments)), strict=True
        ):
            assert (result.dtype, result.is_contiguous()) == (torch.float32, True)
            close(result, expected)

    @pytest.mark.parametrize("count", [1, 3, 17])
    def test_any_number_of_candidates(self, count, close):
        arguments = heads((5, 33), count=count)
        arguments[3] = arguments[3].half()  # and the results are of the candidates' type
        with ops.backend("native"):
            results = ops.mix_candidates(*arguments)
        for result, expected in zip(
            results, reference.mix_candidates(*(tensor.double() for tensor in arguments)), strict=True
        ):
            assert result.dtype == torch.float16
            close(result, expected)

    def test_results_do_not_depend_on_the_number_of_threads(self):
        """The ranges of rows begin anywhere, also within the first sample and end in the second."""
        results, before = [], torch.get_num_threads()
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with ops.backend("native"):
                results.append(torch.stack(ops.mix_candidates(*heads((71, 250)))))
        torch.set_num_threads(before)
        assert torch.equal(*results)

    def test_no_samples(self):
        with ops.backend("native"):
            results = ops.mix_candidates(*(tensor[:0] for tensor in heads((3, 4))))
        assert [result.shape for result in results] == [(0, 1, 3, 4)] * 2

    def test_opcheck(self, layout):
        torch.library.opcheck(torch.ops.depthsr.mix_candidates.default, heads((5, 4), layout=layout))

    def test_auto_takes_the_reference_where_a_gradient_is_wanted(self):
        arguments = heads((5, 4))
        with ops.backend("auto"):
            assert choice.choose("mix_candidates", *arguments) is torch.ops.depthsr.mix_candidates.default
            arguments[0].requires_grad_()
            assert choice.choose("mix_candidates", *arguments) is reference.mix_candidates
        with ops.backend("native"), pytest.raises(RuntimeError, match="has no gradient"):
            ops.mix_candidates(*arguments)
        depth, _ = torch.ops.depthsr.mix_candidates(*arguments)
        with pytest.raises(NotImplementedError, match="has no gradient"):
            depth.sum().backward()

    @pytest.mark.parametrize(
        ("number", "change"),
        [
            (0, lambda logits: logits[0]),
            (0, lambda logits: logits[:, 1:]),
            (0, lambda logits: logits[:, :, 1:]),
            (0, lambda logits: logits.long()),
            (1, lambda correction: correction[..., 1:]),
            (2, lambda error: error[:1]),
            (3, lambda candidates: candidates[0]),
            (3, lambda candidates: candidates[:, :0]),
            (4, lambda ambiguity: ambiguity[..., 1:]),
            (4, lambda ambiguity: ambiguity.repeat(1, 2, 1, 1)),
        ],
    )
    def test_rejects_what_the_public_function_would(self, number, change):
        arguments = heads((5, 4))
        arguments[number] = change(arguments[number])
        with pytest.raises(RuntimeError, match=r"depthsr: |no kernel for"):
            torch.ops.depthsr.mix_candidates(*arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_triton_on_a_gpu(size, dtype, layout):
    arguments = heads(size, dtype=dtype, layout=layout, more=1)
    with ops.backend("triton"):
        results = ops.mix_candidates(*(tensor.cuda() for tensor in arguments))
    for result, expected in zip(results, reference.mix_candidates(*arguments), strict=True):
        torch.testing.assert_close(result.cpu(), expected, rtol=1e-5, atol=1e-6)


def test_compile_whole():
    torch._dynamo.reset()
    compiled = torch.compile(ops.mix_candidates, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in SIZES[1:]:
        arguments = heads(size)
        for result, expected in zip(compiled(*arguments), reference.mix_candidates(*arguments), strict=True):
            torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, lambda logits: logits[:, 1:], r"logits must have shape \(2, 48, 2, 3\), not \(2, 47, 2, 3\)"),
        (0, lambda logits: logits[:, :, 1:], "12 candidates of 4×6 do not go with logits of 1×3"),
        (1, lambda correction: correction[..., 1:], r"correction must have shape \(2, 4, 2, 3\)"),
        (2, lambda error: error[1:], r"error must have shape \(2, 4, 2, 3\), not \(1, 4, 2, 3\)"),
        (3, lambda candidates: candidates[0], "candidates must be B×C×H×W"),
        (4, lambda ambiguity: ambiguity.long(), r"ambiguity must be of a floating-point type, but is torch\.int64"),
    ],
)
def test_bad_input_is_named(number, change, message):
    arguments = heads((4, 6))
    arguments[number] = change(arguments[number])
    with pytest.raises(ValueError, match=message):
        ops.mix_candidates(*arguments)
