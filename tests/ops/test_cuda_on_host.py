"""The CUDA kernels' arithmetic and indexing without a GPU: compiled for the CPU with tests/host_cuda/cuda_runtime.h.

Every kernel runs with its threads in both orders. Inputs and outputs lie between NaN: a read outside that is used makes
the result NaN, and a write outside is found. Arrays' bounds and alignment are checked by the compiler's sanitizer.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from depthsr.ops import reference

ROOT = Path(__file__).parents[2]
TYPE_NUMBERS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
GUARD = 64  # elements on either side, a multiple of 16 bytes in every type


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ (Debian: g++)")
    library = tmp_path_factory.mktemp("host_cuda") / "host_cuda.so"
    sources = [*sorted((ROOT / "csrc/cuda").glob("*.cu")), ROOT / "tests/host_cuda/entry.cpp"]
    subprocess.run(
        [
            compiler, "-shared", "-fPIC", "-std=c++20", "-O1",
            "-fsanitize=bounds,alignment", "-fsanitize-undefined-trap-on-error",
            f"-I{ROOT / 'tests/host_cuda'}", f"-I{ROOT / 'csrc/include'}", "-x", "c++", *sources, "-o", library,
        ],
        check=True,
    )  # fmt: skip
    return ctypes.CDLL(str(library))


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def kernels(compiled_kernels, request) -> ctypes.CDLL:
    compiled_kernels.run_backwards(ctypes.c_bool(request.param))
    return compiled_kernels


class Guarded:
    """Memory between NaN, for one tensor; offset moves it off the alignment that 16-byte loads need."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, offset: int = 0) -> None:
        count = torch.Size(shape).numel()
        poison = torch.nan if dtype.is_floating_point else 255
        self._buffer = torch.full((count + 2 * GUARD + offset,), poison, dtype=dtype)
        self._inside = slice(GUARD + offset, GUARD + offset + count)
        self._shape = shape

    @classmethod
    def holding(cls, values: Tensor, offset: int = 0) -> Guarded:
        guarded = cls(tuple(values.shape), values.dtype, offset)
        guarded._buffer[guarded._inside] = values.reshape(-1)
        return guarded

    @property
    def pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._buffer[self._inside].data_ptr())

    def values(self) -> Tensor:
        """What was written; fails where something was written beside it."""
        outside = torch.cat([self._buffer[: self._inside.start], self._buffer[self._inside.stop :]])
        assert (outside.isnan() if outside.is_floating_point() else outside == 255).all(), "written outside"
        return self._buffer[self._inside].reshape(self._shape)


@pytest.mark.parametrize(
    ("rows", "said"),
    [(2, ""), (65536, "depthsr: a CUDA kernel could not be launched: invalid configuration argument")],
)
def test_a_launch_that_fails_raises_and_leaves_no_error(compiled_kernels, rows, said):
    """Which torch would report of the next op, however innocent."""
    message = ctypes.create_string_buffer(256)
    assert compiled_kernels.launch_rows(ctypes.c_uint(rows), message) == 0
    assert message.value.decode() == said


def channels_first(values_BHWC: Tensor) -> Tensor:
    return values_BHWC.permute(0, 3, 1, 2)


def check_gated_depthwise(kernels, random_image, close, batch, channels, size, offset, dtype) -> None:
    x = random_image((batch, 2 * channels, *size), dtype).permute(0, 2, 3, 1)
    weight = random_image((2 * channels, 1, 3, 3), seed=1)
    bias = random_image((2 * channels, 1, 1, 1), seed=2).flatten()
    grad_out = random_image((batch, channels, *size), dtype, seed=3).permute(0, 2, 3, 1)
    grad_mean = random_image((batch, channels, 1, 1), seed=4).flatten(1)
    sizes = (batch, *size, channels)

    given_x, given_weight, given_bias = Guarded.holding(x, offset), Guarded.holding(weight), Guarded.holding(bias)
    out, mean = Guarded(sizes, dtype, offset), Guarded((batch, channels))
    kernels.gated_depthwise(
        TYPE_NUMBERS[dtype],
        given_x.pointer,
        given_weight.pointer,
        given_bias.pointer,
        *sizes,
        out.pointer,
        mean.pointer,
    )
    leaves64 = [t.double().requires_grad_() for t in (channels_first(x), weight, bias)]
    expected = reference.gated_depthwise(*leaves64)
    close(channels_first(out.values()), expected[0].detach())
    close(mean.values(), expected[1].detach(), "mean")

    given_grad, given_grad_mean = Guarded.holding(grad_out, offset), Guarded.holding(grad_mean)
    grad_x = Guarded(tuple(x.shape), dtype, offset)
    grad_weight, grad_bias = Guarded(tuple(weight.shape)), Guarded(tuple(bias.shape))
    kernels.gated_depthwise_backward(
        TYPE_NUMBERS[dtype], given_grad.pointer, given_grad_mean.pointer, given_x.pointer, given_weight.pointer,
        given_bias.pointer, *sizes, grad_x.pointer, grad_weight.pointer, grad_bias.pointer,
    )  # fmt: skip
    gradients = torch.autograd.grad(expected, leaves64, (channels_first(grad_out).double(), grad_mean.double()))
    close(channels_first(grad_x.values()), gradients[0], "gradient of x")
    close(grad_weight.values(), gradients[1], "gradient of weight")
    close(grad_bias.values(), gradients[2], "gradient of bias")


@pytest.mark.parametrize(
    ("channels", "size", "offset"),
    [
        (4, (1, 1), 0),  # channels: part of a group of 32 bytes; of float32 half a group
        (16, (7, 5), 0),  # one group of half precision, two of float32
        (24, (17, 18), 0),  # the last group in part; more than one tile, forward and backward
        (5, (16, 17), 0),  # odd: nothing is aligned
        (16, (29, 13), 1),  # aligned to elements only
    ],
)
def test_gated_depthwise(kernels, random_image, close, channels, size, offset, dtype):
    check_gated_depthwise(kernels, random_image, close, 2, channels, size, offset, dtype)


def test_gated_depthwise_of_many_tiles(compiled_kernels, random_image, close):
    """2580 tiles in the backward pass: a block sums over two of them, the last of a frame over one."""
    compiled_kernels.run_backwards(ctypes.c_bool(False))
    check_gated_depthwise(compiled_kernels, random_image, close, 86, 16, (25, 57), 0, torch.float32)


@pytest.mark.parametrize("layouts", [(False, False), (True, True), (True, False)], ids=str)
@pytest.mark.parametrize(("size", "channels"), [((1, 1), 3), ((7, 5), 9), ((63, 65), 19)], ids=str)
def test_adain_statistics(kernels, random_image, close, size, channels, layouts, dtype):
    style_size = (size[0] + 2, size[1] + 3)
    images = [
        random_image((2, channels, *size), dtype),
        random_image((2, channels, *style_size), dtype, seed=1) * 2 + 1,
    ]
    given = [
        Guarded.holding(image.permute(0, 2, 3, 1) if channels_last else image)
        for image, channels_last in zip(images, layouts, strict=True)
    ]
    statistics = [Guarded((2, channels)) for _ in range(4)]
    arguments = [
        (guarded.pointer, ctypes.c_int64(image.shape[2] * image.shape[3]), ctypes.c_bool(channels_last))
        for guarded, image, channels_last in zip(given, images, layouts, strict=True)
    ]
    correction = 1
    kernels.adain_statistics(
        TYPE_NUMBERS[dtype], *arguments[0], *arguments[1],
        *map(ctypes.c_int64, (2, channels, correction)), *(statistic.pointer for statistic in statistics),
    )  # fmt: skip
    expected = reference.adain_statistics(*(image.double() for image in images), correction)
    for name, result, wanted in zip(("mean", "variance") * 2, statistics, expected, strict=True):
        close(result.values(), wanted, name)


@pytest.mark.parametrize("channels_last", [False, True])
def test_adain_statistics_of_a_large_mean_and_a_small_spread(kernels, channels_last):
    """Depth at 100 m with 0.1 m of spread, where E[x²] - E[x]² is wrong by a tenth."""
    values = 100 + 0.1 * torch.randn(1, 3, 61, 67, generator=torch.Generator().manual_seed(0))
    given = Guarded.holding(values.permute(0, 2, 3, 1) if channels_last else values)
    side = given.pointer, ctypes.c_int64(61 * 67), ctypes.c_bool(channels_last)
    statistics = [Guarded((1, 3)) for _ in range(4)]
    outputs = [statistic.pointer for statistic in statistics]
    kernels.adain_statistics(0, *side, *side, *map(ctypes.c_int64, (1, 3, 0)), *outputs)
    variance = values.double().var((2, 3), correction=0)
    torch.testing.assert_close(statistics[1].values().double(), variance, rtol=1e-4, atol=0)
    for content, style in zip(statistics[:2], statistics[2:], strict=True):
        assert torch.equal(content.values(), style.values())


@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "masked"])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 5), (19, 67)], ids="{0[0]}x{0[1]}".format)
def test_sobel_l1_loss(kernels, random_image, close, size, masked, dtype):
    pred, target = random_image((2, 1, *size), dtype), random_image((2, 1, *size), dtype, seed=1)
    valid = random_image((2, 1, *size), seed=2) > -1 if masked else torch.ones(2, 1, *size, dtype=torch.bool)
    poisoned = pred.masked_fill(~valid, torch.nan), target.masked_fill(~valid, torch.inf)
    buffers = [Guarded.holding(image) for image in (*poisoned, valid.byte())]
    given = [guarded.pointer for guarded in buffers]
    sizes = tuple(map(ctypes.c_int64, (2, *size)))
    weights = 0.7, 1.3
    grad_out = Guarded.holding(torch.tensor([1.5]))

    losses = []
    for wanted in (True, False):
        loss, scales, slopes = Guarded((1,)), Guarded((2,)), Guarded((2, 1, *size), torch.uint8)
        kernels.sobel_l1_loss(
            TYPE_NUMBERS[dtype], given[0], given[1], given[2] if masked else None, *sizes,
            *map(ctypes.c_double, weights), loss.pointer, slopes.pointer if wanted else None, scales.pointer,
        )  # fmt: skip
        losses.append(loss.values())
        if not wanted:
            continue
        grad = Guarded((2, 1, *size), dtype)
        kernels.sobel_l1_loss_gradient(
            TYPE_NUMBERS[dtype], grad_out.pointer, slopes.pointer, scales.pointer,
            ctypes.c_int64(pred.numel()), grad.pointer,
        )  # fmt: skip
    leaf64 = pred.double().requires_grad_()
    expected = reference.sobel_l1_loss(leaf64, target.double(), valid, *weights)
    for loss in losses:
        close(loss[0], expected.detach(), "loss")
    (expected_grad,) = torch.autograd.grad(expected, leaf64, torch.tensor(1.5, dtype=torch.float64))
    close(grad.values(), expected_grad, "gradient")
    assert (grad.values()[~valid] == 0).all()
    assert (slopes.values() == 255).all(), "without gradient no slope is written"
