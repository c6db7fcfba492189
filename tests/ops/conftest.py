"""Inputs, tolerances and the comparison that the ops' tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from depthsr.ops import reference
from depthsr.ops.reference import NAFBlockWeights

#: How far a result may lie from the reference in float64, given the same (already rounded) input: a multiple of the
#: storage type's machine epsilon (2^-23, 2^-10, 2^-7), relative to the value and to the root mean square of all values.
#: One rounding of the result costs 0.5; the rest is float32 sums of up to some thousand terms (the first entry), and
#: for half precision the same arithmetic, whose errors are then far below one rounding.
TOLERANCE_EPSILONS = {torch.float32: 64.0, torch.float16: 1.0, torch.bfloat16: 1.0}


def _close(result: Tensor, expected: Tensor, what: str = "value") -> None:
    tolerance = TOLERANCE_EPSILONS[result.dtype] * torch.finfo(result.dtype).eps
    expected = expected.double()
    scale = expected.square().mean().sqrt().item() if expected.numel() else 0.0
    torch.testing.assert_close(
        result.double(), expected, rtol=tolerance, atol=tolerance * scale, msg=lambda text: f"{what}: {text}"
    )


@pytest.fixture
def close() -> Callable[..., None]:
    """close(result, expected in float64, what): equal within the tolerance of the result's type."""
    return _close


def _laid_out(values: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        batch, channels, height, width = values.shape
        buffer = torch.full((batch, channels + 1, height + 2, 2 * width), torch.nan, dtype=values.dtype)
        return buffer[:, 1:, 1:-1, ::2].copy_(values)
    return values


@pytest.fixture
def laid_out() -> Callable[[Tensor, str], Tensor]:
    """laid_out(values, layout): "strided" is a view that is dense in no layout, with NaN around its values."""
    return _laid_out


@pytest.fixture
def random_image() -> Callable[..., Tensor]:
    """random_image(shape, dtype, layout, seed): normal values, laid out."""

    def make(shape: tuple[int, int, int, int], dtype=torch.float32, layout="contiguous", seed=0) -> Tensor:
        return _laid_out(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype), layout)

    return make


@pytest.fixture
def cells_of_lines() -> Callable[..., list[Tensor]]:
    """cells_of_lines(size, dtype): fit_lines' relative, inverse, deviation and open_end, of two frames: a line that
    bends, noise, and cells far off it.
    """

    def make(size: tuple[int, int], dtype=torch.float32) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)

        def random() -> Tensor:
            return torch.rand(2, 1, *size, generator=generator)

        relative = random()
        inverse = 1 + relative * torch.linspace(2, 4, size[1]) + 0.05 * random()
        inverse = torch.where(random() < 0.1, 2 * inverse, inverse)
        return [*(map_.to(dtype) for map_ in (relative, inverse, 0.02 + 0.1 * random())), random() < 0.2]

    return make


@pytest.fixture
def close_lines() -> Callable[..., None]:
    """close_lines(results, arguments, window): fit_lines' float32 results beside the reference's in float64. A window's
    variance is a small difference of its means, so a few of float32's places are lost; a single cell has none, and only
    what its line says there is compared.
    """

    def check(results: tuple[Tensor, Tensor], arguments: list[Tensor], window: int) -> None:
        exact = [*(tensor.double() for tensor in arguments[:3]), arguments[3]]
        lines = results, reference.fit_lines(*exact, window)
        fitted, expected = (scale * exact[0] + offset for scale, offset in lines)
        torch.testing.assert_close(fitted, expected, rtol=1e-4, atol=1e-4)
        for result, wanted in zip(*lines, strict=True):
            assert result.dtype == torch.float32
            if wanted.shape[2:] != (1, 1):
                torch.testing.assert_close(result.double(), wanted, rtol=1e-3, atol=1e-3)

    return check


@pytest.fixture
def block_weights() -> Callable[..., NAFBlockWeights]:
    """block_weights(channels, dtype): of a NAFNet block whose every part matters, float32 values of about 1."""

    def make(channels: int, dtype=torch.float32) -> NAFBlockWeights:
        generator = torch.Generator().manual_seed(7)

        def normal(*shape: int, mean=0.0, std=0.3) -> Tensor:
            return (mean + std * torch.randn(shape, generator=generator)).to(dtype)

        c, per_input = channels, channels**-0.5
        return NAFBlockWeights(
            norm1_weight=normal(c, mean=1.0), norm1_bias=normal(c),
            conv1_weight=normal(2 * c, c, 1, 1, std=per_input), conv1_bias=normal(2 * c),
            conv2_weight=normal(2 * c, 1, 3, 3, std=1 / 3), conv2_bias=normal(2 * c),
            attention_weight=normal(c, c, 1, 1, std=per_input), attention_bias=normal(c, std=1.0),
            conv3_weight=normal(c, c, 1, 1, std=per_input), conv3_bias=normal(c),
            norm2_weight=normal(c, mean=1.0), norm2_bias=normal(c),
            conv4_weight=normal(2 * c, c, 1, 1, std=per_input), conv4_bias=normal(2 * c),
            conv5_weight=normal(c, c, 1, 1, std=per_input), conv5_bias=normal(c),
            beta=normal(1, c, 1, 1, std=1.0), gamma=normal(1, c, 1, 1, std=1.0),
        )  # fmt: skip

    return make


@pytest.fixture
def poisoned_memory():
    """Fresh memory of torch.empty holds NaN, so that a kernel that leaves an element out is found."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(8).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=TOLERANCE_EPSILONS, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture(params=[(1, 1), (7, 5), (63, 65)], ids="{0[0]}x{0[1]}".format)
def size(request) -> tuple[int, int]:
    """Height and width: one pixel, less than a block in both, more than a block and odd."""
    return request.param


@pytest.fixture(params=["contiguous", "channels_last", "strided"])
def layout(request) -> str:
    return request.param
