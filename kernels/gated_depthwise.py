"""K2: depthwise 3×3 convolution with zero padding, SimpleGate, and the mean over the frame that SCA needs.

    a | b = depthwise(u, weight) + bias;   y = a · b;   pooled = mean of y over H and W

A program computes a tile of ROWS rows over some channels of both halves; the nine reads of a value meet in the L1 and
L2 caches. Sums over pixels leave one row of partial sums a program, added up afterwards: no atomics, so the same result
every time.

Floors, for P pixels, y of C channels and s bytes a value:
    forward                     bytes 3·P·s·C     operations 2·P·2C·9
    gradient of a | b, weights  bytes 5·P·s·C     operations 4·P·2C·9
    gradient of u               bytes 4·P·s·C     operations 2·P·2C·9
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.block_sizes import Blocks, blocks_for
from depthsr.kernels.launch import empty_channels_last, launcher

#: Rows of a tile. Square tiles read the fewest values twice; 4 rows of 8 or 16 pixels are close.
ROWS = 4


@triton.jit
def _tile(height, width, ROWS: tl.constexpr, BLOCK_P: tl.constexpr):
    """(row and column of each pixel of the tile, its index counted from the tile's first, that one's in the batch)."""
    COLUMNS: tl.constexpr = BLOCK_P // ROWS
    across = tl.cdiv(width, COLUMNS)
    top = tl.program_id(0) // across * ROWS
    left = tl.program_id(0) % across * COLUMNS
    pixel = tl.arange(0, BLOCK_P)
    row = pixel // COLUMNS
    column = pixel % COLUMNS
    first = (tl.program_id(2).to(tl.int64) * height + top) * width + left
    return top + row, left + column, row * width + column, first


@triton.jit
def _neighbour(x_ptrs, row, column, down, right, height, width, exists, STRIDE: tl.constexpr):
    """The values `down` rows and `right` columns from those at x_ptrs, float32, 0 outside the frame."""
    row += down
    column += right
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    mask = inside[:, None] & exists[None, :]
    return tl.load(x_ptrs + (down * width + right) * STRIDE, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _convolve(x_ptrs, weight_ptrs, row, column, height, width, exists, SIGN: tl.constexpr, STRIDE: tl.constexpr,
              BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """SIGN 1: the depthwise convolution without bias; -1: its transpose."""
    out = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for tap in tl.static_range(9):
        x = _neighbour(x_ptrs, row, column, SIGN * (tap // 3 - 1), SIGN * (tap % 3 - 1), height, width, exists, STRIDE)
        out += x * tl.load(weight_ptrs + tap * STRIDE, mask=exists, other=0.0).to(tl.float32)[None, :]
    return out


@triton.jit(do_not_specialize=["height", "width"])
def _forward(u_ptr, weight_ptr, bias_ptr, y_ptr, pool_ptr, height, width, CHANNELS: tl.constexpr,
             ROWS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    row, column, pixel, first = _tile(height, width, ROWS, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    exists = channel < CHANNELS
    u_ptrs = u_ptr + first * 2 * CHANNELS + (pixel[:, None] * 2 * CHANNELS + channel[None, :])
    a = _convolve(u_ptrs, weight_ptr + channel, row, column, height, width, exists, 1, 2 * CHANNELS, BLOCK_P,
                  BLOCK_C)  # fmt: skip
    a += tl.load(bias_ptr + channel, mask=exists, other=0.0).to(tl.float32)[None, :]
    b = _convolve(u_ptrs + CHANNELS, weight_ptr + CHANNELS + channel, row, column, height, width, exists, 1,
                  2 * CHANNELS, BLOCK_P, BLOCK_C)  # fmt: skip
    b += tl.load(bias_ptr + CHANNELS + channel, mask=exists, other=0.0).to(tl.float32)[None, :]
    inside = ((row < height) & (column < width))[:, None] & exists[None, :]
    y = tl.where(inside, a * b, 0.0)
    y_ptrs = y_ptr + first * CHANNELS + (pixel[:, None] * CHANNELS + channel[None, :])
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=inside)
    program = tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)
    tl.store(pool_ptr + program * CHANNELS + channel, tl.sum(y, axis=0), mask=exists)


@triton.jit(do_not_specialize=["height", "width"])
def _backward_gate(grad_ptr, pool_grad_ptr, u_ptr, weight_ptr, bias_ptr, grad_ab_ptr, partial_ptr, height, width,
                   CHANNELS: tl.constexpr, ROWS: tl.constexpr, BLOCK_P: tl.constexpr,
                   BLOCK_C: tl.constexpr):  # fmt: skip
    """Gradient of a | b; and by program, [9 taps, bias][2C] of the gradient of weight and bias."""
    row, column, pixel, first = _tile(height, width, ROWS, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    exists = channel < CHANNELS
    inside = ((row < height) & (column < width))[:, None] & exists[None, :]
    grad_ptrs = grad_ptr + first * CHANNELS + (pixel[:, None] * CHANNELS + channel[None, :])
    pool_grad = tl.load(pool_grad_ptr + tl.program_id(2) * CHANNELS + channel, mask=exists, other=0.0)
    grad = tl.load(grad_ptrs, mask=inside, other=0.0).to(tl.float32)
    grad = tl.where(inside, grad + pool_grad[None, :], 0.0)
    offsets = first * 2 * CHANNELS + (pixel[:, None] * 2 * CHANNELS + channel[None, :])
    partial_ptr += (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * 20 * CHANNELS
    for half in tl.static_range(2):  # 0: the gradient of a, which is multiplied by b; 1: the other way round
        other = (1 - half) * CHANNELS
        gate = _convolve(u_ptr + offsets + other, weight_ptr + other + channel, row, column, height, width,
                         exists, 1, 2 * CHANNELS, BLOCK_P, BLOCK_C)  # fmt: skip
        gate += tl.load(bias_ptr + other + channel, mask=exists, other=0.0).to(tl.float32)[None, :]
        grad_half = grad * gate
        own = half * CHANNELS
        tl.store(grad_ab_ptr + offsets + own, grad_half.to(grad_ab_ptr.dtype.element_ty), mask=inside)
        for tap in tl.static_range(9):
            u = _neighbour(u_ptr + offsets + own, row, column, tap // 3 - 1, tap % 3 - 1, height, width, exists,
                           2 * CHANNELS)  # fmt: skip
            row_of_partial = partial_ptr + tap * 2 * CHANNELS + own
            tl.store(row_of_partial + channel, tl.sum(u * grad_half, axis=0), mask=exists)
        tl.store(partial_ptr + 18 * CHANNELS + own + channel, tl.sum(grad_half, axis=0), mask=exists)


@triton.jit(do_not_specialize=["height", "width"])
def _backward_input(grad_ab_ptr, weight_ptr, grad_u_ptr, height, width, CHANNELS: tl.constexpr,
                    ROWS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """CHANNELS here are those of u."""
    row, column, pixel, first = _tile(height, width, ROWS, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    exists = channel < CHANNELS
    offsets = first * CHANNELS + (pixel[:, None] * CHANNELS + channel[None, :])
    grad_u = _convolve(grad_ab_ptr + offsets, weight_ptr + channel, row, column, height, width, exists, -1,
                       CHANNELS, BLOCK_P, BLOCK_C)  # fmt: skip
    inside = ((row < height) & (column < width))[:, None] & exists[None, :]
    tl.store(grad_u_ptr + offsets, grad_u.to(grad_u_ptr.dtype.element_ty), mask=inside)


def _grid(height: int, width: int, channels: int, batch: int, blocks: Blocks) -> tuple[int, int, int]:
    tiles = triton.cdiv(height, ROWS) * triton.cdiv(width, blocks.pixels // ROWS)
    return tiles, triton.cdiv(channels, blocks.columns), batch


def gated_depthwise(u_B2CHW: Tensor, weight_92C: Tensor, bias_2C: Tensor) -> tuple[Tensor, Tensor]:
    """(y B×C×H×W, pooled B×C float32). u channels_last, as y; weight and bias of any type.

    weight: 9×2C, so that a tap's weights lie beside each other.
    """
    y, partial = gated_depthwise_with_partial_sums(u_B2CHW, weight_92C, bias_2C)
    return y, partial.sum(1) / (u_B2CHW.shape[2] * u_B2CHW.shape[3])


def gated_depthwise_with_partial_sums(u_B2CHW: Tensor, weight_92C: Tensor, bias_2C: Tensor) -> tuple[Tensor, Tensor]:
    """(y, its sums over each tile, B×tiles×C float32), for the rest as gated_depthwise."""
    (batch, _, height, width), doubled = u_B2CHW.shape, weight_92C.shape[1]
    channels = doubled // 2
    blocks = blocks_for("depthwise", u_B2CHW, channels)
    grid = _grid(height, width, channels, batch, blocks)
    y = empty_channels_last(batch, channels, height, width, u_B2CHW)
    partial = u_B2CHW.new_empty((batch, grid[0], channels), dtype=torch.float32)
    launcher(_forward)[grid](
        u_B2CHW, weight_92C, bias_2C, y, partial, height, width, CHANNELS=channels, ROWS=ROWS,
        BLOCK_P=blocks.pixels, BLOCK_C=blocks.columns, num_warps=blocks.warps,
    )  # fmt: skip
    return y, partial


def gated_depthwise_backward(
    grad_y_BCHW: Tensor, grad_pooled_BC: Tensor, u_B2CHW: Tensor, weight_92C: Tensor, bias_2C: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of u, weight and bias; the last two float32. grad_y channels_last, grad_pooled float32."""
    (batch, _, height, width), doubled = u_B2CHW.shape, weight_92C.shape[1]
    channels = doubled // 2
    pool_grad_BC = grad_pooled_BC / (height * width)
    blocks = blocks_for("depthwise", u_B2CHW, channels)
    grid = _grid(height, width, channels, batch, blocks)
    grad_ab = torch.empty_like(u_B2CHW)
    partial = u_B2CHW.new_empty((batch * grid[0], 10, doubled), dtype=torch.float32)
    launcher(_backward_gate)[grid](
        grad_y_BCHW, pool_grad_BC, u_B2CHW, weight_92C, bias_2C, grad_ab, partial, height, width, CHANNELS=channels,
        ROWS=ROWS, BLOCK_P=blocks.pixels, BLOCK_C=blocks.columns, num_warps=blocks.warps,
    )  # fmt: skip
    grad_u = torch.empty_like(u_B2CHW)
    launcher(_backward_input)[_grid(height, width, doubled, batch, blocks)](
        grad_ab, weight_92C, grad_u, height, width, CHANNELS=doubled, ROWS=ROWS,
        BLOCK_P=blocks.pixels, BLOCK_C=blocks.columns, num_warps=blocks.warps,
    )  # fmt: skip
    sums = partial.sum(0)
    return grad_u, sums[:9], sums[9].clone()
