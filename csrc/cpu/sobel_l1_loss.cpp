#include <algorithm>
#include <cmath>
#include <vector>

#include "../sobel.h"

namespace depthsr {
namespace {

constexpr std::int64_t kGrainRows = 64;

// d = pred - target with 0 where invalid, and how many pixels each of the two means is over.
struct Difference {
  std::vector<float> d;
  std::vector<std::uint8_t> interior;  // 1 where the whole 3×3 neighbourhood is in the frame and valid
  double valid_count = 0;
  double interior_count = 0;
};

template <typename T>
Difference difference(DepthPair<T> pair, ParallelFor parallel_for) {
  const std::int64_t width = pair.width;
  const std::int64_t rows = pair.batch * pair.height;
  Difference result;
  result.d.resize(rows * width);
  result.interior.assign(rows * width, 0);
  std::vector<std::int64_t> valid_counts(rows, 0), interior_counts(rows, 0);
  parallel_for(rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    const auto is_valid = [&](std::int64_t i) { return pair.valid == nullptr || pair.valid[i]; };
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t start = row * width;
      for (std::int64_t i = start; i < start + width; ++i) {
        const bool valid = is_valid(i);
        result.d[i] = valid ? load(pair.pred[i]) - load(pair.target[i]) : 0.0f;
        valid_counts[row] += valid;
      }
      const std::int64_t y = row % pair.height;
      if (y == 0 || y == pair.height - 1) continue;
      for (std::int64_t i = start + 1; i < start + width - 1; ++i) {
        bool whole = true;
        for (std::int64_t j = i - width; j <= i + width; j += width)
          whole = whole && is_valid(j - 1) && is_valid(j) && is_valid(j + 1);
        result.interior[i] = whole;
        interior_counts[row] += whole;
      }
    }
  });
  for (std::int64_t row = 0; row < rows; ++row) {
    result.valid_count += static_cast<double>(valid_counts[row]);
    result.interior_count += static_cast<double>(interior_counts[row]);
  }
  return result;
}

}  // namespace

template <typename T>
float sobel_l1_loss(DepthPair<T> pair, double l1_weight, double gradient_weight, ParallelFor parallel_for) {
  const std::int64_t width = pair.width;
  const std::int64_t rows = pair.batch * pair.height;
  const Difference difference = depthsr::difference(pair, parallel_for);
  std::vector<double> l1(rows, 0.0), gradient(rows, 0.0);
  parallel_for(rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t i = row * width; i < (row + 1) * width; ++i) {
        const float* d = difference.d.data() + i;
        l1[row] += std::fabs(*d);
        if (difference.interior[i]) gradient[row] += std::fabs(gradient_x(d, width)) + std::fabs(gradient_y(d, width));
      }
  });
  double l1_sum = 0, gradient_sum = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    l1_sum += l1[row];
    gradient_sum += gradient[row];
  }
  return static_cast<float>(l1_weight * l1_sum / std::max(difference.valid_count, 1.0) +
                            gradient_weight * gradient_sum / std::max(difference.interior_count, 1.0));
}

// The loss is linear in the signs s of d, Gx d and Gy d, so its gradient is s plus Gxᵀ sx + Gyᵀ sy. Sobel kernels are
// odd: their transposes are their negatives.
template <typename T>
void sobel_l1_loss_backward(float grad_out, DepthPair<T> pair, double l1_weight, double gradient_weight, T* grad_pred,
                            ParallelFor parallel_for) {
  const std::int64_t width = pair.width;
  const std::int64_t rows = pair.batch * pair.height;
  const Difference difference = depthsr::difference(pair, parallel_for);
  const float l1_scale = static_cast<float>(grad_out * l1_weight / std::max(difference.valid_count, 1.0));
  const float gradient_scale =
      static_cast<float>(grad_out * gradient_weight / std::max(difference.interior_count, 1.0));

  // Signs, 0 outside the interior; one pixel of zeros around each frame stands for what lies outside it.
  const std::int64_t padded_width = width + 2;
  const std::int64_t padded_height = pair.height + 2;
  std::vector<float> sign_x(pair.batch * padded_height * padded_width, 0.0f), sign_y(sign_x.size(), 0.0f);
  const auto padded = [=](std::int64_t row, std::int64_t x) {
    return ((row / pair.height) * padded_height + row % pair.height + 1) * padded_width + x + 1;
  };
  parallel_for(rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t x = 0; x < width; ++x) {
        if (!difference.interior[row * width + x]) continue;
        const float* d = difference.d.data() + row * width + x;
        sign_x[padded(row, x)] = sign(gradient_x(d, width));
        sign_y[padded(row, x)] = sign(gradient_y(d, width));
      }
  });
  parallel_for(rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t x = 0; x < width; ++x) {
        const std::int64_t i = row * width + x;
        const std::int64_t p = padded(row, x);
        const float transposed =
            -gradient_x(sign_x.data() + p, padded_width) - gradient_y(sign_y.data() + p, padded_width);
        const bool valid = pair.valid == nullptr || pair.valid[i];
        store(valid ? l1_scale * sign(difference.d[i]) + gradient_scale * transposed : 0.0f, grad_pred[i]);
      }
  });
}

#define DEPTHSR_INSTANTIATE(T)                                                     \
  template float sobel_l1_loss<T>(DepthPair<T>, double, double, ParallelFor);      \
  template void sobel_l1_loss_backward<T>(float, DepthPair<T>, double, double, T*, ParallelFor);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr
