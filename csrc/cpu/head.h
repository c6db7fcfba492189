// The heads: 1×1 convolutions to four sub-pixels' logits, corrections, errors and adjustments of the refinement, and what
// follows at the full resolution.
//
// Here pixels lie in the lanes and outputs in the rows of the product, so that the softmax over the candidates is a few
// vector operations for each candidate.
#pragma once

#include <type_traits>

#include "convolutions.h"

namespace depthsr::DEPTHSR_ISA {

// Outputs of the first product: of each of the four sub-pixels the candidates' logits and the correction, then the hidden
// channels of the error and the refinement head, of which two more products make the rest.
constexpr int CORRECTION = CANDIDATES;
constexpr int SUBPIXEL_OUTPUTS = CANDIDATES + 1;
constexpr int HIDDEN = 4 * SUBPIXEL_OUTPUTS;
constexpr int HEAD_OUTPUTS = HIDDEN + 2 * HEAD_CHANNELS;

// What the refinement head adjusts: how much a pixel takes over, and how much it counts.
constexpr int REFINEMENT_MAPS = 2;

// Outputs that are computed together, for PANEL pixels, and how many blocks of them there are.
constexpr int head_rows(int outputs) { return outputs < block_rows(1) ? outputs : block_rows(1); }
constexpr int head_blocks(int outputs) { return (outputs + head_rows(outputs) - 1) / head_rows(outputs); }
constexpr int computed_outputs(int outputs) { return head_blocks(outputs) * head_rows(outputs); }

// Element (k, n) at (n / rows · inputs + k) · rows + n % rows, rows = head_rows(OUTPUTS). from(n): where output n has its
// weights, and its bias.
template <int OUTPUTS, typename From>
DEPTHSR_INLINE PackedConv<> pack_head(std::int64_t inputs, Arena& arena, From from) {
  constexpr int ROWS = head_rows(OUTPUTS);
  float* packed = arena.take(computed_outputs(OUTPUTS) * inputs);
  float* bias = arena.take(computed_outputs(OUTPUTS));
  if (arena.base)
    for (std::int64_t n = 0; n < computed_outputs(OUTPUTS); ++n) {
      const bool exists = n < OUTPUTS;
      const ConvWeights output = exists ? from(n) : ConvWeights{};
      bias[n] = exists ? *output.bias : 0.0f;
      for (std::int64_t k = 0; k < inputs; ++k)
        packed[(n / ROWS * inputs + k) * ROWS + n % ROWS] = exists ? output.weight[k] : 0.0f;
    }
  return {inputs, OUTPUTS, packed, bias};
}

DEPTHSR_INLINE PackedConv<> pack_heads(const UNetWeights& w, Arena& arena) {
  const std::int64_t inputs = w.widths[0];
  return pack_head<HEAD_OUTPUTS>(inputs, arena, [&](std::int64_t n) {
    const std::int64_t sub = n / SUBPIXEL_OUTPUTS, output = n % SUBPIXEL_OUTPUTS, hidden = n - HIDDEN;
    const bool logit = output < CANDIDATES;
    const ConvWeights& conv = hidden >= HEAD_CHANNELS ? w.refinement_hidden
                              : hidden >= 0           ? w.error_hidden
                              : logit                 ? w.choice_head
                                                      : w.residual_head;
    const std::int64_t row = hidden >= 0 ? hidden % HEAD_CHANNELS : logit ? 4 * output + sub : sub;
    return ConvWeights{conv.weight + row * inputs, conv.bias + row};
  });
}

template <int MAPS>
DEPTHSR_INLINE PackedConv<> pack_second_layer(const ConvWeights& layer, Arena& arena) {
  return pack_head<4 * MAPS>(HEAD_CHANNELS, arena, [&](std::int64_t n) {
    return ConvWeights{layer.weight + n * HEAD_CHANNELS, layer.bias + n};
  });
}

// The first product's bias with the condition's share, computed_outputs(HEAD_OUTPUTS) values.
DEPTHSR_INLINE void bias_of_heads(const UNetWeights& w, const PackedConv<>& heads, const float* condition, float* bias) {
  std::memcpy(bias, heads.bias, computed_outputs(HEAD_OUTPUTS) * sizeof(float));
  for (int c = 0; c < HEAD_CHANNELS; ++c) {
    bias[HIDDEN + c] += of_condition(w.error_condition, c, condition);
    bias[HIDDEN + HEAD_CHANNELS + c] += of_condition(w.refinement_condition, c, condition);
  }
}

// bias: of `first`, with the condition's share.
struct Heads {
  const PackedConv<>& first;
  const float* bias;
  const PackedConv<>&error, &refinement;
};

// Of PANEL pixels, PANEL values each: logits, corrections and hidden channels, then the four errors, then the adjustments.
constexpr int ERRORS = computed_outputs(HEAD_OUTPUTS);
constexpr int ADJUSTMENTS = ERRORS + computed_outputs(4);
constexpr int ALL_OUTPUTS = ADJUSTMENTS + computed_outputs(4 * REFINEMENT_MAPS);

// All outputs of PANEL pixels, computed_outputs(OUTPUTS) × PANEL. pixels: a row of conv.inputs planes, `pitch` floats each.
template <int OUTPUTS>
DEPTHSR_INLINE void head_convolution(const float* pixels, std::int64_t pitch, const PackedConv<>& conv, const float* bias,
                                     float* out) {
  constexpr int ROWS = head_rows(OUTPUTS);
  const float* weights = conv.weights;
  for (int block = 0; block < head_blocks(OUTPUTS); ++block) {
    V sums[ROWS][PANEL_VECTORS];
#pragma GCC unroll 12
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; ++v) sums[m][v] = splat(bias[block * ROWS + m]);
#pragma GCC unroll 2
    for (std::int64_t channel = 0; channel < conv.inputs; ++channel) {
      V inputs[PANEL_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; ++v) inputs[v] = load(pixels + channel * pitch + v * LANES);
#pragma GCC unroll 12
      for (int m = 0; m < ROWS; ++m) {
        const V weight = splat(weights[m]);
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECTORS; ++v) sums[m][v] += weight * inputs[v];
      }
      weights += ROWS;
    }
#pragma GCC unroll 12
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; ++v) store(out + (block * ROWS + m) * PANEL + v * LANES, sums[m][v]);
  }
}

// All of the outputs above, of PANEL pixels.
DEPTHSR_INLINE void head_outputs(const float* pixels, std::int64_t pitch, const Heads& heads, float* outputs) {
  head_convolution<HEAD_OUTPUTS>(pixels, pitch, heads.first, heads.bias, outputs);
  float* hidden = outputs + HIDDEN * PANEL;
  for (int i = 0; i < 2 * HEAD_CHANNELS * PANEL; i += LANES) store(hidden + i, max(load(hidden + i), V{}));
  head_convolution<4>(hidden, PANEL, heads.error, heads.error.bias, outputs + ERRORS * PANEL);
  head_convolution<4 * REFINEMENT_MAPS>(hidden + HEAD_CHANNELS * PANEL, PANEL, heads.refinement, heads.refinement.bias,
                                        outputs + ADJUSTMENTS * PANEL);
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
  float *depth, *error, *confidence, *weighted, *share;  // as UNetOutput's
  // The coarse rows above, at and below it, each as what lies left of, at and right of the pixel nearest to a column.
  float* coarse[3];
  std::int64_t coarse_row[3];  // that `coarse` holds
};

constexpr int FINE_PLANES = UPSAMPLINGS + 6 + 9;

// memory: FINE_PLANES · 2 · half floats.
DEPTHSR_INLINE FineRow lay_out_fine_row(std::int64_t half, float* memory) {
  const auto plane = [&](int i) { return memory + i * 2 * half; };
  FineRow row{};
  for (int i = 0; i < UPSAMPLINGS; ++i) row.candidates[i] = plane(i);
  row.ambiguity = plane(UPSAMPLINGS);
  row.depth = plane(UPSAMPLINGS + 1);
  row.error = plane(UPSAMPLINGS + 2);
  row.confidence = plane(UPSAMPLINGS + 3);
  row.weighted = plane(UPSAMPLINGS + 4);
  row.share = plane(UPSAMPLINGS + 5);
  for (int i = 0; i < 3; ++i) {
    row.coarse[i] = plane(UPSAMPLINGS + 6 + 3 * i);
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
    const V share = exponential(logit(k) - most);
    total += share;
    weighted += share * candidate(k);
  }
  const V shifted = error - 2.0f;
  const V softplus = max(shifted, V{}) + log(1.0f + exponential(-max(shifted, -shifted)));
  return {weighted / total + correction * ambiguity, softplus * ambiguity};
}

// As in depthsr/models/refinement.py.
constexpr float TOLERANCE = 0.05f, TAKEN_OVER_OFFSET = 1.0f, MOST_ADJUSTED = 8.0f, LEAST_DEPTH = 1e-2f;

DEPTHSR_INLINE V adjustment(const float* from) {
  return min(max(load(from), splat(-MOST_ADJUSTED)), splat(MOST_ADJUSTED));
}

// LANES fine pixels of sub-pixel `sub`, `at` in the split row. outputs: of head_outputs, from the first of the pixels on.
DEPTHSR_INLINE void restore_pixels(const float* outputs, std::int64_t sub, const FineRow& row, std::int64_t at, V scale_m) {
  const auto of_sub = [&](std::int64_t output) { return outputs + (sub * SUBPIXEL_OUTPUTS + output) * PANEL; };
  const MixedPixels mixed = mix_pixels(
      std::integral_constant<int, CANDIDATES>{}, [&](std::int64_t k) { return load(of_sub(k)); },
      [&](std::int64_t k) { return load(row.candidates[k] + at); }, load(of_sub(CORRECTION)),
      load(outputs + (ERRORS + sub) * PANEL), load(row.ambiguity + at));
  const V taken_over = adjustment(outputs + (ADJUSTMENTS + sub) * PANEL);
  const V counts = adjustment(outputs + (ADJUSTMENTS + 4 + sub) * PANEL);
  const V error = mixed.error / max(max(mixed.depth, -mixed.depth), splat(LEAST_DEPTH));
  const V confidence = TOLERANCE / (TOLERANCE + error * exponential(-counts));
  store(row.depth + at, mixed.depth);
  store(row.error + at, mixed.error * scale_m);
  store(row.confidence + at, confidence);
  store(row.weighted + at, confidence * mixed.depth);
  store(row.share + at, error / (error + TOLERANCE * exponential(TAKEN_OVER_OFFSET - taken_over)));
}

DEPTHSR_INLINE void join_columns(const float* from, std::int64_t width, std::int64_t half, float* to) {
  for (std::int64_t i = 0; i < width / 2; ++i) {
    to[2 * i] = from[i];
    to[2 * i + 1] = from[half + i];
  }
  if (width % 2 == 1) to[width - 1] = from[width / 2];
}

// x: height × width pixels of the finest stage.
template <typename T>
void head(const T* x, const UNetInput& in, const Heads& heads, std::int64_t height, std::int64_t width,
          const UNetOutput& out, ParallelFor parallel_for) {
  constexpr std::int64_t BAND = 8;
  const std::int64_t channels = heads.first.inputs;
  const std::int64_t half = round_up(width, PANEL);
  const V scale_m = splat(in.scale_m);
  parallel_for((height + BAND - 1) / BAND, 1, [&](std::int64_t begin, std::int64_t end) {
    float* planar = scratch(Scratch::RANGE, channels * half + ALL_OUTPUTS * PANEL + (2 * FINE_PLANES + 1) * 2 * half);
    float* outputs = planar + channels * half;
    float* planes = outputs + ALL_OUTPUTS * PANEL;
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
          head_outputs(planar + left, half, heads, outputs);
          for (std::int64_t down = 0; down < fine_rows; ++down)
            for (std::int64_t right = 0; right < 2; ++right)
              for (std::int64_t pixel = 0; pixel < PANEL; pixel += LANES)
                restore_pixels(outputs + pixel, 2 * down + right, fine[down], right * half + left + pixel, scale_m);
        }
        for (std::int64_t down = 0; down < fine_rows; ++down) {
          const std::int64_t at = (2 * y + down) * in.width;
          const FineRow& row = fine[down];
          join_columns(row.depth, in.width, half, out.depth + at);
          join_columns(row.error, in.width, half, out.error_m + at);
          join_columns(row.confidence, in.width, half, out.confidence + at);
          join_columns(row.weighted, in.width, half, out.weighted + at);
          join_columns(row.share, in.width, half, out.share + at);
        }
      }
    }
  });
}

}  // namespace depthsr::DEPTHSR_ISA
