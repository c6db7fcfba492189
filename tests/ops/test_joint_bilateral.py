"""Joint bilateral upsampling in native code against the reference, and where the reference takes its place.

That the reference is the formula is tested in tests/models/test_guided_upsample.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from depthsr import ops
from depthsr.ops import choice, reference

SIZES = [
    ((6, 8), (48, 64)),
    ((13, 9), (61, 47)),  # factors that are no whole numbers
    ((5, 1), (33, 1)),
    ((1, 17), (1, 130)),
    ((20, 21), (20, 21)),
    ((13, 11), (9, 8)),  # shrinking
    ((1, 1), (7, 6)),
    ((1, 1), (1, 1)),
]


@pytest.fixture
def frame(laid_out) -> Callable[..., list[Tensor]]:
    """Two depth maps of 1 to 5, their confidences, guides of a few colours and some noise, the guides' colours at low
    size.
    """

    def make(low: tuple[int, int], size: tuple[int, int], dtype=torch.float32, layout="contiguous") -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = 1 + 4 * torch.rand(2, 1, *low, generator=generator)
        confidence = torch.where(torch.rand(2, 1, *low, generator=generator) > 0.3, 1.0, 0.003)
        coarse_guide = (3 * torch.rand(2, 3, *low, generator=generator)).round() / 3
        nearest = torch.nn.functional.interpolate(coarse_guide, size=size)
        guide = (nearest + 0.1 * torch.rand(2, 3, *size, generator=generator)).clamp(0, 1)
        return [laid_out(tensor.to(dtype), layout) for tensor in (x, confidence, guide, coarse_guide)]

    return make


@pytest.mark.usefixtures("native", "poisoned_memory")
class TestNative:
    @pytest.mark.parametrize(("low", "size"), SIZES)
    def test_values(self, low, size, dtype, layout, close, frame):
        tensors = frame(low, size, dtype, layout)
        with ops.backend("native"):
            out = ops.joint_bilateral_upsample(*tensors)
        assert (out.dtype, out.is_contiguous()) == (dtype, True)
        close(out, reference.joint_bilateral_upsample(*(tensor.double() for tensor in tensors)))

    def test_fine_pixels_halfway_between_two_coarse_ones(self, close, frame):
        """Which of them the window is around does not depend on the arithmetic's type."""
        tensors = frame((14, 10), (35, 25))
        with ops.backend("native"):
            out = ops.joint_bilateral_upsample(*tensors)
        close(out, reference.joint_bilateral_upsample(*(tensor.double() for tensor in tensors)))

    def test_types_may_differ(self, close, frame):
        x, confidence, guide, coarse_guide = frame((5, 6), (21, 19))
        mixed = x.half(), confidence, guide, coarse_guide.bfloat16()
        with ops.backend("native"):
            out = ops.joint_bilateral_upsample(*mixed)
        close(out, reference.joint_bilateral_upsample(*(tensor.double() for tensor in mixed)))

    def test_results_do_not_depend_on_the_number_of_threads(self, layout, frame):
        """The ranges of rows begin anywhere, also within the first sample and end in the second."""
        results, before = [], torch.get_num_threads()
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with ops.backend("native"):
                results.append(ops.joint_bilateral_upsample(*frame((9, 31), (70, 250), layout=layout)))
        torch.set_num_threads(before)
        assert torch.equal(*results)

    def test_no_samples(self, frame):
        tensors = [tensor[:0] for tensor in frame((3, 4), (6, 8))]
        with ops.backend("native"):
            assert ops.joint_bilateral_upsample(*tensors).shape == (0, 1, 6, 8)

    def test_opcheck(self, layout, frame):
        op = torch.ops.depthsr.joint_bilateral_upsample.default
        torch.library.opcheck(op, frame((5, 4), (11, 9), layout=layout))

    def test_the_op_itself_has_no_gradient(self, frame):
        x, *others = frame((5, 4), (11, 9))
        out = torch.ops.depthsr.joint_bilateral_upsample(x.requires_grad_(), *others)
        with pytest.raises(NotImplementedError, match="has no gradient"):
            out.sum().backward()

    def test_auto_takes_the_reference_where_a_gradient_is_wanted(self, frame):
        tensors = frame((5, 4), (11, 9))
        op = "joint_bilateral_upsample"
        with ops.backend("auto"):
            assert choice.choose(op, *tensors) is torch.ops.depthsr.joint_bilateral_upsample.default
            tensors[2].requires_grad_()
            assert choice.choose(op, *tensors) is reference.joint_bilateral_upsample
            with torch.no_grad():
                assert choice.choose(op, *tensors) is torch.ops.depthsr.joint_bilateral_upsample.default
        with ops.backend("native"), pytest.raises(RuntimeError, match="has no gradient"):
            ops.joint_bilateral_upsample(*tensors)

    def test_rejects_what_the_public_function_would(self, frame):
        op = torch.ops.depthsr.joint_bilateral_upsample
        x, confidence, guide, coarse_guide = frame((5, 4), (11, 9))
        for tensors in (
            (x[0], confidence, guide, coarse_guide),
            (x, confidence[:1], guide, coarse_guide),
            (x, confidence[..., 1:], guide, coarse_guide),
            (x, confidence, guide[:1], coarse_guide),
            (x, confidence, guide[:, :2], coarse_guide),
            (x, confidence, guide, coarse_guide[..., 1:]),
            (x, confidence, guide[..., :0], coarse_guide),
            (x[..., :0], confidence[..., :0], guide, coarse_guide[..., :0]),
            (x.double(), confidence, guide, coarse_guide),
        ):
            with pytest.raises(RuntimeError, match="depthsr: "):
                op(*tensors)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize(("low", "size"), SIZES)
def test_triton_on_a_gpu(low, size, dtype, layout, close, frame):
    tensors = frame(low, size, dtype, layout)
    with ops.backend("triton"):
        out = ops.joint_bilateral_upsample(*(tensor.cuda() for tensor in tensors))
    close(out.cpu(), reference.joint_bilateral_upsample(*(tensor.double() for tensor in tensors)))


def test_gradient(frame):
    """The reference's, by finite differences."""
    tensors = [tensor.double().requires_grad_() for tensor in frame((2, 3), (5, 4))]
    assert torch.autograd.gradcheck(ops.joint_bilateral_upsample, tensors)


@pytest.mark.parametrize("name", ["auto", "native"])
def test_compiles_whole(name, request, close, frame):
    if name == "native":
        request.getfixturevalue("native")
    torch._dynamo.reset()
    compiled = torch.compile(ops.joint_bilateral_upsample, fullgraph=True, dynamic=True, backend="aot_eager")
    with ops.backend(name):
        for low, size in (((6, 8), (48, 65)), ((13, 9), (61, 47))):
            tensors = frame(low, size)
            close(compiled(*tensors), reference.joint_bilateral_upsample(*(tensor.double() for tensor in tensors)))


def test_exports_to_torchs_own_operators(native, frame):
    class Upsample(torch.nn.Module):
        def forward(self, x, confidence, guide, coarse_guide):
            return ops.joint_bilateral_upsample(x, confidence, guide, coarse_guide)

    tensors = frame((6, 8), (48, 65))
    with ops.backend("native"):
        program = torch.export.export(Upsample(), tuple(tensors))
    assert not [node for node in program.graph.nodes if "depthsr" in str(node.target)]
    torch.testing.assert_close(program.module()(*tensors), reference.joint_bilateral_upsample(*tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, sure, guide, low: (x[0], sure, guide, low), "x must be B×C×H×W, but has shape"),
        (lambda x, sure, guide, low: (guide, sure, guide, low), "x must be 2×1×H×W, but has shape"),
        (lambda x, sure, guide, low: (x, sure, guide[:1], low), "^guide must be 2×3×H×W"),
        (lambda x, sure, guide, low: (x, sure, guide, low[:, :1]), "coarse guide must be 2×3×H×W"),
        (
            lambda x, sure, guide, low: (x, sure, guide.byte(), low),
            r"guide must be of a floating-point type, but is torch\.uint8",
        ),
        (lambda x, sure, guide, low: (x, guide, guide, low), "confidence must be 2×1×H×W"),
        (
            lambda x, sure, guide, low: (x, sure[..., 1:], guide, low),
            r"the confidence must have x's size \(5, 4\), not \(5, 3\)",
        ),
        (
            lambda x, sure, guide, low: (x, sure, guide, low[..., 1:]),
            r"the coarse guide must have x's size \(5, 4\), not \(5, 3\)",
        ),
        (lambda x, sure, guide, low: (x, sure, guide[..., :0], low), "guide must have pixels"),
    ],
)
def test_wrong_arguments_are_named(change, message, frame):
    for name in ("auto", "reference"):
        with ops.backend(name), pytest.raises(ValueError, match=message):
            ops.joint_bilateral_upsample(*change(*frame((5, 4), (11, 9))))
