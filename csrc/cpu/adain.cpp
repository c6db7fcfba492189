#include <algorithm>
#include <cmath>
#include <vector>

#include "../storage.h"
#include "sums.h"

namespace depthsr {
namespace {

// A "plane" is one channel of one frame. Sums over planes go block by block: a block is short enough to stay in the L1
// cache for the second pass around its own mean, and blocks are merged in double, in a fixed order.
constexpr std::int64_t kRowBlock = 1024;   // channels first: neighbouring values of one plane
constexpr std::int64_t kPixelBlock = 64;   // channels last: pixels of all channels
constexpr std::int64_t kTaskPixels = 4096; // channels last: pixels a task, so that partial results stay few
constexpr std::int64_t kGrain = 1 << 15;

// Per plane sums over the frame, in both layouts. Layout-specific block functions fill one partial result:
//   row(partial, index of the first element, count)          one plane, neighbouring elements
//   pixels(partials, index of the first element, count)      `channels` planes, `count` pixels of all channels
// and partials of one plane are merged in the order of the pixels.
template <typename Partial, typename Row, typename Pixels>
std::vector<Partial> reduce_planes(Shape shape, ParallelFor parallel_for, Row row, Pixels pixels) {
  const std::int64_t channels = shape.channels;
  std::vector<Partial> planes(shape.batch * channels);
  if (!shape.channels_last) {
    const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, shape.pixels));
    parallel_for(shape.batch * channels, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t plane = begin; plane < end; ++plane)
        for (std::int64_t pixel = 0; pixel < shape.pixels; pixel += kRowBlock)
          row(planes[plane], plane * shape.pixels + pixel, std::min(kRowBlock, shape.pixels - pixel));
    });
    return planes;
  }
  const std::int64_t per_frame = (shape.pixels + kTaskPixels - 1) / kTaskPixels;
  std::vector<Partial> partials(shape.batch * per_frame * channels);
  parallel_for(shape.batch * per_frame, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task % per_frame * kTaskPixels;
      const std::int64_t last = std::min(first + kTaskPixels, shape.pixels);
      for (std::int64_t pixel = first; pixel < last; pixel += kPixelBlock)
        pixels(partials.data() + task * channels, (task / per_frame * shape.pixels + pixel) * channels,
               std::min(kPixelBlock, last - pixel));
    }
  });
  for (std::int64_t task = 0; task < shape.batch * per_frame; ++task)
    for (std::int64_t c = 0; c < channels; ++c)
      planes[task / per_frame * channels + c].merge(partials[task * channels + c]);
  return planes;
}

struct PlaneMoments : Moments {
  using Moments::merge;
  void merge(const PlaneMoments& other) { merge(other.mean, other.m2, other.count); }

  double deviation(double eps, std::int64_t correction) const {
    return std::sqrt(m2 / std::max(count - static_cast<double>(correction), 1.0) + eps);
  }
};

template <typename T>
std::vector<PlaneMoments> plane_moments(const T* x, Shape shape, ParallelFor parallel_for) {
  const std::int64_t channels = shape.channels;
  return reduce_planes<PlaneMoments>(
      shape, parallel_for,
      [=](PlaneMoments& plane, std::int64_t start, std::int64_t count) {
        float values[kRowBlock];
        load_row(x + start, count, values);
        const float mean = sum_of(count, [&](auto i) { return values[i]; }) / count;
        const float rest = sum_of(count, [&](auto i) { return values[i] - mean; });
        const float m2 = sum_of(count, [&](auto i) { return (values[i] - mean) * (values[i] - mean); });
        // `rest` is what rounding left of the mean: with it the pair is exact although the mean is a float.
        const double correction = static_cast<double>(rest) / count;
        plane.merge(mean + correction, m2 - count * correction * correction, count);
      },
      [=](PlaneMoments* planes, std::int64_t start, std::int64_t count) {
        std::vector<float> mean(channels, 0.0f), rest(channels, 0.0f), m2(channels, 0.0f);
        for (std::int64_t p = 0; p < count; ++p)
          for (std::int64_t c = 0; c < channels; ++c) mean[c] += load(x[start + p * channels + c]);
        for (std::int64_t c = 0; c < channels; ++c) mean[c] /= count;
        for (std::int64_t p = 0; p < count; ++p)
          for (std::int64_t c = 0; c < channels; ++c) {
            const float deviation = load(x[start + p * channels + c]) - mean[c];
            rest[c] += deviation;
            m2[c] += deviation * deviation;
          }
        for (std::int64_t c = 0; c < channels; ++c) {
          const double correction = static_cast<double>(rest[c]) / count;
          planes[c].merge(mean[c] + correction, m2[c] - count * correction * correction, count);
        }
      });
}

// Sums over a plane of the gradient and of the gradient times the centred content.
struct GradientSums {
  double grad = 0;
  double grad_centred = 0;

  void merge(const GradientSums& other) {
    grad += other.grad;
    grad_centred += other.grad_centred;
  }
};

template <typename T>
std::vector<GradientSums> gradient_sums(const T* grad_out, const T* content, const std::vector<PlaneMoments>& moments,
                                        Shape shape, ParallelFor parallel_for) {
  const std::int64_t channels = shape.channels;
  return reduce_planes<GradientSums>(
      shape, parallel_for,
      [&, grad_out, content](GradientSums& plane, std::int64_t start, std::int64_t count) {
        const float mean = static_cast<float>(moments[start / shape.pixels].mean);
        const T* grad = grad_out + start;
        const T* x = content + start;
        plane.merge({sum_of(count, [=](auto i) { return load(grad[i]); }),
                     sum_of(count, [=](auto i) { return load(grad[i]) * (load(x[i]) - mean); })});
      },
      [&, grad_out, content, channels](GradientSums* planes, std::int64_t start, std::int64_t count) {
        const PlaneMoments* frame = moments.data() + start / (shape.pixels * channels) * channels;
        std::vector<float> mean(channels), sum(channels, 0.0f), sum_centred(channels, 0.0f);
        for (std::int64_t c = 0; c < channels; ++c) mean[c] = static_cast<float>(frame[c].mean);
        for (std::int64_t p = 0; p < count; ++p)
          for (std::int64_t c = 0; c < channels; ++c) {
            const std::int64_t i = start + p * channels + c;
            const float grad = load(grad_out[i]);
            sum[c] += grad;
            sum_centred[c] += grad * (load(content[i]) - mean[c]);
          }
        for (std::int64_t c = 0; c < channels; ++c) planes[c].merge({sum[c], sum_centred[c]});
      });
}

// Every result of this file is, per plane, offset + x_scale * (x - mean) + grad_scale * (grad - grad_mean). Means are
// subtracted before anything is scaled, so that what cancels, cancels exactly.
struct PlaneMap {
  float mean = 0;
  float offset = 0;
  float x_scale = 0;
  float grad_mean = 0;
  float grad_scale = 0;
};

// `grad` may be nullptr where grad_scale is not used.
template <typename T>
void map_planes(const T* x, const T* grad, const std::vector<PlaneMap>& maps, Shape shape, T* out,
                ParallelFor parallel_for) {
  const auto apply = [=](const PlaneMap& map, std::int64_t i) {
    const float value = map.offset + map.x_scale * (load(x[i]) - map.mean);
    store(grad == nullptr ? value : value + map.grad_scale * (load(grad[i]) - map.grad_mean), out[i]);
  };
  // Rows: neighbouring elements with one plane (channels first) or with one pixel (channels last).
  const std::int64_t length = shape.channels_last ? shape.channels : shape.pixels;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, length));
  parallel_for(shape.elements() / std::max<std::int64_t>(1, length), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t start = row * length;
      if (shape.channels_last) {
        const PlaneMap* frame = maps.data() + row / shape.pixels * shape.channels;
        for (std::int64_t c = 0; c < length; ++c) apply(frame[c], start + c);
      } else {
        const PlaneMap map = maps[row];
        for (std::int64_t p = 0; p < length; ++p) apply(map, start + p);
      }
    }
  });
}

}  // namespace

template <typename T>
void adain(const T* content, Shape content_shape, const T* style, Shape style_shape, float eps,
           std::int64_t correction, T* out, ParallelFor parallel_for) {
  const auto content_moments = plane_moments(content, content_shape, parallel_for);
  const auto style_moments = plane_moments(style, style_shape, parallel_for);
  std::vector<PlaneMap> maps(content_moments.size());
  for (std::size_t i = 0; i < maps.size(); ++i) {
    maps[i].mean = static_cast<float>(content_moments[i].mean);
    maps[i].offset = static_cast<float>(style_moments[i].mean);
    maps[i].x_scale = static_cast<float>(style_moments[i].deviation(eps, correction) /
                                         content_moments[i].deviation(eps, correction));
  }
  map_planes<T>(content, nullptr, maps, content_shape, out, parallel_for);
}

// x content, y style, g = grad_out, x̂ = (x - mean x) / σx, a = σy / σx, n pixels, c the correction:
//   dx = a (g - mean g - x̂ Σ(g x̂) / (nx - c)),   dy = Σg / ny + (y - mean y) / (σy (ny - c)) Σ(g x̂).
template <typename T>
void adain_backward(const T* grad_out, const T* content, Shape content_shape, const T* style, Shape style_shape,
                    float eps, std::int64_t correction, T* grad_content, T* grad_style, ParallelFor parallel_for) {
  const auto content_moments = plane_moments(content, content_shape, parallel_for);
  const auto style_moments = plane_moments(style, style_shape, parallel_for);
  const auto sums = gradient_sums(grad_out, content, content_moments, content_shape, parallel_for);
  const double content_degrees = std::max<double>(content_shape.pixels - correction, 1);
  const double style_degrees = std::max<double>(style_shape.pixels - correction, 1);
  std::vector<PlaneMap> content_maps(sums.size()), style_maps(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double content_deviation = content_moments[i].deviation(eps, correction);
    const double style_deviation = style_moments[i].deviation(eps, correction);
    const double ratio = style_deviation / content_deviation;
    const double grad_normalised = sums[i].grad_centred / content_deviation;  // Σ(g x̂)
    PlaneMap& dx = content_maps[i];
    dx.mean = static_cast<float>(content_moments[i].mean);
    dx.grad_mean = static_cast<float>(sums[i].grad / content_shape.pixels);
    dx.x_scale = static_cast<float>(-ratio * grad_normalised / (content_deviation * content_degrees));
    dx.grad_scale = static_cast<float>(ratio);
    PlaneMap& dy = style_maps[i];
    dy.mean = static_cast<float>(style_moments[i].mean);
    dy.offset = static_cast<float>(sums[i].grad / style_shape.pixels);
    dy.x_scale = static_cast<float>(grad_normalised / (style_deviation * style_degrees));
  }
  map_planes<T>(content, grad_out, content_maps, content_shape, grad_content, parallel_for);
  map_planes<T>(style, nullptr, style_maps, style_shape, grad_style, parallel_for);
}

#define DEPTHSR_INSTANTIATE(T)                                                                             \
  template void adain<T>(const T*, Shape, const T*, Shape, float, std::int64_t, T*, ParallelFor);          \
  template void adain_backward<T>(const T*, const T*, Shape, const T*, Shape, float, std::int64_t, T*, T*, \
                                  ParallelFor);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr
