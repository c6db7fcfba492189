"""fill_holes and surrounding_measurements: the reference against what they are to do, native code and a GPU's Triton
against the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from depthsr import ops
from depthsr.ops import choice, reference

#: Size of the measurement, of the result, and what share is measured.
FRAMES = [
    ((6, 8), (48, 64), 0.7),
    ((13, 9), (61, 47), 0.2),  # factors that are no whole numbers
    ((14, 10), (35, 25), 0.5),  # fine pixels halfway between two coarse ones
    ((5, 1), (33, 1), 0.5),
    ((1, 300), (1, 130), 0.004),  # shrinking; holes wider than the reach
    ((20, 21), (20, 21), 1.0),
    ((9, 7), (9, 7), 0.0),
    ((1, 1), (7, 6), 0.0),
    ((1, 1), (1, 1), 1.0),
]


def measurement(low: tuple[int, int], measured: float, dtype=torch.float32, layout="contiguous") -> list[Tensor]:
    """Two maps of 1 to 5, NaN in their holes, and which of them is measured: in neither sample the same."""
    generator = torch.Generator().manual_seed(0)
    valid = torch.rand(2, 1, *low, generator=generator) < measured
    x = torch.where(valid, 1 + 4 * torch.rand(2, 1, *low, generator=generator), torch.nan)
    return [_laid_out(x.to(dtype), layout), _laid_out(valid, layout)]


def _laid_out(tensor: Tensor, layout: str) -> Tensor:
    if layout == "contiguous":
        return tensor
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = tensor.shape
    view = torch.ones((batch, channels + 1, height + 2, 2 * width), dtype=tensor.dtype)
    return view[:, 1:, 1:-1, ::2].copy_(tensor)


def filled_measurement(low: tuple[int, int], measured: float, dtype=torch.float32, layout="contiguous") -> list[Tensor]:
    x, valid = measurement(low, measured, torch.float32, layout)
    return [_laid_out(reference.fill_holes(x, valid).to(dtype), layout), valid]


# --- the reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (33, 64)])
def test_filling_keeps_what_is_valid_and_stays_between_the_valid_values(size):
    x = torch.rand(2, 1, *size)
    valid = torch.rand_like(x) > 0.6
    valid[..., 0, 0] = True
    filled = reference.fill_holes(torch.where(valid, x, torch.nan), valid)
    torch.testing.assert_close(filled[valid], x[valid], rtol=0, atol=0)
    for sample in range(2):
        low, high = x[sample][valid[sample]].aminmax()
        assert filled[sample].min() >= low - 1e-6
        assert filled[sample].max() <= high + 1e-6


def test_a_constant_is_filled_with_itself():
    valid = torch.rand(1, 1, 31, 17) > 0.9
    valid[..., 3, 3] = True
    filled = reference.fill_holes(torch.where(valid, 2.5, torch.nan), valid)
    torch.testing.assert_close(filled, torch.full_like(filled, 2.5))


@pytest.mark.parametrize(
    ("size", "measured"), [((13, 9), 0.25), ((4, 33), 0.1), ((1, 7), 0.5), ((1, 1), 0.5), ((3, 300), 0.004)]
)
def test_holes_look_for_the_next_measurement_in_each_direction(size, measured):
    torch.manual_seed(0)
    x, valid = torch.rand(2, 1, *size) + 0.1, torch.rand(2, 1, *size) < measured
    expected = x.repeat(1, 9, 1, 1)
    for sample, _, row, column in (~valid).nonzero().tolist():
        for i, (down, right) in enumerate(reference.DIRECTIONS):
            for distance in range(1, reference.REACH_OVER_HOLES):
                y, z = row + distance * down, column + distance * right
                if 0 <= y < size[0] and 0 <= z < size[1] and valid[sample, 0, y, z]:
                    expected[sample, i, row, column] = x[sample, 0, y, z]
                    break
    torch.testing.assert_close(reference.measured_towards(x, valid), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("factor", "spacing"), [((1, 1), (4, 4)), ((2, 2), (2, 2)), ((3, 3), (1, 1)), ((8, 8), (1, 1)), ((1, 2), (4, 2))]
)
def test_surrounding_measurements_are_3x3_of_which_the_next_lie_four_fine_pixels_away(factor, spacing):
    x, _ = measurement((9, 11), 1.0)
    size = 9 * factor[0], 11 * factor[1]
    found = reference.surrounding_measurements(x, torch.ones_like(x, dtype=torch.bool), size)
    down, right = spacing
    padded = torch.nn.functional.pad(x, (right, right, down, down), mode="replicate")
    places = [(i, j) for i in (0, down, 2 * down) for j in (0, right, 2 * right)]
    expected = torch.cat([padded[..., i : i + 9, j : j + 11] for i, j in places], 1)
    torch.testing.assert_close(
        found, expected.repeat_interleave(factor[0], 2).repeat_interleave(factor[1], 3), rtol=0, atol=0
    )


def test_surrounding_measurements_reach_over_holes():
    """A hole two columns wide in the middle row: from its left column, the surface on its right is the candidate."""
    x, _ = measurement((5, 6), 1.0)
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[0, 0, 2, 2:4] = False
    at_hole = reference.surrounding_measurements(x, valid, (20, 24))[0, :, 10, 10]
    assert at_hole[3:6].tolist() == [x[0, 0, 2, 1].item(), x[0, 0, 2, 2].item(), x[0, 0, 2, 4].item()]


@pytest.mark.parametrize("fine", [1, 7, 64])
def test_spacing_is_the_nearest_whole_number_and_at_least_one(fine):
    for coarse in range(1, fine + 1):
        exact = reference.SPACING_PX * coarse / fine
        assert reference.coarse_spacing(coarse, fine) == max(1, int(exact + 0.5))


def test_gradients():
    """The reference's, by finite differences; `auto` takes it where one is wanted."""
    x, valid = measurement((3, 4), 0.6)
    x = torch.where(valid, x, 0.0).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.fill_holes(x, valid), (x,))
    assert torch.autograd.gradcheck(lambda x: ops.surrounding_measurements(x.abs() + 1, valid, (7, 5)), (x,))


# --- native ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("native", "poisoned_memory")
class TestNative:
    @pytest.mark.parametrize(("low", "size", "measured"), FRAMES)
    def test_fill_holes(self, low, size, measured, dtype, layout, close):
        x, valid = measurement(low, measured, dtype, layout)
        with ops.backend("native"):
            out = ops.fill_holes(x, valid)
        assert (out.dtype, out.is_contiguous()) == (dtype, True)
        close(out, reference.fill_holes(x.double(), valid))

    @pytest.mark.parametrize(("low", "size", "measured"), FRAMES)
    def test_surrounding_measurements(self, low, size, measured, dtype, layout):
        x, valid = filled_measurement(low, measured, dtype, layout)
        with ops.backend("native"):
            out = ops.surrounding_measurements(x, valid, size)
        assert (out.dtype, out.is_contiguous()) == (dtype, True)
        assert torch.equal(out, reference.surrounding_measurements(x, valid, size))

    def test_results_do_not_depend_on_the_number_of_threads(self):
        (x, valid), before, results = filled_measurement((31, 40), 0.3), torch.get_num_threads(), []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with ops.backend("native"):
                results.append((ops.fill_holes(x, valid), ops.surrounding_measurements(x, valid, (64, 90))))
        torch.set_num_threads(before)
        for one, three in zip(*results, strict=True):
            assert torch.equal(one, three)

    def test_no_samples(self):
        x, valid = (tensor[:0] for tensor in measurement((3, 4), 0.5))
        with ops.backend("native"):
            assert ops.fill_holes(x, valid).shape == (0, 1, 3, 4)
            assert ops.surrounding_measurements(x, valid, (5, 6)).shape == (0, 9, 5, 6)

    def test_opcheck(self, layout):
        x, valid = filled_measurement((5, 4), 0.5, layout=layout)
        torch.library.opcheck(torch.ops.depthsr.fill_holes.default, (x, valid))
        torch.library.opcheck(torch.ops.depthsr.surrounding_measurements.default, (x, valid, 9, 11))

    def test_have_no_gradient_of_their_own(self):
        x, valid = filled_measurement((5, 4), 0.5)
        for op, *rest in (("fill_holes",), ("surrounding_measurements", 9, 11)):
            out = getattr(torch.ops.depthsr, op)(x.requires_grad_(), valid, *rest)
            with pytest.raises(NotImplementedError, match=f"this kernel of {op} has no gradient"):
                out.sum().backward()
            assert choice.choose(op, x) is getattr(reference, op)
            with ops.backend("native"), pytest.raises(RuntimeError, match=f"the native {op} has no gradient"):
                choice.choose(op, x)

    @pytest.mark.parametrize("op", ["fill_holes", "surrounding_measurements"])
    def test_reject_what_the_public_functions_would(self, op):
        x, valid = measurement((5, 4), 0.5)
        rest = () if op == "fill_holes" else (9, 11)
        for tensors in ((x[0], valid), (x, valid[:1]), (x, valid.float()), (x.repeat(1, 2, 1, 1), valid),
                        (x[..., :0], valid[..., :0]), (x.double(), valid)):  # fmt: skip
            with pytest.raises(RuntimeError, match="depthsr: "):
                getattr(torch.ops.depthsr, op)(*tensors, *rest)
        with pytest.raises(RuntimeError, match="must be positive"):
            torch.ops.depthsr.surrounding_measurements(x, valid, 0, 4)


# --- a GPU -----------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize(("low", "size", "measured"), FRAMES)
def test_triton_on_a_gpu(low, size, measured, dtype, layout, close):
    x, valid = measurement(low, measured, dtype, layout)
    filled, _ = filled_measurement(low, measured, dtype, layout)
    with ops.backend("triton"):
        out = ops.fill_holes(x.cuda(), valid.cuda())
        around = ops.surrounding_measurements(filled.cuda(), valid.cuda(), size)
    close(out.cpu(), reference.fill_holes(x.double(), valid))
    assert torch.equal(around.cpu(), reference.surrounding_measurements(filled, valid, size))


# --- compiled, exported, wrong arguments -----------------------------------------------------------------------------


def prepared(x: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    return ops.surrounding_measurements(ops.fill_holes(x, valid), valid, size)


@pytest.mark.parametrize("name", ["auto", "native"])
def test_compile_whole(name, request):
    if name == "native":
        request.getfixturevalue("native")
    torch._dynamo.reset()
    compiled = torch.compile(prepared, fullgraph=True, dynamic=True, backend="aot_eager")
    with ops.backend(name):
        for low, size, measured in FRAMES[:3]:
            x, valid = measurement(low, measured)
            expected = reference.surrounding_measurements(reference.fill_holes(x, valid), valid, size)
            torch.testing.assert_close(compiled(x, valid, size), expected)


def test_export_to_torchs_own_operators(native):
    class Prepare(torch.nn.Module):
        def forward(self, x: Tensor, valid: Tensor) -> Tensor:
            return prepared(x, valid, (48, 65))

    x, valid = measurement((6, 8), 0.6)
    with ops.backend("native"):
        program = torch.export.export(Prepare(), (x, valid))
    assert not [node for node in program.graph.nodes if "depthsr" in str(node.target)]
    torch.testing.assert_close(program.module()(x, valid), prepared(x, valid, (48, 65)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, valid: (x[0], valid), "x must be B×C×H×W, but has shape"),
        (lambda x, valid: (x.long(), valid), r"x must be of a floating-point type, but is torch\.int64"),
        (lambda x, valid: (x.repeat(1, 2, 1, 1), valid), "x must have one channel, and pixels"),
        (lambda x, valid: (x[..., :0], valid), "x must have one channel, and pixels"),
        (lambda x, valid: (x, valid[..., 1:]), r"valid must be bool and have x's shape \(2, 1, 5, 4\)"),
        (lambda x, valid: (x, valid.float()), r"but is torch\.float32"),
    ],
)
@pytest.mark.parametrize("op", [ops.fill_holes, lambda x, valid: ops.surrounding_measurements(x, valid, (9, 8))])
def test_wrong_arguments_are_named(op: Callable[..., Tensor], change, message):
    for name in ("auto", "reference"):
        with ops.backend(name), pytest.raises(ValueError, match=message):
            op(*change(*measurement((5, 4), 0.5)))


def test_a_size_must_have_pixels():
    with pytest.raises(ValueError, match=r"size must be a height and a width, both at least 1, not \(0, 8\)"):
        ops.surrounding_measurements(*filled_measurement((5, 4), 0.5), (0, 8))
