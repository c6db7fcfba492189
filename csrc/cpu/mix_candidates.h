// One or two rows of mix_candidates in vectors; mix_candidates.cpp goes through a frame by them.
#pragma once

#include "head.h"

namespace depthsr::DEPTHSR_ISA {

// `count` pixels of `channels` values, in either layout of CandidateRows, as planes, `pitch` floats each.
DEPTHSR_INLINE void read_half_row(const float* from, std::int64_t half_plane, std::int64_t count, std::int64_t channels,
                                  std::int64_t pitch, float* planes) {
  if (half_plane == 0) return make_planar(from, count, channels, pitch, planes);
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t i = 0; i < pitch; ++i) planes[c * pitch + i] = i < count ? from[c * half_plane + i] : 0.0f;
}

// As the network's head does it of its own twelve candidates, for any number of them.
void mix_candidate_rows(const CandidateRows& rows) {
  const std::int64_t used = (rows.width + 1) / 2, half = round_up(used, LANES), row = 2 * half;
  float* logits = scratch(Scratch::RANGE, (4 * rows.count + 8) * half + (rows.count + 3) * row);
  float* correction = logits + 4 * rows.count * half;
  float* error = correction + 4 * half;
  float* candidates = error + 4 * half;
  float* ambiguity = candidates + rows.count * row;
  float *depth = ambiguity + row, *expected = depth + row;
  read_half_row(rows.logits, rows.half_plane, used, 4 * rows.count, half, logits);
  read_half_row(rows.correction, rows.half_plane, used, 4, half, correction);
  read_half_row(rows.error, rows.half_plane, used, 4, half, error);
  for (std::int64_t down = 0; down < rows.rows; ++down) {
    const std::int64_t first = down * rows.width;
    for (std::int64_t k = 0; k < rows.count; ++k)
      split_columns(rows.candidates + k * rows.plane + first, rows.width, half, candidates + k * row);
    split_columns(rows.ambiguity + first, rows.width, half, ambiguity);
    for (std::int64_t right = 0; right < 2; ++right)
      for (std::int64_t i = 0; i < half; i += LANES) {
        const std::int64_t quarter = (2 * down + right) * half + i, at = right * half + i;
        const MixedPixels mixed = mix_pixels(
            rows.count, [&](std::int64_t k) { return load(logits + 4 * k * half + quarter); },
            [&](std::int64_t k) { return load(candidates + k * row + at); }, load(correction + quarter),
            load(error + quarter), load(ambiguity + at));
        store(depth + at, mixed.depth);
        store(expected + at, mixed.error);
      }
    join_columns(depth, rows.width, half, rows.depth + first);
    join_columns(expected, rows.width, half, rows.expected + first);
  }
}

}  // namespace depthsr::DEPTHSR_ISA
