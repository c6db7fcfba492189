"""adain and adain_statistics in Triton: what they compute is specified by depthsr/ops/reference.py.

Four passes over memory, two forward: moments of tiles of pixels, merged as Chan, Golub & LeVeque 1979 merge them, those
of content and style in the same launches; then one multiply-add a value. Backward: two sums over the frame; then again
an affine map a channel. No atomics, and each merge has its fixed place, so results are the same every time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher
from depthsr.kernels.pixels import pixel_tile, strides_of

#: Values of a tile, 16 a thread with 4 warps; the gradient has two such tiles. Not measured on a GPU yet.
BLOCK_VALUES = 2048

#: Channels whose tiles one program merges, 64 bytes of moments: fewer would waste what memory is read in. Not measured.
MERGED_CHANNELS = 16


@triton.jit
def _of_frame(pointer, channels, BLOCK_C: tl.constexpr):
    """A row of a B×C matrix: this frame's values a channel."""
    channel = tl.arange(0, BLOCK_C)
    row = pointer + tl.program_id(1) * channels
    return tl.load(row + channel, mask=channel < channels, other=0.0)[None, :]


@triton.jit
def _store_pair(pointer, first, second, channels, BLOCK_C: tl.constexpr):
    """To this program's place in a tensor of B × tiles × 2 × C."""
    channel = tl.arange(0, BLOCK_C)
    program = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    row = pointer + program * 2 * channels + channel
    tl.store(row, first, mask=channel < channels)
    tl.store(row + channels, second, mask=channel < channels)


@triton.jit
def _tile_moments(x_ptr, moments_ptr, pixels, channels, stride_b, stride_p, stride_c,
                  BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """Of a tile: mean, and sum of squared deviations from it."""
    count = tl.minimum(pixels - tl.program_id(0) * BLOCK_P, BLOCK_P)
    if count > 0:
        offsets, exists = pixel_tile(pixels, channels, stride_b, stride_p, stride_c, BLOCK_P, BLOCK_C)
        x = tl.load(x_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
        # Twice: a sum of large values is known to their last place only, which may be much of a small spread.
        mean = tl.sum(x, axis=0) / count
        mean += tl.sum(tl.where(exists, x - mean[None, :], 0.0), axis=0) / count
        centred = tl.where(exists, x - mean[None, :], 0.0)
        _store_pair(moments_ptr, mean, tl.sum(centred * centred, axis=0), channels, BLOCK_C)


@triton.jit
def _forward_moments(content_ptr, style_ptr, moments_ptr, pixels, style_pixels, channels, stride_b, stride_p, stride_c,
                     style_stride_b, style_stride_p, style_stride_c,
                     BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """Axis 2 of the grid: content, style. Axis 0 has as many tiles as the larger of them."""
    if tl.program_id(2) == 0:
        _tile_moments(content_ptr, moments_ptr, pixels, channels, stride_b, stride_p, stride_c, BLOCK_P, BLOCK_C)
    else:
        moments_ptr += tl.num_programs(1).to(tl.int64) * tl.num_programs(0) * 2 * channels
        _tile_moments(style_ptr, moments_ptr, style_pixels, channels, style_stride_b, style_stride_p, style_stride_c,
                      BLOCK_P, BLOCK_C)  # fmt: skip


@triton.jit
def _moments_of_tiles(moments_ptr, channel, start, pixels, channels, TILE: tl.constexpr,
                      BLOCK_T: tl.constexpr):  # fmt: skip
    """Of a run of a frame's tiles: their means, sums of squares and numbers of pixels, 0 for those that are not."""
    tile = start + tl.arange(0, BLOCK_T)
    counts = tl.maximum(tl.minimum(pixels - tile * TILE, TILE), 0)
    exists = (counts > 0)[:, None] & (channel < channels)[None, :]
    offsets = tile[:, None] * 2 * channels + channel[None, :]
    means = tl.load(moments_ptr + offsets, mask=exists, other=0.0)
    squares = tl.load(moments_ptr + offsets + channels, mask=exists, other=0.0)
    return means, squares, counts.to(tl.float32)[:, None]


@triton.jit
def _merged(moments_ptr, channel, pixels, channels, TILE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr):
    """Mean and sum of squared deviations of a frame from its tiles'.

    Twice, as a tile's: deviations from the first mean give what it is wrong by, and their squares are less by that.
    Sums are added up after the loops: between warps that costs a barrier.
    """
    tiles = tl.cdiv(pixels, TILE)
    sums = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for start in range(0, tiles, BLOCK_T):
        means, _, counts = _moments_of_tiles(moments_ptr, channel, start, pixels, channels, TILE, BLOCK_T)
        sums += means * counts
    mean = tl.sum(sums, axis=0) / pixels
    sums = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    sums_of_squares = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for start in range(0, tiles, BLOCK_T):
        means, squares, counts = _moments_of_tiles(moments_ptr, channel, start, pixels, channels, TILE, BLOCK_T)
        deviations = means - mean[None, :]
        sums += deviations * counts
        sums_of_squares += squares + counts * deviations * deviations
    correction = tl.sum(sums, axis=0) / pixels
    m2 = tl.sum(sums_of_squares, axis=0) - correction * correction * pixels
    return mean + correction, tl.maximum(m2, 0.0)


@triton.jit
def _forward_merge(moments_ptr, mean_ptr, variance_ptr, style_mean_ptr, style_variance_ptr, ratio_ptr, tiles, pixels,
                   style_pixels, correction, eps, channels,
                   TILE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """A frame's statistics from its tiles', of content and style, and the ratio of their deviations. Axis 0 of the grid
    counts blocks of channels.
    """
    frame = tl.program_id(1)
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = moments_ptr + frame.to(tl.int64) * tiles * 2 * channels
    style_rows = rows + tl.num_programs(1).to(tl.int64) * tiles * 2 * channels
    mean, m2 = _merged(rows, channel, pixels, channels, TILE, BLOCK_T, BLOCK_C)
    style_mean, style_m2 = _merged(style_rows, channel, style_pixels, channels, TILE, BLOCK_T, BLOCK_C)
    variance = m2 / tl.maximum(pixels - correction, 1)
    style_variance = style_m2 / tl.maximum(style_pixels - correction, 1)
    exists = channel < channels
    place = frame * channels + channel
    tl.store(mean_ptr + place, mean, mask=exists)
    tl.store(variance_ptr + place, variance, mask=exists)
    tl.store(style_mean_ptr + place, style_mean, mask=exists)
    tl.store(style_variance_ptr + place, style_variance, mask=exists)
    tl.store(ratio_ptr + place, tl.sqrt((style_variance + eps) / (variance + eps)), mask=exists)


@triton.jit
def _forward(x_ptr, centre_ptr, scale_ptr, shift_ptr, out_ptr, pixels, channels, stride_b, stride_p, stride_c,
             BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """(x - centre) · scale + shift"""
    offsets, exists = pixel_tile(pixels, channels, stride_b, stride_p, stride_c, BLOCK_P, BLOCK_C)
    x = tl.load(x_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    centred = x - _of_frame(centre_ptr, channels, BLOCK_C)
    out = centred * _of_frame(scale_ptr, channels, BLOCK_C) + _of_frame(shift_ptr, channels, BLOCK_C)
    tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), mask=exists)


@triton.jit
def _backward_sums(grad_ptr, x_ptr, centre_ptr, sums_ptr, pixels, channels, stride_b, stride_p, stride_c,
                   BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """Of a tile: the sums of grad and of grad · (x - centre)."""
    offsets, exists = pixel_tile(pixels, channels, stride_b, stride_p, stride_c, BLOCK_P, BLOCK_C)
    grad = tl.load(grad_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    centred = x - _of_frame(centre_ptr, channels, BLOCK_C)
    _store_pair(sums_ptr, tl.sum(grad, axis=0), tl.sum(grad * centred, axis=0), channels, BLOCK_C)


@triton.jit
def _backward(grad_ptr, x_ptr, mean_grad_ptr, scale_ptr, centre_ptr, slope_ptr, out_ptr, pixels, channels, stride_b,
              stride_p, stride_c, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """(grad - mean grad) · scale - (x - centre) · slope"""
    offsets, exists = pixel_tile(pixels, channels, stride_b, stride_p, stride_c, BLOCK_P, BLOCK_C)
    grad = tl.load(grad_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offsets, mask=exists, other=0.0).to(tl.float32)
    through_value = (grad - _of_frame(mean_grad_ptr, channels, BLOCK_C)) * _of_frame(scale_ptr, channels, BLOCK_C)
    through_variance = (x - _of_frame(centre_ptr, channels, BLOCK_C)) * _of_frame(slope_ptr, channels, BLOCK_C)
    tl.store(out_ptr + offsets, (through_value - through_variance).to(out_ptr.dtype.element_ty), mask=exists)


def _pixels(x_BCHW: Tensor) -> int:
    return x_BCHW.shape[2] * x_BCHW.shape[3]


def _launch(kernel, x_BCHW: Tensor, *tensors: Tensor) -> None:
    """kernel on `tensors`, of which the images are dense as x is."""
    batch, channels, *_ = x_BCHW.shape
    block_p, block_c, tiles = _blocks(x_BCHW)
    launcher(kernel)[(tiles, batch)](
        *tensors, _pixels(x_BCHW), channels, *strides_of(x_BCHW), BLOCK_P=block_p, BLOCK_C=block_c
    )


def _blocks(x_BCHW: Tensor) -> tuple[int, int, int]:
    """(BLOCK_P, BLOCK_C, tiles in a frame)."""
    block_c = triton.next_power_of_2(x_BCHW.shape[1])
    block_p = max(1, BLOCK_VALUES // block_c)
    return block_p, block_c, triton.cdiv(_pixels(x_BCHW), block_p)


def _pairs(x_BCHW: Tensor) -> Tensor:
    """Room for two values a channel and tile."""
    *_, tiles = _blocks(x_BCHW)
    shape = (x_BCHW.shape[0], tiles, 2, x_BCHW.shape[1])
    return torch.empty(shape, dtype=torch.float32, device=x_BCHW.device)


class Statistics(NamedTuple):
    """Each B×C float32. ratio: sqrt((style_variance + eps) / (variance + eps))."""

    mean: Tensor
    variance: Tensor
    style_mean: Tensor
    style_variance: Tensor
    ratio: Tensor


def statistics(content_BCHW: Tensor, style_BCHW: Tensor, eps: float, correction: int) -> Statistics:
    """Two launches. Each input dense in one of the two layouts, both of one type."""
    batch, channels = content_BCHW.shape[:2]
    pixels, style_pixels = _pixels(content_BCHW), _pixels(style_BCHW)
    block_p, block_c, _ = _blocks(content_BCHW)
    tiles = triton.cdiv(max(pixels, style_pixels), block_p)
    moments = torch.empty((2, batch, tiles, 2, channels), dtype=torch.float32, device=content_BCHW.device)
    launcher(_forward_moments)[(tiles, batch, 2)](
        content_BCHW, style_BCHW, moments, pixels, style_pixels, channels, *strides_of(content_BCHW),
        *strides_of(style_BCHW), BLOCK_P=block_p, BLOCK_C=block_c,
    )  # fmt: skip
    out = Statistics(*(moments.new_empty((batch, channels)) for _ in Statistics._fields))
    merged = min(block_c, MERGED_CHANNELS)
    launcher(_forward_merge)[(triton.cdiv(channels, merged), batch)](
        moments, *out, tiles, pixels, style_pixels, correction, eps, channels, TILE=block_p,
        BLOCK_T=BLOCK_VALUES // merged, BLOCK_C=merged,
    )  # fmt: skip
    return out


def affine(x_BCHW: Tensor, centre_BC: Tensor, scale_BC: Tensor, shift_BC: Tensor) -> Tensor:
    """(x - centre) · scale + shift, by frame and channel. x dense in one of the two layouts, which the result has."""
    out = torch.empty_like(x_BCHW)
    _launch(_forward, x_BCHW, x_BCHW, centre_BC, scale_BC, shift_BC, out)
    return out


def adain(content_BCHW: Tensor, style_BCHW: Tensor, eps: float, correction: int) -> Tensor:
    """Each input dense in one of the two layouts; the result has the content's."""
    found = statistics(content_BCHW, style_BCHW, eps, correction)
    return affine(content_BCHW, found.mean, found.ratio, found.style_mean)


def adain_backward(
    grad_BCHW: Tensor, content_BCHW: Tensor, style_BCHW: Tensor, eps: float, correction: int
) -> tuple[Tensor, Tensor]:
    """grad and content dense in the same layout, style in either. Statistics are computed again.

    With r = sqrt((var_y + eps) / (var_x + eps)), n values of x and m of y in a channel, S the sum of
    grad · (x - mean_x), and dr/dvar_x = -r / 2(var_x + eps), dr/dvar_y = r / 2(var_y + eps):
    grad_x = r · (grad - mean grad) - (x - mean_x) · r S / ((n - correction)(var_x + eps)),
    grad_y = sum grad / m + (y - mean_y) · r S / ((m - correction)(var_y + eps)).
    """
    mean, variance, style_mean, style_variance, ratio = statistics(content_BCHW, style_BCHW, eps, correction)
    sums = _pairs(content_BCHW)
    _launch(_backward_sums, content_BCHW, grad_BCHW, content_BCHW, mean, sums)
    grad_sum, projection = sums.sum(1).unbind(1)
    pixels, style_pixels = _pixels(content_BCHW), _pixels(style_BCHW)
    slope = ratio * projection / (max(pixels - correction, 1) * (variance + eps))
    style_slope = ratio * projection / (max(style_pixels - correction, 1) * (style_variance + eps))
    grad_content = torch.empty_like(content_BCHW)
    _launch(_backward, content_BCHW, grad_BCHW, content_BCHW, grad_sum / pixels, ratio, mean, slope, grad_content)
    return grad_content, affine(style_BCHW, style_mean, style_slope, grad_sum / style_pixels)
