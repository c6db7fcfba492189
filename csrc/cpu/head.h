// The head: a 1×1 convolution to four sub-pixels' logits, corrections and errors, and what follows at the full resolution.
//
// Here pixels lie in the lanes and outputs in the rows of the product, so that the softmax over the candidates is a few
// vector operations for each candidate.
#pragma once

#include <type_traits>

#include "convolutions.h"

namespace depthsr::DEPTHSR_ISA {

// Outputs of a sub-pixel: the candidates' logits, the correction, the error.
constexpr int CORRECTION = CANDIDATES;
constexpr int ERROR = CANDIDATES + 1;
constexpr int SUBPIXEL_OUTPUTS = CANDIDATES + 2;
constexpr int HEAD_OUTPUTS = 4 * SUBPIXEL_OUTPUTS;

// Outputs that are computed together, for PANEL pixels.
constexpr int HEAD_ROWS = block_rows(1);
constexpr int HEAD_BLOCKS = (HEAD_OUTPUTS + HEAD_ROWS - 1) / HEAD_ROWS;

// Element (k, n) at (n / HEAD_ROWS · inputs + k) · HEAD_ROWS + n % HEAD_ROWS.
DEPTHSR_INLINE PackedConv<> pack_heads(const UNetWeights& w, Arena& arena) {
  const std::int64_t inputs = w.widths[0];
  float* packed = arena.take(HEAD_BLOCKS * HEAD_ROWS * inputs);
  float* bias = arena.take(HEAD_BLOCKS * HEAD_ROWS);
  if (arena.base)
    for (std::int64_t n = 0; n < HEAD_BLOCKS * HEAD_ROWS; ++n) {
      const std::int64_t sub = n / SUBPIXEL_OUTPUTS, output = n % SUBPIXEL_OUTPUTS;
      const ConvWeights& head = output < CANDIDATES ? w.choice_head : output == CORRECTION ? w.residual_head : w.error_head;
      const std::int64_t row = (output < CANDIDATES ? 4 * output : 0) + sub;
      const bool exists = n < HEAD_OUTPUTS;
      bias[n] = exists ? head.bias[row] : 0.0f;
      for (std::int64_t k = 0; k < inputs; ++k)
        packed[(n / HEAD_ROWS * inputs + k) * HEAD_ROWS + n % HEAD_ROWS] = exists ? head.weight[row * inputs + k] : 0.0f;
    }
  return {inputs, HEAD_OUTPUTS, packed, bias};
}

// All outputs of PANEL pixels, HEAD_OUTPUTS × PANEL. pixels: a row of `channels` planes, `pitch` floats each.
DEPTHSR_INLINE void head_convolution(const float* pixels, std::int64_t pitch, const PackedConv<>& conv, float* out) {
  const float* weights = conv.weights;
  for (int block = 0; block < HEAD_BLOCKS; ++block) {
    V sums[HEAD_ROWS][PANEL_VECTORS];
#pragma GCC unroll 12
    for (int m = 0; m < HEAD_ROWS; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; ++v) sums[m][v] = splat(conv.bias[block * HEAD_ROWS + m]);
#pragma GCC unroll 2
    for (std::int64_t channel = 0; channel < conv.inputs; ++channel) {
      V inputs[PANEL_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; ++v) inputs[v] = load(pixels + channel * pitch + v * LANES);
#pragma GCC unroll 12
      for (int m = 0; m < HEAD_ROWS; ++m) {
        const V weight = splat(weights[m]);
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECTORS; ++v) sums[m][v] += weight * inputs[v];
      }
      weights += HEAD_ROWS;
    }
#pragma GCC unroll 12
    for (int m = 0; m < HEAD_ROWS; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; ++v) store(out + (block * HEAD_ROWS + m) * PANEL + v * LANES, sums[m][v]);
  }
}

// `count` pixels of `channels` interleaved values as planes, `pitch` floats each, filled up with zeros.
template <typename T>
DEPTHSR_INLINE void make_planar(const T* pixels, std::int64_t count, std::int64_t channels, std::int64_t pitch,
                                float* planes) {
  for (std::int64_t i = 0; i < pitch; i += LANES)
    for (std::int64_t c = 0; c < channels; c += LANES) {
      V block[LANES];
#pragma GCC unroll 16
      for (int k = 0; k < LANES; ++k)
        block[k] = i + k < count ? load(pixels + (i + k) * channels + c, channels - c) : V{};
      transpose(block);
#pragma GCC unroll 16
      for (int k = 0; k < LANES; ++k)
        if (c + k < channels) store(planes + (c + k) * pitch + i, block[k]);
    }
}

// What the full-resolution part reads and writes, of one fine row: even columns, then odd ones, `half` floats each.
struct FineRow {
  float* candidates[CANDIDATES];
  float* ambiguity;
  float* depth;
  float* error;
  // The coarse rows above, at and below it, each as what lies left of, at and right of the pixel nearest to a column.
  float* coarse[3];
  std::int64_t coarse_row[3];  // that `coarse` holds
};

constexpr int FINE_PLANES = UPSAMPLINGS + 3 + 9;

// memory: FINE_PLANES · 2 · half floats.
DEPTHSR_INLINE FineRow lay_out_fine_row(std::int64_t half, float* memory) {
  const auto plane = [&](int i) { return memory + i * 2 * half; };
  FineRow row{};
  for (int i = 0; i < UPSAMPLINGS; ++i) row.candidates[i] = plane(i);
  row.ambiguity = plane(UPSAMPLINGS);
  row.depth = plane(UPSAMPLINGS + 1);
  row.error = plane(UPSAMPLINGS + 2);
  for (int i = 0; i < 3; ++i) {
    row.coarse[i] = plane(UPSAMPLINGS + 3 + 3 * i);
    row.coarse_row[i] = -1;
  }
  return row;
}

// Splits a row into its even and odd columns; what lies beyond its last column repeats it.
template <typename Number>
DEPTHSR_INLINE void split_columns(const Number* from, std::int64_t width, std::int64_t half, Number* to) {
  for (std::int64_t i = 0; i < width / 2; ++i) {
    to[i] = from[2 * i];
    to[half + i] = from[2 * i + 1];
  }
  for (std::int64_t x = width / 2 * 2; x < 2 * half; ++x) to[x % 2 * half + x / 2] = from[width - 1];
}

// One coarse row at 2 · half columns whose nearest coarse pixels are `nearest`: three planes (FineRow::coarse), each of
// its own map (Prior::around), `spacing` coarse columns apart. Outside of the frame its border is repeated.
DEPTHSR_INLINE void spread_coarse_row(const float* const maps[3], std::int64_t coarse_row, std::int64_t low_width,
                                      std::int64_t spacing, const std::int32_t* nearest, std::int64_t half,
                                      float* to) {
  const std::int64_t first = coarse_row * low_width;
  const float *left_of = maps[0] + first, *at = maps[1] + first, *right_of = maps[2] + first;
  float *left = to, *middle = to + 2 * half, *right = to + 4 * half;
  for (std::int64_t i = 0; i < 2 * half; ++i) {
    const std::int64_t column = nearest[i];
    left[i] = left_of[max(column - spacing, 0)];
    middle[i] = at[column];
    right[i] = right_of[min(column + spacing, low_width - 1)];
  }
}

// nearest_columns: of in.nearest_column, split.
DEPTHSR_INLINE void read_fine_row(const UNetInput& in, std::int64_t y, const std::int32_t* nearest_columns,
                                  std::int64_t half, FineRow& row) {
  for (int i = 0; i < UPSAMPLINGS; ++i)
    split_columns(in.upsampled + (i * in.height + y) * in.width, in.width, half, row.candidates[i]);
  split_columns(in.ambiguity + y * in.width, in.width, half, row.ambiguity);
  for (int down = 0; down < 3; ++down) {
    const std::int64_t coarse_row = min(max(in.nearest_row[y] + (down - 1) * in.row_spacing, 0), in.low_height - 1);
    if (row.coarse_row[down] != coarse_row) {
      spread_coarse_row(in.around + 3 * down, coarse_row, in.low_width, in.column_spacing, nearest_columns, half,
                        row.coarse[down]);
      row.coarse_row[down] = coarse_row;
    }
    for (int right = 0; right < 3; ++right)
      row.candidates[UPSAMPLINGS + 3 * down + right] = row.coarse[down] + right * 2 * half;
  }
}

struct MixedPixels {
  V depth, error;
};

// LANES pixels of mix_candidates (depthsr/ops/reference.py). count: a number, or one that the compiler knows
// (std::integral_constant). logit, candidate: give what the k-th candidate has there.
template <typename Count, typename Logit, typename Candidate>
DEPTHSR_INLINE MixedPixels mix_pixels(Count count, Logit logit, Candidate candidate, V correction, V error,
                                      V ambiguity) {
  const std::int64_t candidates = count;
  V most = logit(0);
#pragma GCC unroll 12
  for (std::int64_t k = 1; k < candidates; ++k) most = max(most, logit(k));
  V total{}, weighted{};
#pragma GCC unroll 12
  for (std::int64_t k = 0; k < candidates; ++k) {
    const V share = exp_of_negative(logit(k) - most);
    total += share;
    weighted += share * candidate(k);
  }
  const V shifted = error - 2.0f;
  const V softplus = max(shifted, V{}) + log(1.0f + exp_of_negative(-max(shifted, -shifted)));
  return {weighted / total + correction * ambiguity, softplus * ambiguity};
}

// LANES fine pixels of one sub-pixel, `at` in the split row, in metres.
DEPTHSR_INLINE void restore_pixels(const float* outputs, const FineRow& row, std::int64_t at, V scale_m, V limit_m) {
  const MixedPixels mixed = mix_pixels(
      std::integral_constant<int, CANDIDATES>{}, [&](std::int64_t k) { return load(outputs + k * PANEL); },
      [&](std::int64_t k) { return load(row.candidates[k] + at); }, load(outputs + CORRECTION * PANEL),
      load(outputs + ERROR * PANEL), load(row.ambiguity + at));
  store(row.depth + at, min(max(mixed.depth * scale_m, V{}), limit_m));
  store(row.error + at, mixed.error * scale_m);
}

DEPTHSR_INLINE void join_columns(const float* from, std::int64_t width, std::int64_t half, float* to) {
  for (std::int64_t i = 0; i < width / 2; ++i) {
    to[2 * i] = from[i];
    to[2 * i + 1] = from[half + i];
  }
  if (width % 2 == 1) to[width - 1] = from[width / 2];
}

// x: height × width pixels of the finest stage. Writes in.height × in.width metres.
template <typename T>
void head(const T* x, const UNetInput& in, const PackedConv<>& conv, std::int64_t height, std::int64_t width,
          float* depth_m, float* error_m, ParallelFor parallel_for) {
  constexpr std::int64_t BAND = 8;
  const std::int64_t channels = conv.inputs;
  const std::int64_t half = round_up(width, PANEL);
  const V scale_m = splat(in.scale_m), limit_m = splat(in.limit_m);
  parallel_for((height + BAND - 1) / BAND, 1, [&](std::int64_t begin, std::int64_t end) {
    float* planar = scratch(Scratch::RANGE, channels * half + HEAD_BLOCKS * HEAD_ROWS * PANEL +
                                                (2 * FINE_PLANES + 1) * 2 * half);
    float* outputs = planar + channels * half;
    float* planes = outputs + HEAD_BLOCKS * HEAD_ROWS * PANEL;
    auto* nearest_columns = reinterpret_cast<std::int32_t*>(planes + 2 * FINE_PLANES * 2 * half);
    split_columns(in.nearest_column, in.width, half, nearest_columns);
    FineRow fine[2] = {lay_out_fine_row(half, planes), lay_out_fine_row(half, planes + FINE_PLANES * 2 * half)};
    for (std::int64_t band = begin; band < end; ++band) {
      const std::int64_t first = band * BAND, last = min(first + BAND, height);
      for (std::int64_t y = first; y < last && 2 * y < in.height; ++y) {
        make_planar(x + y * width * channels, width, channels, half, planar);
        const std::int64_t fine_rows = min(2, in.height - 2 * y);
        for (std::int64_t down = 0; down < fine_rows; ++down)
          read_fine_row(in, 2 * y + down, nearest_columns, half, fine[down]);
        for (std::int64_t left = 0; left < width; left += PANEL) {
          head_convolution(planar + left, half, conv, outputs);
          for (std::int64_t down = 0; down < fine_rows; ++down)
            for (std::int64_t right = 0; right < 2; ++right)
              for (int v = 0; v < PANEL_VECTORS; ++v)
                restore_pixels(outputs + (2 * down + right) * SUBPIXEL_OUTPUTS * PANEL + v * LANES, fine[down],
                               right * half + left + v * LANES, scale_m, limit_m);
        }
        for (std::int64_t down = 0; down < fine_rows; ++down) {
          const std::int64_t at = (2 * y + down) * in.width;
          join_columns(fine[down].depth, in.width, half, depth_m + at);
          join_columns(fine[down].error, in.width, half, error_m + at);
        }
      }
    }
  });
}

}  // namespace depthsr::DEPTHSR_ISA
