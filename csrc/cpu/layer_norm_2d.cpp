#include <algorithm>
#include <cmath>
#include <vector>

#include "../storage.h"
#include "sums.h"

namespace depthsr {
namespace {

// Pixels a task: fixed, so that the order in which weight gradients are summed never depends on the threads.
constexpr std::int64_t kTaskPixels = 1024;
// Channels-first keeps C×kTile values of neighbouring pixels at hand: 24 KiB of float at C = 192 stay in the L1 cache.
constexpr std::int64_t kTile = 32;

// Calls task(index, batch, first pixel, end pixel) for each group of at most kTaskPixels pixels of one frame.
template <typename Task>
void for_each_task(Shape shape, ParallelFor parallel_for, Task task) {
  const std::int64_t per_frame = (shape.pixels + kTaskPixels - 1) / kTaskPixels;
  parallel_for(shape.batch * per_frame, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t first = index % per_frame * kTaskPixels;
      task(index, index / per_frame, first, std::min(first + kTaskPixels, shape.pixels));
    }
  });
}

std::int64_t task_count(Shape shape) { return shape.batch * ((shape.pixels + kTaskPixels - 1) / kTaskPixels); }

// Replaces a pixel's channels by its normalised ones; returns 1 / standard deviation.
float normalise_row(std::int64_t channels, float eps, float* x) {
  const float mean = sum_of(channels, [=](std::int64_t c) { return x[c]; }) / channels;
  const float m2 = sum_of(channels, [=](std::int64_t c) { return (x[c] - mean) * (x[c] - mean); });
  const float rstd = 1.0f / std::sqrt(m2 / channels + eps);
  for (std::int64_t c = 0; c < channels; ++c) x[c] = (x[c] - mean) * rstd;
  return rstd;
}

// The same for a tile x[channel][kTile] of kTile pixels at once.
void normalise_tile(std::int64_t channels, float eps, float* x, float* rstd) {
  float mean[kTile] = {};
  float m2[kTile] = {};
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t p = 0; p < kTile; ++p) mean[p] += x[c * kTile + p];
  for (std::int64_t p = 0; p < kTile; ++p) mean[p] /= channels;
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t p = 0; p < kTile; ++p) {
      const float deviation = x[c * kTile + p] - mean[p];
      m2[p] += deviation * deviation;
    }
  for (std::int64_t p = 0; p < kTile; ++p) rstd[p] = 1.0f / std::sqrt(m2[p] / channels + eps);
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t p = 0; p < kTile; ++p) x[c * kTile + p] = (x[c * kTile + p] - mean[p]) * rstd[p];
}

// Channel planes, `pixels` apart, into tile[channel][kTile]; pixels past `width` become zero.
template <typename T>
void load_tile(const T* x, Shape shape, std::int64_t width, float* tile) {
  for (std::int64_t c = 0; c < shape.channels; ++c) {
    load_row(x + c * shape.pixels, width, tile + c * kTile);
    std::fill(tile + c * kTile + width, tile + (c + 1) * kTile, 0.0f);
  }
}

}  // namespace

template <typename T>
void layer_norm_2d(const T* x, const float* weight, const float* bias, float eps, Shape shape, T* out,
                   ParallelFor parallel_for) {
  const std::int64_t channels = shape.channels;
  for_each_task(shape, parallel_for, [=](auto, auto batch, auto begin, auto end) {
    if (shape.channels_last) {
      std::vector<float> row(channels);
      for (std::int64_t pixel = begin; pixel < end; ++pixel) {
        const std::int64_t start = (batch * shape.pixels + pixel) * channels;
        load_row(x + start, channels, row.data());
        normalise_row(channels, eps, row.data());
        for (std::int64_t c = 0; c < channels; ++c) store(row[c] * weight[c] + bias[c], out[start + c]);
      }
      return;
    }
    std::vector<float> tile(channels * kTile);
    float rstd[kTile];
    for (std::int64_t pixel = begin; pixel < end; pixel += kTile) {
      const std::int64_t width = std::min(kTile, end - pixel);
      const std::int64_t start = batch * channels * shape.pixels + pixel;
      load_tile(x + start, shape, width, tile.data());
      normalise_tile(channels, eps, tile.data(), rstd);
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t p = 0; p < width; ++p)
          store(tile[c * kTile + p] * weight[c] + bias[c], out[start + c * shape.pixels + p]);
    }
  });
}

// With x̂ the normalised x and h = grad_out * weight: grad_x = (h - mean h - x̂ * mean(h * x̂)) / std, means over the
// channels; grad_weight = Σ grad_out * x̂, grad_bias = Σ grad_out over all pixels.
template <typename T>
void layer_norm_2d_backward(const T* grad_out, const T* x, const float* weight, float eps, Shape shape, T* grad_x,
                            float* grad_weight, float* grad_bias, ParallelFor parallel_for) {
  const std::int64_t channels = shape.channels;
  const std::int64_t tasks = task_count(shape);
  std::vector<float> partial(tasks * 2 * channels, 0.0f);  // [task][weight, bias][channel]
  for_each_task(shape, parallel_for, [=, &partial](auto index, auto batch, auto begin, auto end) {
    float* weight_sum = partial.data() + index * 2 * channels;
    float* bias_sum = weight_sum + channels;
    if (shape.channels_last) {
      std::vector<float> normalised(channels), grad(channels);
      for (std::int64_t pixel = begin; pixel < end; ++pixel) {
        const std::int64_t start = (batch * shape.pixels + pixel) * channels;
        load_row(x + start, channels, normalised.data());
        load_row(grad_out + start, channels, grad.data());
        const float rstd = normalise_row(channels, eps, normalised.data());
        for (std::int64_t c = 0; c < channels; ++c) {
          weight_sum[c] += grad[c] * normalised[c];
          bias_sum[c] += grad[c];
          grad[c] *= weight[c];
        }
        const float* h = grad.data();
        const float* x_hat = normalised.data();
        const float mean_h = sum_of(channels, [=](auto c) { return h[c]; }) / channels;
        const float mean_hx = sum_of(channels, [=](auto c) { return h[c] * x_hat[c]; }) / channels;
        for (std::int64_t c = 0; c < channels; ++c)
          store(rstd * (h[c] - mean_h - x_hat[c] * mean_hx), grad_x[start + c]);
      }
      return;
    }
    std::vector<float> normalised(channels * kTile), grad(channels * kTile);
    float rstd[kTile];
    for (std::int64_t pixel = begin; pixel < end; pixel += kTile) {
      const std::int64_t width = std::min(kTile, end - pixel);
      const std::int64_t start = batch * channels * shape.pixels + pixel;
      load_tile(x + start, shape, width, normalised.data());
      load_tile(grad_out + start, shape, width, grad.data());  // zero past the width: adds nothing to the sums
      normalise_tile(channels, eps, normalised.data(), rstd);
      float mean_h[kTile] = {};
      float mean_hx[kTile] = {};
      for (std::int64_t c = 0; c < channels; ++c) {
        const float* x_hat = normalised.data() + c * kTile;
        float* h = grad.data() + c * kTile;
        weight_sum[c] += sum_of(kTile, [=](auto p) { return h[p] * x_hat[p]; });
        bias_sum[c] += sum_of(kTile, [=](auto p) { return h[p]; });
        for (std::int64_t p = 0; p < kTile; ++p) {
          h[p] *= weight[c];
          mean_h[p] += h[p] / channels;
          mean_hx[p] += h[p] * x_hat[p] / channels;
        }
      }
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t p = 0; p < width; ++p) {
          const std::int64_t i = c * kTile + p;
          store(rstd[p] * (grad[i] - mean_h[p] - normalised[i] * mean_hx[p]), grad_x[start + c * shape.pixels + p]);
        }
    }
  });
  for (std::int64_t c = 0; c < channels; ++c) {
    double weight_sum = 0, bias_sum = 0;
    for (std::int64_t task = 0; task < tasks; ++task) {
      weight_sum += partial[task * 2 * channels + c];
      bias_sum += partial[task * 2 * channels + channels + c];
    }
    grad_weight[c] = static_cast<float>(weight_sum);
    grad_bias[c] = static_cast<float>(bias_sum);
  }
}

#define DEPTHSR_INSTANTIATE(T)                                                                                  \
  template void layer_norm_2d<T>(const T*, const float*, const float*, float, Shape, T*, ParallelFor);          \
  template void layer_norm_2d_backward<T>(const T*, const T*, const float*, float, Shape, T*, float*, float*,   \
                                          ParallelFor);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr
