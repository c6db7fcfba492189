"""The fused NAFNet block against the reference in float64: value, every gradient, types, layouts, registration."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from depthsr import ops
from depthsr.models.blocks import NAFBlock
from depthsr.ops import choice, reference
from depthsr.ops.reference import NAFBlockWeights

pytestmark = pytest.mark.usefixtures("one_thread")

EPS = 1e-4

#: (batch, channels, height, width): one pixel, one row, less than a run of pixels, several runs that end within rows;
#: channels of half a panel of weights, one, one and a half, several.
SHAPES = [(1, 16, 1, 1), (1, 16, 1, 9), (2, 8, 7, 5), (2, 24, 13, 31), (1, 16, 63, 65), (2, 64, 9, 17)]

#: How far a result may lie from float64's, in units of float32's machine epsilon times the root mean square of what is
#: compared. 300 = 3.6e-5; torch's own float32 block errs by up to 165 of them on these weights and sizes.
FLOAT32_EPSILONS = 300.0

#: Root mean square error of half precision, of the result's root mean square. The rounding of the result is 2^-9 of it
#: for bfloat16 at most; that of what the two passes hand on is of the same size, and passes through two convolutions.
BFLOAT16_ERROR = 1e-2


def value_and_gradients(function, x, weights, grad) -> list[torch.Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, *weights)]
    out = function(leaves[0], NAFBlockWeights(*leaves[1:]), EPS)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def expected_in_float64(x, weights, grad) -> list[torch.Tensor]:
    weights = NAFBlockWeights(*(weight.double() for weight in weights))
    return value_and_gradients(reference.naf_block, x.double(), weights, grad.double())


NAMES = ("value", "gradient of x", *(f"gradient of {name}" for name in NAFBlockWeights._fields))


def assert_near(results, expected, names=NAMES) -> None:
    for name, result, wanted in zip(names, results, expected, strict=True):
        rms = wanted.square().mean().sqrt()
        error = result.double() - wanted
        if result.dtype == torch.float32:
            limit = FLOAT32_EPSILONS * torch.finfo(torch.float32).eps
            assert error.abs().max() <= limit * rms, f"{name}: {error.abs().max() / rms:.2e} of its rms"
        else:
            assert error.square().mean().sqrt() <= BFLOAT16_ERROR * rms, name


@pytest.mark.usefixtures("native", "poisoned_memory")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_value_and_every_gradient(shape, dtype, random_image, block_weights):
    x, grad = random_image(shape, dtype, "channels_last"), random_image(shape, dtype, "channels_last", seed=1)
    weights = block_weights(shape[1])
    with ops.backend("native"):
        results = value_and_gradients(ops.naf_block, x, weights, grad)
    assert [result.dtype for result in results] == [dtype, dtype, *[torch.float32] * len(weights)]
    assert_near(results, expected_in_float64(x, weights, grad))


@pytest.mark.usefixtures("native", "poisoned_memory")
def test_layouts(layout, random_image, block_weights):
    """Any layout comes in, of x and of the gradient; channels_last comes out."""
    shape = (2, 16, 7, 5)
    x, weights = random_image(shape, layout=layout), block_weights(16)
    with ops.backend("native"):
        for grad_layout in ("contiguous", "channels_last", "strided"):
            grad = random_image(shape, layout=grad_layout, seed=1)
            results = value_and_gradients(ops.naf_block, x, weights, grad)
            assert results[0].is_contiguous(memory_format=torch.channels_last)
            assert_near(results, expected_in_float64(x, weights, grad))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_weights_of_another_type(half, random_image, block_weights):
    """A model in half precision, and float32 weights beside half-precision features."""
    x, grad = random_image((1, 16, 7, 5), half), random_image((1, 16, 7, 5), half, seed=1)
    weights = NAFBlockWeights(*(weight.to(half) for weight in block_weights(16)))
    with ops.backend("native"):
        results = value_and_gradients(ops.naf_block, x, weights, grad)
        wide = value_and_gradients(ops.naf_block, x, NAFBlockWeights(*(weight.float() for weight in weights)), grad)
    assert {result.dtype for result in results} == {half}
    for result, wanted in zip(results, wide, strict=True):
        assert torch.equal(result, wanted.to(half))
    assert_near(results, expected_in_float64(x, weights, grad))


def test_the_reference_takes_weights_of_another_type(random_image, block_weights):
    x, weights = random_image((1, 8, 7, 5), torch.bfloat16), block_weights(8)
    out = reference.naf_block(x, weights, EPS)
    assert out.dtype == torch.bfloat16
    expected = reference.naf_block(x.double(), NAFBlockWeights(*(weight.double() for weight in weights)), EPS)
    assert (out.double() - expected).square().mean() <= (5e-2) ** 2 * expected.square().mean()


@pytest.mark.usefixtures("native")
def test_large_mean_and_small_spread(random_image, block_weights):
    """Features of 100 with a spread of 0.1: a variance taken as E[x²] - E[x]² would be wrong by a tenth."""
    x, grad, weights = 100 + 0.1 * random_image((1, 16, 9, 11)), random_image((1, 16, 9, 11), seed=1), block_weights(16)
    with ops.backend("native"):
        results = value_and_gradients(ops.naf_block, x, weights, grad)
    expected = expected_in_float64(x, weights, grad)
    results[0], expected[0] = results[0].double() - x, expected[0] - x
    for name, result, wanted in zip(NAMES, results, expected, strict=True):
        assert (result - wanted).abs().max() <= 2e-3 * wanted.square().mean().sqrt(), name


@pytest.mark.usefixtures("native")
def test_results_do_not_depend_on_the_number_of_threads(random_image, block_weights):
    for shape in ((2, 16, 63, 65), (1, 64, 9, 17)):
        x, weights, grad = random_image(shape), block_weights(shape[1]), random_image(shape, seed=1)
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with ops.backend("native"):
                results.append(value_and_gradients(ops.naf_block, x, weights, grad))
        for one, other in pairwise(results):
            for name, a, b in zip(NAMES, one, other, strict=True):
                assert torch.equal(a, b), name


@pytest.mark.usefixtures("native")
def test_frames_of_a_batch_do_not_see_each_other(random_image, block_weights):
    x, weights, grad = random_image((3, 16, 7, 5)), block_weights(16), random_image((3, 16, 7, 5), seed=1)
    with ops.backend("native"):
        together = value_and_gradients(ops.naf_block, x, weights, grad)
        alone = [value_and_gradients(ops.naf_block, x[i : i + 1], weights, grad[i : i + 1]) for i in range(3)]
    for i in range(3):
        assert torch.equal(together[0][i : i + 1], alone[i][0])
        assert torch.equal(together[1][i : i + 1], alone[i][1])
    assert_near(together[2:], [sum(grads).double() for grads in zip(*alone, strict=True)][2:], NAMES[2:])


@pytest.mark.usefixtures("native")
def test_a_batch_of_none(block_weights):
    x, weights = torch.empty(0, 8, 4, 4), block_weights(8)
    with ops.backend("native"):
        results = value_and_gradients(ops.naf_block, x, weights, torch.empty(0, 8, 4, 4))
    assert results[0].shape == results[1].shape == x.shape
    assert all(not gradient.any() for gradient in results[2:])


@pytest.mark.usefixtures("native")
def test_a_new_block_is_the_identity(random_image):
    """beta and gamma start at zero. What they multiply still reaches their own gradients."""
    block, x = NAFBlock(16), random_image((1, 16, 9, 7))
    with ops.backend("native"):
        out = block(x)
        out.backward(random_image((1, 16, 9, 7), seed=1))
    assert torch.equal(out, x)
    assert block.beta.grad.all()
    assert block.gamma.grad.all()
    assert not block.conv1.weight.grad.any()


@pytest.mark.usefixtures("native")
def test_opcheck(layout, random_image, block_weights):
    x = random_image((2, 8, 7, 5), layout=layout)
    weights = block_weights(8)
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
    torch.library.opcheck(torch.ops.depthsr.naf_block.default, (*leaves, EPS))
    torch.library.opcheck(
        torch.ops.depthsr.naf_block_backward.default,
        (random_image((2, 8, 7, 5), seed=1), x, *weights, EPS),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", ["auto", "native"])
def test_compiles_whole_for_any_size(name, random_image, block_weights):
    """The fused block is one node of the graph, forward and backward: the reference would differ in the last bits."""
    weights = block_weights(8)
    torch._dynamo.reset()
    compiled = torch.compile(ops.naf_block, fullgraph=True, dynamic=True, backend="aot_eager")
    with ops.backend(name):
        for height, width in ((6, 9), (17, 12)):
            x, grad = random_image((2, 8, height, width)), random_image((2, 8, height, width), seed=1)
            results = value_and_gradients(compiled, x, weights, grad)
            for result, wanted in zip(results, value_and_gradients(ops.naf_block, x, weights, grad), strict=True):
                assert torch.equal(result, wanted)


@pytest.mark.usefixtures("native")
def test_auto_takes_the_fused_block_where_it_can(random_image, block_weights):
    weights = block_weights(8)
    with ops.backend("auto"):
        assert choice.choose("naf_block", random_image((1, 8, 2, 2)), *weights) is choice.NATIVE.functions["naf_block"]
        assert choice.choose("naf_block", random_image((1, 12, 2, 2)), *block_weights(12)) is reference.naf_block
    with ops.backend("native"), pytest.raises(RuntimeError, match="a multiple of 8 channels, not 12"):
        ops.naf_block(random_image((1, 12, 2, 2)), block_weights(12))


@pytest.mark.usefixtures("native")
def test_autocast_leaves_the_fused_block_alone(random_image, block_weights):
    x, weights = random_image((1, 8, 7, 5)), block_weights(8)
    with ops.backend("native"):
        plain = ops.naf_block(x, weights, EPS)
        with torch.autocast("cpu", torch.bfloat16):
            cast = ops.naf_block(x, weights, EPS)
    assert torch.equal(plain, cast)


def test_wrong_arguments_are_named(random_image, block_weights):
    x, weights = random_image((1, 8, 4, 4)), block_weights(8)
    for name in ("auto", "reference"):
        with ops.backend(name):
            with pytest.raises(ValueError, match="x must be B×C×H×W"):
                ops.naf_block(x[0], weights)
            with pytest.raises(ValueError, match=r"norm1_weight must have shape \(8,\) for 8 channels, not \(16,\)"):
                ops.naf_block(x, block_weights(16))
            with pytest.raises(ValueError, match=r"beta must have shape \(1, 8, 1, 1\)"):
                ops.naf_block(x, weights._replace(beta=weights.beta.flatten()))


@pytest.mark.usefixtures("native")
def test_the_op_rejects_what_the_public_function_would(random_image, block_weights):
    op, weights = torch.ops.depthsr.naf_block.default, block_weights(8)
    for x in (torch.randn(3, 8), random_image((1, 12, 2, 2)), random_image((1, 16, 2, 2))):
        with pytest.raises(RuntimeError, match="depthsr: "):
            op(x, *weights, EPS)
    with pytest.raises(RuntimeError, match="depthsr: naf_block's kernels take float32"):
        op(random_image((1, 8, 2, 2), torch.float64), *weights, EPS)


OTHER_INSTRUCTIONS = """
import sys, torch
from depthsr import ops
from depthsr.ops.reference import NAFBlockWeights

x, grad, *weights = torch.load(sys.argv[1])
leaves = [tensor.requires_grad_() for tensor in (x, *weights)]
with ops.backend("native"):
    out = ops.naf_block(x, NAFBlockWeights(*weights), float(sys.argv[3]))
torch.save([out.detach(), *torch.autograd.grad(out, leaves, grad)], sys.argv[2])
"""


def run_with_instructions(name: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """OTHER_INSTRUCTIONS in `folder`: from a checkout Python would import that package, not the installed one."""
    command = [sys.executable, "-c", OTHER_INSTRUCTIONS, *map(str, arguments)]
    return subprocess.run(command, env=os.environ | {"DEPTHSR_ISA": name}, cwd=folder, capture_output=True, text=True)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_portable_kernels(dtype, tmp_path, random_image, block_weights):
    """What processors without AVX2 run."""
    x, grad, weights = (
        random_image((2, 24, 13, 31), dtype),
        random_image((2, 24, 13, 31), dtype, seed=1),
        block_weights(24),
    )
    torch.save([x, grad, *weights], tmp_path / "inputs.pt")
    done = run_with_instructions("portable", tmp_path, tmp_path / "inputs.pt", tmp_path / "results.pt", EPS)
    assert done.returncode == 0, done.stderr
    assert_near(torch.load(tmp_path / "results.pt"), expected_in_float64(x, weights, grad))


@pytest.mark.usefixtures("native")
def test_instructions_that_do_not_exist(tmp_path, random_image, block_weights):
    torch.save([random_image((1, 8, 2, 2)), random_image((1, 8, 2, 2)), *block_weights(8)], tmp_path / "inputs.pt")
    done = run_with_instructions("mmx", tmp_path, tmp_path / "inputs.pt", tmp_path / "results.pt", EPS)
    assert "DEPTHSR_ISA is 'mmx'; set it to one of auto, " in done.stderr


@pytest.mark.usefixtures("native")
def test_an_exception_inside_a_parallel_loop_keeps_its_message(tmp_path):
    """torch's loop passes exceptions through a C interface; this op asks for its instructions inside of one."""
    program = (
        "import torch; from depthsr import ops\n"
        "x, guide = torch.rand(1, 1, 4, 4), torch.rand(1, 3, 4, 4)\n"
        "with ops.backend('native'): ops.joint_bilateral_upsample(x, x, guide, guide)"
    )
    environment = os.environ | {"DEPTHSR_ISA": "mmx"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "DEPTHSR_ISA is 'mmx'; set it to one of auto, " in done.stderr
