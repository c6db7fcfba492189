// A NAFNet block's weights as its passes (naf_block.h) read them. Folded into them, exactly: LN's gain and bias into the
// 1×1 after it, attention into conv3, beta and gamma into the convolutions before them.
#pragma once

#include "gemm.h"
#include "isa.h"

namespace depthsr::DEPTHSR_ISA {

// Weights of a block as the passes read them. Vectors of 2C values have their halves `stride` apart.
template <typename O = float>
struct PackedNafBlock {
  std::int64_t channels;
  std::int64_t stride;       // channels rounded up to a whole panel
  const O* expand;           // conv1 after norm1: C -> 2 · stride
  const float* expand_bias;
  const float* depthwise;    // conv2: 9 taps of 2 · stride
  const float* depthwise_bias;
  const O* ffn;              // conv4 after norm2: C -> 2 · stride
  const float* ffn_bias;
  const O* shrink;           // conv5 times gamma: C -> C
  const float* shrink_bias;
  const float* project_bias;  // conv3's bias times beta; its weights depend on the frame (attended_projection)
};

// The same block with its number of channels known to the compiler, which then unrolls the short loops over them: for few
// channels those are what takes the time. CHANNELS 0: any number.
template <int CHANNELS, typename O>
struct KnownNafBlock : PackedNafBlock<O> {
  static constexpr std::int64_t channels = CHANNELS;
  static constexpr std::int64_t stride = (CHANNELS + PANEL - 1) / PANEL * PANEL;
};
template <typename O>
struct KnownNafBlock<0, O> : PackedNafBlock<O> {};

// In floats.
template <typename O = float>
DEPTHSR_INLINE std::int64_t packed_naf_block_size(std::int64_t channels) {
  const std::int64_t stride = round_up(channels, PANEL);
  return floats_of<O>(2 * packed_size(2 * stride, channels) + packed_size(channels, channels)) +
         (2 + 18 + 2 + 2 + 1 + 1) * stride;
}

// Packs the convolution C -> 2C whose input is a LayerNorm's result, with that LayerNorm's gain and bias folded in.
template <typename O>
DEPTHSR_INLINE void pack_after_norm(std::int64_t channels, const float* weight, const float* bias, const float* gain,
                                    const float* offset, O* packed, float* packed_bias) {
  const std::int64_t stride = round_up(channels, PANEL);
  for (std::int64_t half = 0; half < 2; ++half) {
    const float* rows = weight + half * channels * channels;
    pack(channels, channels, packed + half * packed_size(channels, channels),
         [&](std::int64_t n, std::int64_t k) { return rows[n * channels + k] * gain[k]; });
    for (std::int64_t n = 0; n < stride; ++n) {
      float total = 0.0f;
      if (n < channels) {
        total = bias[half * channels + n];
        for (std::int64_t k = 0; k < channels; ++k) total += rows[n * channels + k] * offset[k];
      }
      packed_bias[half * stride + n] = total;
    }
  }
}

template <typename O = float>
DEPTHSR_INLINE PackedNafBlock<O> pack_naf_block(const NafBlockWeights& w, std::int64_t channels, float* memory) {
  const std::int64_t stride = round_up(channels, PANEL);
  const auto take = [&memory](std::int64_t floats) {
    float* here = memory;
    memory += floats;
    return here;
  };
  const auto take_operands = [&](std::int64_t count) { return reinterpret_cast<O*>(take(floats_of<O>(count))); };
  O* expand = take_operands(packed_size(2 * stride, channels));
  O* ffn = take_operands(packed_size(2 * stride, channels));
  O* shrink = take_operands(packed_size(channels, channels));
  float* expand_bias = take(2 * stride);
  float* depthwise = take(18 * stride);
  float* depthwise_bias = take(2 * stride);
  float* ffn_bias = take(2 * stride);
  float* shrink_bias = take(stride);
  float* project_bias = take(stride);
  pack_after_norm(channels, w.conv1_weight, w.conv1_bias, w.norm1_weight, w.norm1_bias, expand, expand_bias);
  pack_after_norm(channels, w.conv4_weight, w.conv4_bias, w.norm2_weight, w.norm2_bias, ffn, ffn_bias);
  pack(channels, channels, shrink,
       [&](std::int64_t n, std::int64_t k) { return w.conv5_weight[n * channels + k] * w.gamma[n]; });
  for (std::int64_t c = 0; c < stride; ++c) {
    const bool exists = c < channels;
    for (std::int64_t half = 0; half < 2; ++half) {
      const std::int64_t from = half * channels + c;
      depthwise_bias[half * stride + c] = exists ? w.conv2_bias[from] : 0.0f;
      for (std::int64_t tap = 0; tap < 9; ++tap)
        depthwise[tap * 2 * stride + half * stride + c] = exists ? w.conv2_weight[from * 9 + tap] : 0.0f;
    }
    shrink_bias[c] = exists ? w.conv5_bias[c] * w.gamma[c] : 0.0f;
    project_bias[c] = exists ? w.conv3_bias[c] * w.beta[c] : 0.0f;
  }
  return {channels, stride, expand, expand_bias, depthwise, depthwise_bias, ffn, ffn_bias, shrink, shrink_bias,
          project_bias};
}

// conv3 times beta on y times attention(mean of y), as one packed matrix.
template <typename O>
DEPTHSR_INLINE void attended_projection(const NafBlockWeights& w, std::int64_t channels, const float* mean,
                                        float* attention, O* packed) {
  for (std::int64_t n = 0; n < channels; ++n) {
    V total{};
    for (std::int64_t k = 0; k < channels; k += LANES)
      total += load(w.attention_weight + n * channels + k, channels - k) * load(mean + k, channels - k);
    attention[n] = w.attention_bias[n] + sum(total);
  }
  pack(channels, channels, packed, [&](std::int64_t n, std::int64_t k) {
    return w.conv3_weight[n * channels + k] * w.beta[n] * attention[k];
  });
}

}  // namespace depthsr::DEPTHSR_ISA
