"""fit_lines: the reference against weighted least squares cell by cell; native code, and a GPU's Triton, which
interpreted_triton.py tests on the CPU, against the reference."""

from __future__ import annotations

import pytest
import torch

from depthsr import ops
from depthsr.ops import reference

SIZES = [(1, 1), (2, 3), (7, 5), (13, 40)]
WINDOWS = [1, 5, 15]


@pytest.mark.parametrize("window", [1, 3, 5])
def test_reference_is_weighted_least_squares(cells_of_lines, window):
    """One frame's moments by a design matrix of the window's cells and, with the share's weight, all cells."""
    relative, inverse, deviation, open_end = cells_of_lines((4, 6), dtype=torch.float64)
    scale, offset = reference.fit_lines(relative, inverse, deviation, open_end, window)
    height, width, reach = 4, 6, window // 2
    for frame in range(2):
        x, y, d, bound = (tensor[frame, 0] for tensor in (relative, inverse, deviation, open_end))
        trust = torch.where(bound, 0.02, 1.0).double()
        for _ in range(reference.ROUNDS):
            lines = torch.empty(height, width, 2, dtype=torch.float64)
            for row in range(height):
                for column in range(width):
                    near = [
                        (min(max(row + i, 0), height - 1), min(max(column + j, 0), width - 1))
                        for i in range(-reach, reach + 1)
                        for j in range(-reach, reach + 1)
                    ]
                    everywhere = [(i, j) for i in range(height) for j in range(width)]
                    share = reference.WHOLE_FRAME * len(near) / len(everywhere)
                    points = [(at, 1.0) for at in near] + [(at, share) for at in everywhere]
                    w = torch.stack([trust[at] / d[at] * count for at, count in points])
                    a = torch.stack([torch.stack([x[at], torch.ones(()).double()]) for at, _ in points])
                    b = torch.stack([y[at] for at, _ in points])
                    # LEAST_VARIANCE: as a ridge on the slope, about the mean.
                    mean = (w[:, None] * a).sum(0) / w.sum()
                    spread = (w * (a[:, 0] - mean[0]).square()).sum() / w.sum() + reference.LEAST_VARIANCE
                    slope = ((w * (a[:, 0] - mean[0]) * b).sum() / w.sum() / spread).clamp(min=0)
                    lines[row, column] = torch.stack([slope, (w * b).sum() / w.sum() - slope * mean[0]])
            fitted = lines[..., 0] * x + lines[..., 1]
            trust = 1 / (1 + ((fitted - y) / (2 * d)).square())
            trust = torch.where(bound & (fitted <= y), 0.02, trust)
        torch.testing.assert_close(scale[frame, 0], lines[..., 0], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(offset[frame, 0], lines[..., 1], rtol=1e-8, atol=1e-8)


def test_an_exact_line_is_found_despite_cells_far_off_it(cells_of_lines):
    relative, _, deviation, open_end = cells_of_lines((20, 20), dtype=torch.float64)
    inverse = 3 * relative + 0.5
    inverse[:, :, ::4, ::4] *= 5
    scale, offset = reference.fit_lines(relative, inverse, 0.1 * deviation, open_end & False, 9)
    torch.testing.assert_close(scale, torch.full_like(scale, 3), rtol=0.02, atol=0)
    torch.testing.assert_close(offset, torch.full_like(offset, 0.5), rtol=0, atol=0.02)


@pytest.mark.usefixtures("native", "poisoned_memory")
class TestNative:
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("size", SIZES)
    def test_values(self, size, window, dtype, cells_of_lines, close_lines):
        arguments = cells_of_lines(size, dtype=dtype)
        with ops.backend("native"):
            results = ops.fit_lines(*arguments, window)
        close_lines(results, arguments, window)

    def test_opcheck(self, cells_of_lines):
        torch.library.opcheck(torch.ops.depthsr.fit_lines.default, (*cells_of_lines((5, 4)), 5))

    def test_has_no_gradient(self, cells_of_lines):
        arguments = cells_of_lines((5, 4))
        arguments[0].requires_grad_()
        with ops.backend("native"), pytest.raises(RuntimeError, match="has no gradient"):
            ops.fit_lines(*arguments, 5)

    @pytest.mark.parametrize("number", range(4))
    def test_rejects_what_the_public_function_would(self, number, cells_of_lines):
        arguments = cells_of_lines((5, 4))
        arguments[number] = arguments[number][..., 1:]
        with pytest.raises(RuntimeError, match="depthsr: "):
            torch.ops.depthsr.fit_lines(*arguments, 5)
        with pytest.raises(RuntimeError, match="depthsr: window must be odd"):
            torch.ops.depthsr.fit_lines(*cells_of_lines((5, 4)), 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [*SIZES, (60, 80)])
def test_triton_on_a_gpu(size, window, cells_of_lines, close_lines):
    arguments = cells_of_lines(size)
    with ops.backend("triton"):
        results = ops.fit_lines(*(tensor.cuda() for tensor in arguments), window)
    close_lines(tuple(result.cpu() for result in results), arguments, window)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, lambda relative: relative.repeat(1, 2, 1, 1), "relative must have one channel"),
        (1, lambda inverse: inverse[..., 1:], r"inverse must have relative's shape \(2, 1, 4, 6\)"),
        (2, lambda deviation: deviation.long(), "deviation must be of a floating-point type"),
        (3, lambda open_end: open_end.float(), "open_end must be bool and have relative's shape"),
    ],
)
def test_bad_input_is_named(number, change, message, cells_of_lines):
    arguments = cells_of_lines((4, 6))
    arguments[number] = change(arguments[number])
    with pytest.raises(ValueError, match=message):
        ops.fit_lines(*arguments, 5)


@pytest.mark.parametrize("window", [0, 4, -1])
def test_the_window_has_a_middle(window, cells_of_lines):
    with pytest.raises(ValueError, match=f"window must be odd and at least 1, not {window}"):
        ops.fit_lines(*cells_of_lines((4, 6)), window)
