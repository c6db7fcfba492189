// The two stems: 4×4 convolutions with stride 2 that read the frame and the prior where they lie.
#pragma once

#include "convolutions.h"

namespace depthsr::DEPTHSR_ISA {

// Normalised depth and ambiguity above this are shown to the network as this.
constexpr float FEATURE_LIMIT = 2.0f;

// The guide's channels come last among the depth stem's: both stems read the same rows.
constexpr int GUIDE_FEATURES = 3;
constexpr int KERNEL = 4;

// Packed inputs in the order kernel row, channel, kernel column: rows of features are planar.
DEPTHSR_INLINE PackedConv<> pack_stem(const ConvWeights& conv, std::int64_t inputs, std::int64_t outputs, Arena& arena) {
  const std::int64_t depth = KERNEL * KERNEL * inputs;
  float* packed = arena.take(packed_size(outputs, depth));
  float* bias = arena.take(round_up(outputs, PANEL));
  if (arena.base) {
    pack(outputs, depth, packed, [&](std::int64_t n, std::int64_t k) {
      const std::int64_t row = k / (KERNEL * inputs), channel = k / KERNEL % inputs, column = k % KERNEL;
      return conv.weight[((n * inputs + channel) * KERNEL + row) * KERNEL + column];
    });
    for (std::int64_t n = 0; n < round_up(outputs, PANEL); ++n) bias[n] = n < outputs ? conv.bias[n] : 0.0f;
  }
  return {inputs, outputs, packed, bias};
}

DEPTHSR_INLINE V clamped_feature(V value) { return min(max(value, V{}), splat(FEATURE_LIMIT)); }

// One row of the depth stem's features, DEPTH_FEATURES planes of `pitch` floats: a zero, padded_width values, zeros.
// Beyond the frame's right and lower border its last pixels are repeated; rows outside of the padded frame are zero.
DEPTHSR_INLINE void feature_row(const UNetInput& in, std::int64_t row, std::int64_t padded_height,
                                std::int64_t padded_width, std::int64_t pitch, float* out) {
  std::memset(out, 0, DEPTH_FEATURES * pitch * sizeof(float));
  if (row < 0 || row >= padded_height) return;
  const std::int64_t width = in.width, start = min(row, in.height - 1) * width, plane = in.height * width;
  const auto feature = [&](int channel) { return out + channel * pitch + 1; };
  for (std::int64_t x = 0; x < width; x += LANES) {
    const std::int64_t count = width - x;
    const V first = load(in.upsampled + start + x, count);
    for (int i = 0; i < UPSAMPLINGS; ++i)
      store(feature(i) + x, clamped_feature(load(in.upsampled + i * plane + start + x, count)), count);
    store(feature(UPSAMPLINGS) + x, log(1.0f + 30.0f * max(first, V{})) * (1.0f / 3.5f), count);
    store(feature(UPSAMPLINGS + 1) + x, clamped_feature(load(in.ambiguity + start + x, count)), count);
    store(feature(UPSAMPLINGS + 2) + x, load(in.valid + start + x, count), count);
  }
  for (int i = 0; i < GUIDE_FEATURES; ++i) {
    const float* colour = in.rgb_HW3 + start * 3 + i;
    float* guide = feature(DEPTH_FEATURES - GUIDE_FEATURES + i);
    for (std::int64_t x = 0; x < width; ++x) guide[x] = (colour[3 * x] - 0.5f) * 2.0f;
  }
  for (int i = 0; i < DEPTH_FEATURES; ++i)
    for (std::int64_t x = width; x < padded_width; ++x) feature(i)[x] = feature(i)[width - 1];
}

// One row of a stem's result from four rows of features, the last FEATURES planes of each.
template <int FEATURES, typename T>
DEPTHSR_INLINE void stem_row(const float* const* rows, std::int64_t pitch, const PackedConv<>& conv, const float* bias,
                             std::int64_t width, T* out) {
  Rows<KERNEL * FEATURES> pixels{{}, 2, KERNEL};
  for (int i = 0; i < KERNEL * FEATURES; ++i)
    pixels.runs[i] = rows[i / FEATURES] + (DEPTH_FEATURES - FEATURES + i % FEATURES) * pitch;
  for (std::int64_t column = 0; column < conv.outputs; column += PANEL)
    gemm(pixels, width, conv.weights + column * KERNEL * KERNEL * FEATURES, 0, [&](std::int64_t m, const V* sums) {
      for (int v = 0; v < PANEL_VECTORS; ++v) {
        const std::int64_t c = column + v * LANES;
        if (c < conv.outputs) store(out + m * conv.outputs + c, sums[v] + load(bias + c), conv.outputs - c);
      }
    });
}

// Both stems. depth_bias: the depth stem's bias with the condition's share.
template <typename T>
void stems(const UNetInput& in, const PackedConv<>& relative_stem, const PackedConv<>& depth_stem, const float* depth_bias,
           std::int64_t padded_height, std::int64_t padded_width, T* relative, T* depth, ParallelFor parallel_for) {
  constexpr std::int64_t BAND = 16;  // rows of the result on one thread; their features' rows are made once
  const std::int64_t height = padded_height / 2, width = padded_width / 2;
  const std::int64_t pitch = round_up(padded_width + 2, PANEL);
  parallel_for((height + BAND - 1) / BAND, 1, [&](std::int64_t begin, std::int64_t end) {
    float* memory = scratch(Scratch::RANGE, KERNEL * DEPTH_FEATURES * pitch);
    const auto slot = [&](std::int64_t row) { return memory + (row + KERNEL) % KERNEL * DEPTH_FEATURES * pitch; };
    const auto make = [&](std::int64_t row) { feature_row(in, row, padded_height, padded_width, pitch, slot(row)); };
    for (std::int64_t band = begin; band < end; ++band) {
      const std::int64_t first = band * BAND, last = min(first + BAND, height);
      make(2 * first - 1);
      make(2 * first);
      for (std::int64_t y = first; y < last; ++y) {
        make(2 * y + 1);
        make(2 * y + 2);
        const float* rows[KERNEL];
        for (int i = 0; i < KERNEL; ++i) rows[i] = slot(2 * y - 1 + i);
        stem_row<GUIDE_FEATURES>(rows, pitch, relative_stem, relative_stem.bias, width,
                                 relative + y * width * relative_stem.outputs);
        stem_row<DEPTH_FEATURES>(rows, pitch, depth_stem, depth_bias, width, depth + y * width * depth_stem.outputs);
      }
    }
  });
}

}  // namespace depthsr::DEPTHSR_ISA
