// The head: a 1×1 convolution to four sub-pixels' logits, corrections and errors, and what follows at the full resolution.
//
// Here pixels lie in the lanes and outputs in the rows of the product, so that the softmax over the candidates is a few
// vector operations for each candidate.
#pragma once

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

// What the full-resolution part reads and writes, of one fine row: even columns, then odd ones, `half` floats each.
struct FineRow {
  float* candidates[CANDIDATES];
  float* ambiguity;
  float* depth;
  float* error;
};

constexpr int FINE_PLANES = CANDIDATES + 3;

// Splits a row into its even and odd columns; what lies beyond its last column repeats it.
DEPTHSR_INLINE void split_columns(const float* from, std::int64_t width, std::int64_t half, float* to) {
  for (std::int64_t i = 0; i < width / 2; ++i) {
    to[i] = from[2 * i];
    to[half + i] = from[2 * i + 1];
  }
  for (std::int64_t x = width / 2 * 2; x < 2 * half; ++x) to[x % 2 * half + x / 2] = from[width - 1];
}

DEPTHSR_INLINE void read_fine_row(const UNetInput& in, std::int64_t y, std::int64_t half, bool same_coarse_row,
                                  const FineRow& row) {
  for (int i = 0; i < UPSAMPLINGS; ++i)
    split_columns(in.upsampled + (i * in.height + y) * in.width, in.width, half, row.candidates[i]);
  split_columns(in.ambiguity + y * in.width, in.width, half, row.ambiguity);
  if (same_coarse_row) return;
  for (int neighbour = 0; neighbour < 9; ++neighbour) {
    const std::int64_t coarse_y = min(max(in.nearest_row[y] + neighbour / 3 - 1, 0), in.low_height - 1);
    const float* coarse = in.filled + coarse_y * in.low_width;
    float* to = row.candidates[UPSAMPLINGS + neighbour];
    for (std::int64_t x = 0; x < 2 * half; ++x) {
      const std::int64_t nearest = in.nearest_column[min(x, in.width - 1)] + neighbour % 3 - 1;
      to[x % 2 * half + x / 2] = coarse[min(max(nearest, 0), in.low_width - 1)];
    }
  }
}

// LANES fine pixels of one sub-pixel, `at` in the split row: softmax, choice, correction, softplus.
DEPTHSR_INLINE void restore_pixels(const float* outputs, const FineRow& row, std::int64_t at, V scale_m, V limit_m) {
  V most = load(outputs);
#pragma GCC unroll 12
  for (int i = 1; i < CANDIDATES; ++i) most = max(most, load(outputs + i * PANEL));
  V total{}, weighted{};
#pragma GCC unroll 12
  for (int i = 0; i < CANDIDATES; ++i) {
    const V share = exp(load(outputs + i * PANEL) - most);
    total += share;
    weighted += share * load(row.candidates[i] + at);
  }
  const V ambiguity = load(row.ambiguity + at);
  const V depth = weighted / total + load(outputs + CORRECTION * PANEL) * ambiguity;
  const V logit = load(outputs + ERROR * PANEL) - 2.0f;
  const V error = max(logit, V{}) + log(1.0f + exp(-max(logit, -logit)));  // softplus
  store(row.depth + at, min(max(depth * scale_m, V{}), limit_m));
  store(row.error + at, error * ambiguity * scale_m);
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
                                                2 * FINE_PLANES * 2 * half);
    float* outputs = planar + channels * half;
    FineRow fine[2];
    for (int down = 0; down < 2; ++down) {
      float* planes = outputs + HEAD_BLOCKS * HEAD_ROWS * PANEL + down * FINE_PLANES * 2 * half;
      for (int i = 0; i < CANDIDATES; ++i) fine[down].candidates[i] = planes + i * 2 * half;
      fine[down].ambiguity = planes + CANDIDATES * 2 * half;
      fine[down].depth = planes + (CANDIDATES + 1) * 2 * half;
      fine[down].error = planes + (CANDIDATES + 2) * 2 * half;
    }
    const auto make_planar = [&](std::int64_t y) {
      const T* from = x + y * width * channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        for (std::int64_t i = 0; i < width; ++i) planar[c * half + i] = as_float(from[i * channels + c]);
        for (std::int64_t i = width; i < half; ++i) planar[c * half + i] = 0.0f;
      }
    };
    for (std::int64_t band = begin; band < end; ++band) {
      const std::int64_t first = band * BAND, last = min(first + BAND, height);
      std::int64_t coarse_row[2] = {-2, -2};  // that the neighbours of each fine row were read for
      for (std::int64_t y = first; y < last && 2 * y < in.height; ++y) {
        make_planar(y);
        const std::int64_t fine_rows = min(2, in.height - 2 * y);
        for (std::int64_t down = 0; down < fine_rows; ++down) {
          const std::int64_t nearest = in.nearest_row[2 * y + down];
          read_fine_row(in, 2 * y + down, half, nearest == coarse_row[down], fine[down]);
          coarse_row[down] = nearest;
        }
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
