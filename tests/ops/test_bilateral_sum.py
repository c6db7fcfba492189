"""bilateral_sum: the reference against its formula and its adjoint, native code and a GPU's Triton against the
reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from depthsr import ops
from depthsr.ops import choice, reference

SIZES = [(1, 1), (1, 130), (33, 1), (7, 5), (9, 64), (63, 65)]


@pytest.fixture
def frame(laid_out) -> Callable[..., list[Tensor]]:
    """Maps, and guides of a few colours with some noise."""

    def make(size: tuple[int, int], channels: int = 2, dtype=torch.float32, layout="contiguous") -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = 1 + torch.rand(2, channels, *size, generator=generator)
        blocks = (3 * torch.rand(2, 3, *((side + 2) // 3 for side in size), generator=generator)).round() / 6
        guide = torch.nn.functional.interpolate(blocks, scale_factor=3)[..., : size[0], : size[1]]
        guide = guide + 0.1 * torch.rand(2, 3, *size, generator=generator)
        return [laid_out(tensor.to(dtype), layout) for tensor in (x, guide)]

    return make


def test_the_reference_is_its_formula(frame):
    x, guide = (tensor.double() for tensor in frame((11, 13)))
    out = reference.bilateral_sum(x, guide)
    reach = reference.BILATERAL_REACH
    for row, column in ((0, 0), (5, 6), (10, 3), (9, 12)):
        expected = torch.zeros(2, 2, dtype=torch.float64)
        for v in range(max(row - reach, 0), min(row + reach, 10) + 1):
            for u in range(max(column - reach, 0), min(column + reach, 12) + 1):
                near = math.exp(-((v - row) ** 2 + (u - column) ** 2) / (2 * reference.BILATERAL_SIGMA_SPACE**2))
                apart = (guide[:, :, v, u] - guide[:, :, row, column]).square().sum(1)
                alike = (1 - apart / (4 * reference.BILATERAL_SIGMA_COLOUR) ** 2).clamp(min=0) ** 8
                expected += near * (alike + reference.FLOOR)[:, None] * x[:, :, v, u]
        torch.testing.assert_close(out[:, :, row, column], expected)


def test_it_is_its_own_adjoint(frame):
    x, guide = frame((9, 14), dtype=torch.float64)
    y = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inner = [(a * reference.bilateral_sum(b, guide)).sum() for a, b in ((x, y), (y, x))]
    torch.testing.assert_close(*inner)


def test_gradient(frame):
    x, guide = frame((4, 5), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: reference.bilateral_sum(x, guide), (x.requires_grad_(),))


def test_colours_that_are_far_apart_keep_to_themselves():
    guide = torch.zeros(1, 3, 6, 20)
    guide[..., 10:] = 0.5
    x = torch.where(guide[:, :1] > 0, 7.0, 3.0)
    mean = ops.bilateral_sum(x, guide) / ops.bilateral_sum(torch.ones_like(x), guide)
    torch.testing.assert_close(mean, x, rtol=2e-4, atol=0)


@pytest.mark.usefixtures("native", "poisoned_memory")
class TestNative:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_values(self, size, channels, dtype, layout, close, frame):
        x, guide = frame(size, channels, dtype, layout)
        with ops.backend("native"):
            out = ops.bilateral_sum(x, guide)
        assert (out.dtype, out.is_contiguous()) == (dtype, True)
        close(out, reference.bilateral_sum(x.double(), guide.double()))

    def test_gradient(self, close, layout, frame):
        x, guide = frame((13, 21), layout=layout)
        grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        with ops.backend("native"):
            leaf = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(ops.bilateral_sum(leaf, guide), leaf, grad)
        leaf = x.double().requires_grad_()
        (expected,) = torch.autograd.grad(reference.bilateral_sum(leaf, guide.double()), leaf, grad.double())
        close(gradient, expected)

    def test_results_do_not_depend_on_the_number_of_threads(self, layout, frame):
        """The ranges of rows begin anywhere, also within the first sample and end in the second."""
        results, before = [], torch.get_num_threads()
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with ops.backend("native"):
                results.append(ops.bilateral_sum(*frame((70, 250), 3, layout=layout)))
        torch.set_num_threads(before)
        assert torch.equal(*results)

    def test_empty(self):
        with ops.backend("native"):
            assert ops.bilateral_sum(torch.empty(0, 2, 4, 5), torch.empty(0, 3, 4, 5)).shape == (0, 2, 4, 5)
            assert ops.bilateral_sum(torch.empty(1, 0, 4, 5), torch.empty(1, 3, 4, 5)).shape == (1, 0, 4, 5)
            assert ops.bilateral_sum(torch.empty(1, 2, 0, 5), torch.empty(1, 3, 0, 5)).shape == (1, 2, 0, 5)

    def test_opcheck(self, layout, frame):
        x, guide = frame((9, 11), layout=layout)
        torch.library.opcheck(torch.ops.depthsr.bilateral_sum.default, (x.requires_grad_(), guide))

    def test_rejects_what_the_public_function_would(self, frame):
        x, guide = frame((9, 11))
        for tensors in ((x[0], guide), (x, guide[:1]), (x, guide[:, :2]), (x, guide[..., 1:]), (x.double(), guide)):
            with pytest.raises(RuntimeError, match="depthsr: "):
                torch.ops.depthsr.bilateral_sum(*tensors)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("size", SIZES)
def test_triton_on_a_gpu(size, dtype, layout, close, frame):
    x, guide = frame(size, 3, dtype, layout)
    with ops.backend("triton"):
        leaf = x.cuda().requires_grad_()
        out = ops.bilateral_sum(leaf, guide.cuda())
        (gradient,) = torch.autograd.grad(out, leaf, x.cuda())
    expected = reference.bilateral_sum(x.double(), guide.double())
    close(out.cpu(), expected)
    close(gradient.cpu(), expected, "gradient")  # of the maps themselves: it is its own adjoint


@pytest.mark.parametrize("name", ["reference", "native"])
def test_compiles_whole(name, request, close, frame):
    if name == "native":
        request.getfixturevalue("native")
    torch._dynamo.reset()
    compiled = torch.compile(ops.bilateral_sum, fullgraph=True, dynamic=True, backend="aot_eager")
    with ops.backend(name):
        for size in ((12, 17), (9, 31)):
            x, guide = frame(size)
            close(compiled(x, guide), reference.bilateral_sum(x.double(), guide.double()))


def test_exports_to_torchs_own_operators(native, frame):
    class Sum(torch.nn.Module):
        def forward(self, x, guide):
            return ops.bilateral_sum(x, guide)

    tensors = frame((12, 17))
    with ops.backend("native"):
        assert choice.choose("bilateral_sum", *tensors) is torch.ops.depthsr.bilateral_sum.default
        program = torch.export.export(Sum(), tuple(tensors))
    assert not [node for node in program.graph.nodes if "depthsr" in str(node.target)]
    torch.testing.assert_close(program.module()(*tensors), reference.bilateral_sum(*tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, guide: (x[0], guide), "x must be B×C×H×W, but has shape"),
        (lambda x, guide: (x, guide.byte()), r"guide must be of a floating-point type, but is torch\.uint8"),
        (lambda x, guide: (x, guide[:, :1]), "guide must be 2×3×7×5, as x, but has shape"),
        (lambda x, guide: (x, guide[..., 1:]), "guide must be 2×3×7×5, as x, but has shape"),
    ],
)
def test_wrong_arguments_are_named(change, message, frame):
    for name in ("auto", "reference"):
        with ops.backend(name), pytest.raises(ValueError, match=message):
            ops.bilateral_sum(*change(*frame((7, 5))))
