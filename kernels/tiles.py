"""What the kernels on channels_last pixels share: loading tiles, LayerNorm in registers, dot products.

A tile is BLOCK_P pixels × BLOCK_C channels, both powers of two; what lies beyond the last pixel or the last of
CHANNELS is read as 0 and not written. Arithmetic is float32; only the factors of a dot product have the storage type.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _rows(tile, first_column, pixels, STRIDE: tl.constexpr, COLUMNS: tl.constexpr,
          BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """Offsets of tile number `tile`, columns from first_column on, in pixels × STRIDE values, and which exist."""
    first = tl.cast(tile, tl.int64) * BLOCK_P  # 64 bits for the start of the tile alone: the rest is near it
    row = tl.arange(0, BLOCK_P)
    column = first_column + tl.arange(0, BLOCK_C)
    exists = (row < pixels - first)[:, None] & (column < COLUMNS)[None, :]
    return first * STRIDE + (row[:, None] * STRIDE + column[None, :]), exists


@triton.jit
def load_tile(pointer, tile, first_column, pixels, STRIDE: tl.constexpr, COLUMNS: tl.constexpr,
              BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """In the storage type. COLUMNS ends the columns read, of a row of STRIDE."""
    offsets, exists = _rows(tile, first_column, pixels, STRIDE, COLUMNS, BLOCK_P, BLOCK_C)
    return tl.load(pointer + offsets, mask=exists, other=0.0)


@triton.jit
def store_tile(pointer, values, tile, first_column, pixels, STRIDE: tl.constexpr, COLUMNS: tl.constexpr,
               BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    offsets, exists = _rows(tile, first_column, pixels, STRIDE, COLUMNS, BLOCK_P, BLOCK_C)
    tl.store(pointer + offsets, values.to(pointer.dtype.element_ty), mask=exists)


@triton.jit
def load_vector(pointer, first, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """float32."""
    index = first + tl.arange(0, BLOCK)
    return tl.load(pointer + index, mask=index < SIZE, other=0.0).to(tl.float32)


@triton.jit
def store_vector(pointer, values, first, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    index = first + tl.arange(0, BLOCK)
    tl.store(pointer + index, values, mask=index < SIZE)


@triton.jit
def _matrix(first_row, first_column, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
            BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    row = first_row + tl.arange(0, BLOCK_R)
    column = first_column + tl.arange(0, BLOCK_C)
    exists = (row < ROWS)[:, None] & (column < COLUMNS)[None, :]
    return row[:, None] * COLUMNS + column[None, :], exists


@triton.jit
def load_matrix(pointer, first_row, first_column, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    """A block of a ROWS × COLUMNS matrix, in the storage type."""
    offsets, exists = _matrix(first_row, first_column, ROWS, COLUMNS, BLOCK_R, BLOCK_C)
    return tl.load(pointer + offsets, mask=exists, other=0.0)


@triton.jit
def store_matrix(pointer, values, first_row, first_column, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                 BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):  # fmt: skip
    offsets, exists = _matrix(first_row, first_column, ROWS, COLUMNS, BLOCK_R, BLOCK_C)
    tl.store(pointer + offsets, values, mask=exists)


@triton.jit
def dot(a, b):
    """a @ b, summed in float32. Three TF32 products make a float32 one: about its precision, on tensor cores."""
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def normalise(x, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr, eps):
    """(x normalised over its channels, 1 / standard deviation), both float32; 0 in channels that do not exist."""
    exists = (tl.arange(0, BLOCK_C) < CHANNELS)[None, :]
    mean = tl.sum(x, axis=1) / CHANNELS
    centred = tl.where(exists, x - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / CHANNELS + eps)
    return centred * rstd[:, None], rstd


@triton.jit
def normalise_gradient(grad, x_hat, rstd, CHANNELS: tl.constexpr):
    """Gradient of x, given that of the normalised x; grad is 0 in channels that do not exist."""
    mean = tl.sum(grad, axis=1) / CHANNELS
    projection = tl.sum(grad * x_hat, axis=1) / CHANNELS
    return (grad - mean[:, None] - x_hat * projection[:, None]) * rstd[:, None]
