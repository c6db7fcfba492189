"""mix_candidates in Triton: what it computes is specified by depthsr/ops/reference.py.

One launch, where the reference has about fifteen that each pass over a map for every candidate: a program computes a
run of one row of the result, and reads logits and candidates once. Twice, but the second time they lie in the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from depthsr.kernels.launch import launcher

#: Pixels of the result that a program computes, one a thread with 4 warps. Not measured.
BLOCK = 128


@triton.jit(do_not_specialize=["height", "width", "half_height", "half_width"])
def _forward(logits_ptr, correction_ptr, error_ptr, candidates_ptr, ambiguity_ptr, depth_ptr, expected_ptr,
             height, width, half_height, half_width, ERROR_OFFSET: tl.constexpr, K: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
    row, frame = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = column < width
    # Of the four values at a pixel of half the resolution, one for each of the pixels that it covers.
    half_pixel = (frame * half_height + row // 2) * half_width + column // 2
    quarter = row % 2 * 2 + column % 2
    logits_ptr += half_pixel * 4 * K + quarter
    candidates_ptr += (frame * K * height + row) * width + column

    largest = tl.full((BLOCK,), -float("inf"), tl.float32)
    for k in tl.static_range(K):
        largest = tl.maximum(largest, tl.load(logits_ptr + 4 * k, mask=exists, other=0.0).to(tl.float32))
    weights = tl.zeros((BLOCK,), tl.float32)
    sum_ = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(K):
        weight = tl.exp(tl.load(logits_ptr + 4 * k, mask=exists, other=0.0).to(tl.float32) - largest)
        candidate = tl.load(candidates_ptr + k * height * width, mask=exists, other=0.0).to(tl.float32)
        weights += weight
        sum_ += weight * candidate

    at = (frame * height + row) * width + column
    ambiguity = tl.load(ambiguity_ptr + at, mask=exists, other=0.0).to(tl.float32)
    correction = tl.load(correction_ptr + half_pixel * 4 + quarter, mask=exists, other=0.0).to(tl.float32)
    tl.store(depth_ptr + at, sum_ / weights + correction * ambiguity, mask=exists)
    error = tl.load(error_ptr + half_pixel * 4 + quarter, mask=exists, other=0.0).to(tl.float32) - ERROR_OFFSET
    # softplus(x) = max(x, 0) + log(1 + e), e = exp(-|x|); the quotient gives back what 1 + e loses of e.
    e = tl.exp(-tl.abs(error))
    one_more = 1.0 + e
    rounded = one_more == 1.0
    logarithm = tl.where(rounded, e, tl.log(one_more) * (e / tl.where(rounded, 1.0, one_more - 1.0)))
    tl.store(expected_ptr + at, (tl.maximum(error, 0.0) + logarithm) * ambiguity, mask=exists)


def mix_candidates(
    logits_BNhw: Tensor,
    correction_B4hw: Tensor,
    error_B4hw: Tensor,
    candidates_BKHW: Tensor,
    ambiguity_B1HW: Tensor,
    error_offset: float,
) -> tuple[Tensor, Tensor]:
    """The first three channels_last, the others and the results contiguous."""
    batch, count, height, width = candidates_BKHW.shape
    depth_B1HW = candidates_BKHW.new_empty((batch, 1, height, width))
    error_B1HW = torch.empty_like(depth_B1HW)
    launcher(_forward)[(triton.cdiv(width, BLOCK), height, batch)](
        logits_BNhw, correction_B4hw, error_B4hw, candidates_BKHW, ambiguity_B1HW, depth_B1HW, error_B1HW,
        height, width, *logits_BNhw.shape[2:], ERROR_OFFSET=error_offset, K=count, BLOCK=BLOCK,
    )  # fmt: skip
    return depth_B1HW, error_B1HW
