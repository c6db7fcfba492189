// The weights of a NAFNet block as its gradients need them, the sums that its gradients are, and the way back from the
// gradients of folded weights to those of the parameters, which is exact.
#pragma once

#include "gradients.h"
#include "naf_block.h"

namespace depthsr::DEPTHSR_ISA {

// Beside PackedNafBlock: its matrices transposed, to carry gradients back.
struct PackedNafBlockBackward {
  const float* expand;     // 2C -> C
  const float* ffn;        // 2C -> C
  const float* shrink;     // C -> C
  const float* depthwise;  // 9 taps of 2 · stride, the last first
};

DEPTHSR_INLINE PackedNafBlockBackward pack_backward(const NafBlockWeights& w, const PackedNafBlock<>& block,
                                                    Carve& carve) {
  const std::int64_t channels = block.channels, pair = 2 * block.stride;
  float* expand = carve(packed_size(channels, 2 * channels));
  float* ffn = carve(packed_size(channels, 2 * channels));
  float* shrink = carve(packed_size(channels, channels));
  float* depthwise = carve(9 * pair);
  if (expand == nullptr) return {};
  pack(channels, 2 * channels, expand,
       [&](std::int64_t n, std::int64_t k) { return w.conv1_weight[k * channels + n] * w.norm1_weight[n]; });
  pack(channels, 2 * channels, ffn,
       [&](std::int64_t n, std::int64_t k) { return w.conv4_weight[k * channels + n] * w.norm2_weight[n]; });
  pack(channels, channels, shrink,
       [&](std::int64_t n, std::int64_t k) { return w.conv5_weight[k * channels + n] * w.gamma[k]; });
  for (std::int64_t tap = 0; tap < 9; ++tap)
    std::memcpy(depthwise + tap * pair, block.depthwise + (8 - tap) * pair, pair * sizeof(float));
  return {expand, ffn, shrink, depthwise};
}

// Sums over the pixels of one part: gradients of folded weights, as [output][input], outputs of 2C half by half.
struct SecondHalfSums {
  float *project, *ffn, *shrink;                 // C, 2C, C rows of `stride`
  float *project_bias, *ffn_bias, *shrink_bias;  // stride, 2 · stride, stride

  SecondHalfSums(const PackedNafBlock<>& block, Carve carve) {
    const std::int64_t square = block.channels * block.stride;
    project = carve(square);
    ffn = carve(2 * square);
    shrink = carve(square);
    project_bias = carve(block.stride);
    ffn_bias = carve(2 * block.stride);
    shrink_bias = carve(block.stride);
  }
  static std::int64_t size(std::int64_t channels, std::int64_t stride) { return 4 * (channels + 1) * stride; }
};

struct FirstHalfSums {
  float* expand;          // 2C rows of `stride`
  float* expand_bias;     // 2 · stride
  float* depthwise;       // 9 taps of 2 · stride
  float* depthwise_bias;  // 2 · stride

  FirstHalfSums(const PackedNafBlock<>& block, Carve carve) {
    expand = carve(2 * block.channels * block.stride);
    expand_bias = carve(2 * block.stride);
    depthwise = carve(18 * block.stride);
    depthwise_bias = carve(2 * block.stride);
  }
  static std::int64_t size(std::int64_t channels, std::int64_t stride) { return (2 * channels + 22) * stride; }
};

// --- back to the parameters ---------------------------------------------------------------------------------------

// Of the convolution C -> 2C after a LayerNorm, and of that LayerNorm.
DEPTHSR_INLINE void unfold_after_norm(std::int64_t channels, std::int64_t stride, const float* folded,
                                      const float* folded_bias, const float* weight, const float* gain,
                                      const float* offset, float* grad_weight, float* grad_bias, float* grad_gain,
                                      float* grad_offset) {
  std::memset(grad_gain, 0, channels * sizeof(float));
  std::memset(grad_offset, 0, channels * sizeof(float));
  for (std::int64_t o = 0; o < 2 * channels; ++o) {
    const float bias = folded_bias[o / channels * stride + o % channels];
    grad_bias[o] = bias;
    for (std::int64_t k = 0; k < channels; ++k) {
      const float grad = folded[o * stride + k], value = weight[o * channels + k];
      grad_weight[o * channels + k] = grad * gain[k] + bias * offset[k];
      grad_gain[k] += grad * value;
      grad_offset[k] += bias * value;
    }
  }
}

// Of a convolution C -> C and the vector that its result is multiplied by.
DEPTHSR_INLINE void unfold_before_scale(std::int64_t channels, std::int64_t stride, const float* folded,
                                        const float* folded_bias, const float* weight, const float* bias,
                                        const float* scale, float* grad_weight, float* grad_bias, float* grad_scale) {
  for (std::int64_t o = 0; o < channels; ++o) {
    float total = folded_bias[o] * bias[o];
    for (std::int64_t k = 0; k < channels; ++k) {
      total += folded[o * stride + k] * weight[o * channels + k];
      grad_weight[o * channels + k] = folded[o * stride + k] * scale[o];
    }
    grad_scale[o] = total;
    grad_bias[o] = folded_bias[o] * scale[o];
  }
}

// From a frame's sums `folded` for conv3 on y times attention: adds to `total`, the sums for conv3 on the attended y, and
// to the attention's gradients, and gives each pixel's share of the gradient of y's mean.
DEPTHSR_INLINE void attention_backward(const NafBlockWeights& w, const PackedNafBlock<>& block, const float* mean,
                                       const float* attention, std::int64_t pixels, const float* folded, float* total,
                                       const NafBlockGradients& gradients, float* grad_attention, float* grad_mean) {
  const std::int64_t channels = block.channels, stride = block.stride;
  std::memset(grad_attention, 0, stride * sizeof(float));
  std::memset(grad_mean, 0, stride * sizeof(float));
  for (std::int64_t o = 0; o < channels; ++o)
    for (std::int64_t c = 0; c < channels; ++c) {
      grad_attention[c] += folded[o * stride + c] * w.conv3_weight[o * channels + c] * w.beta[o];
      total[o * stride + c] += folded[o * stride + c] * attention[c];
    }
  for (std::int64_t n = 0; n < channels; ++n) {
    gradients.attention_bias[n] += grad_attention[n];
    for (std::int64_t k = 0; k < channels; ++k) {
      gradients.attention_weight[n * channels + k] += grad_attention[n] * mean[k];
      grad_mean[k] += grad_attention[n] * w.attention_weight[n * channels + k];
    }
  }
  for (std::int64_t k = 0; k < channels; ++k) grad_mean[k] /= static_cast<float>(pixels);
}

}  // namespace depthsr::DEPTHSR_ISA
