// AdaIN of the relative path's features with the depth path's statistics, projected and added to the depth path.
#pragma once

#include "gemm.h"
#include "naf_block.h"
#include "unet_weights.h"

namespace depthsr::DEPTHSR_ISA {

// The sum of value(i) for i < count. In four chains: one alone would wait for each addition.
template <typename Value>
DEPTHSR_INLINE V sum_over(std::int64_t count, Value value) {
  V chains[4] = {};
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) chains[k] += value(i + k);
  for (; i < count; ++i) chains[0] += value(i);
  return (chains[0] + chains[1]) + (chains[2] + chains[3]);
}

// Mean and sum of squared deviations of each channel over one run of pixels: 2 · stride floats, [mean, squares].
template <typename T>
DEPTHSR_INLINE void run_moments(const T* x, std::int64_t count, std::int64_t channels, float* moments,
                                std::int64_t stride) {
  for (std::int64_t c = 0; c < channels; c += LANES) {
    const auto pixel = [&](std::int64_t i) { return load(x + i * channels + c, channels - c); };
    const V mean = sum_over(count, pixel) / splat(static_cast<float>(count));
    const V squares = sum_over(count, [&](std::int64_t i) {
      const V centred = pixel(i) - mean;
      return centred * centred;
    });
    store(moments + c, mean);
    store(moments + stride + c, squares);
  }
}

// Mean and biased variance of each channel from the moments of its runs, merged pairwise as Chan et al. 1979.
DEPTHSR_INLINE void merge_moments(const float* moments, std::int64_t runs, std::int64_t run_pixels,
                                  std::int64_t pixels, std::int64_t channels, std::int64_t stride, float* mean,
                                  float* variance) {
  for (std::int64_t first = 0; first < channels; first += LANES) {
    double count = 0.0, average[LANES] = {}, squares[LANES] = {};
    for (std::int64_t run = 0; run < runs; ++run) {
      const double more = static_cast<double>(min(run_pixels, pixels - run * run_pixels)), total = count + more;
      const double share = more / total;
      const float* here = moments + run * 2 * stride + first;
      for (int c = 0; c < LANES; ++c) {
        const double difference = here[c] - average[c];
        average[c] += difference * share;
        squares[c] += here[stride + c] + difference * difference * count * share;
      }
      count = total;
    }
    for (std::int64_t c = 0; c < min(LANES, channels - first); ++c) {
      mean[first + c] = static_cast<float>(average[c]);
      variance[first + c] = static_cast<float>(squares[c] / count);
    }
  }
}

constexpr std::int64_t MOMENT_RUN = 128;
constexpr float ADAIN_EPS = 1e-5f;

DEPTHSR_INLINE std::int64_t fusion_scratch(std::int64_t pixels, std::int64_t channels) {
  const std::int64_t stride = round_up(channels, PANEL), runs = (pixels + MOMENT_RUN - 1) / MOMENT_RUN;
  return runs * 4 * stride + 7 * stride + packed_size(channels, channels);
}

// depth += project(adain(relative, depth)): AdaIN is affine a channel, so it is folded into the projection.
template <typename O, typename T>
void fuse(const T* relative, const ConvWeights& project, std::int64_t pixels, std::int64_t channels, float* memory,
          T* depth, ParallelFor parallel_for) {
  const std::int64_t stride = round_up(channels, PANEL), runs = (pixels + MOMENT_RUN - 1) / MOMENT_RUN;
  float* moments[2] = {memory, memory + runs * 2 * stride};
  float* statistics = memory + runs * 4 * stride;  // mean and variance of both, then the fold
  float* ratio = statistics + 4 * stride;
  float* offset = ratio + stride;
  float* bias = offset + stride;
  O* weights = reinterpret_cast<O*>(bias + stride);
  parallel_for(runs, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t run = begin; run < end; ++run) {
      const std::int64_t first = run * MOMENT_RUN, count = min(MOMENT_RUN, pixels - first);
      run_moments(relative + first * channels, count, channels, moments[0] + run * 2 * stride, stride);
      run_moments(depth + first * channels, count, channels, moments[1] + run * 2 * stride, stride);
    }
  });
  for (int i = 0; i < 2; ++i)
    merge_moments(moments[i], runs, MOMENT_RUN, pixels, channels, stride, statistics + 2 * i * stride,
                  statistics + (2 * i + 1) * stride);
  for (std::int64_t c = 0; c < channels; ++c) {
    ratio[c] = __builtin_sqrtf((statistics[3 * stride + c] + ADAIN_EPS) / (statistics[stride + c] + ADAIN_EPS));
    offset[c] = statistics[2 * stride + c] - ratio[c] * statistics[c];
  }
  pack(channels, channels, weights,
       [&](std::int64_t n, std::int64_t k) { return project.weight[n * channels + k] * ratio[k]; });
  for (std::int64_t n = 0; n < stride; ++n) {
    bias[n] = n < channels ? project.bias[n] : 0.0f;
    for (std::int64_t k = 0; n < channels && k < channels; ++k) bias[n] += project.weight[n * channels + k] * offset[k];
  }
  parallel_for(runs, 4, [&](std::int64_t begin, std::int64_t end) {
    float* floats = scratch(Scratch::RANGE, MOMENT_RUN * channels + LANES);
    for (std::int64_t run = begin; run < end; ++run) {
      const std::int64_t first = run * MOMENT_RUN, count = min(MOMENT_RUN, pixels - first);
      const O* inputs = as_operands<O>(relative + first * channels, count * channels, floats);
      for (std::int64_t column = 0; column < channels; column += PANEL)
        gemm(Rows<1, O>{{inputs}, channels, channels}, count, weights + column * channels, 0,
             [&](std::int64_t m, const V* sums) {
               for (int v = 0; v < PANEL_VECTORS; ++v) {
                 const std::int64_t c = column + v * LANES;
                 if (c >= channels) break;
                 T* to = depth + (first + m) * channels + c;
                 store(to, load(to, channels - c) + sums[v] + load(bias + c), channels - c);
               }
             });
    }
  });
}

}  // namespace depthsr::DEPTHSR_ISA
