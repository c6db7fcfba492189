#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

#include "depthsr/kernels.h"

namespace depthsr {
namespace {

// Sums of weight · (1, relative, inverse, relative², relative · inverse).
constexpr int MOMENTS = 5;

// In double: the variance is a small difference of means.
using Plane = std::vector<double>;

// Sums of 2 · reach + 1 of `count` values `stride` apart, around each; beyond the ends is what lies at them.
void running_sums(const double* in, std::int64_t count, std::int64_t stride, std::int64_t reach, double* out) {
  const auto at = [&](std::int64_t i) { return in[std::clamp<std::int64_t>(i, 0, count - 1) * stride]; };
  double sum = 0;
  for (std::int64_t i = -reach; i <= reach; ++i) sum += at(i);
  for (std::int64_t i = 0; i < count; ++i) {
    out[i * stride] = sum;
    sum += at(i + reach + 1) - at(i - reach);
  }
}

// Mean over the window around each cell, with a share of the mean over the frame.
Plane windowed(const Plane& moments, std::int64_t height, std::int64_t width, const LineFit& fit) {
  Plane rows(moments.size()), sums(moments.size());
  for (std::int64_t y = 0; y < height; ++y)
    running_sums(&moments[y * width], width, 1, fit.window / 2, &rows[y * width]);
  for (std::int64_t x = 0; x < width; ++x) running_sums(&rows[x], height, width, fit.window / 2, &sums[x]);
  const double share =
      fit.frame_share * std::accumulate(moments.begin(), moments.end(), 0.0) / static_cast<double>(moments.size());
  for (double& sum : sums) sum = sum / static_cast<double>(fit.window * fit.window) + share;
  return sums;
}

void fit_frame(const float* relative, const float* inverse, const float* deviation, const bool* open_end,
               std::int64_t height, std::int64_t width, const LineFit& fit, float* scale, float* offset) {
  const std::int64_t cells = height * width;
  Plane trust(cells);
  for (std::int64_t i = 0; i < cells; ++i) trust[i] = open_end[i] ? fit.trust_in_bound : 1.0;
  for (std::int64_t round = 0; round < fit.rounds; ++round) {
    std::array<Plane, MOMENTS> moments;
    for (Plane& plane : moments) plane.resize(cells);
    for (std::int64_t i = 0; i < cells; ++i) {
      const double weight = trust[i] / deviation[i];
      moments[0][i] = weight;
      moments[1][i] = weight * relative[i];
      moments[2][i] = weight * inverse[i];
      moments[3][i] = weight * relative[i] * relative[i];
      moments[4][i] = weight * relative[i] * inverse[i];
    }
    for (Plane& plane : moments) plane = windowed(plane, height, width, fit);
    for (std::int64_t i = 0; i < cells; ++i) {
      const double weight = moments[0][i], mean_relative = moments[1][i] / weight, mean_inverse = moments[2][i] / weight;
      const double variance = std::max(moments[3][i] / weight - mean_relative * mean_relative, 0.0);
      const double covariance = moments[4][i] / weight - mean_relative * mean_inverse;
      const double slope = std::max(covariance / (variance + fit.least_variance), 0.0);
      const double at_zero = mean_inverse - slope * mean_relative;
      const double deviations = (slope * relative[i] + at_zero - inverse[i]) / (2.0 * deviation[i]);
      // What lies at the end of the range, the sky for instance, may be anywhere beyond it.
      trust[i] = open_end[i] && deviations <= 0 ? fit.trust_in_bound : 1.0 / (1.0 + deviations * deviations);
      scale[i] = static_cast<float>(slope);
      offset[i] = static_cast<float>(at_zero);
    }
  }
}

}  // namespace

void fit_lines(const float* relative, const float* inverse, const float* deviation, const bool* open_end,
               std::int64_t batch, std::int64_t height, std::int64_t width, const LineFit& fit, float* scale,
               float* offset, ParallelFor parallel_for) {
  parallel_for(batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin * height * width; first < end * height * width; first += height * width)
      fit_frame(relative + first, inverse + first, deviation + first, open_end + first, height, width, fit,
                scale + first, offset + first);
  });
}

}  // namespace depthsr
