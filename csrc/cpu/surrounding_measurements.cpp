#include <algorithm>
#include <cstdint>
#include <vector>

#include "depthsr/kernels.h"
#include "joint_bilateral.h"
#include "measured_towards.h"

namespace depthsr {
namespace {

// As in depthsr/ops/reference.py.
constexpr std::int32_t kReachOverHoles = 256;
constexpr std::int64_t kSpacing = 4;  // SPACING_PX

// The nearest coarse pixels along one axis, moved by `offset` and kept inside.
std::vector<std::int32_t> moved(std::vector<std::int32_t> nearest, std::int64_t offset, std::int64_t coarse) {
  for (auto& pixel : nearest) pixel = static_cast<std::int32_t>(std::clamp<std::int64_t>(pixel + offset, 0, coarse - 1));
  return nearest;
}

}  // namespace

std::int64_t coarse_spacing(std::int64_t coarse, std::int64_t fine) {
  return std::max<std::int64_t>(1, (2 * kSpacing * coarse + fine) / (2 * fine));
}

std::vector<float> measured_towards(const float* filled, const bool* valid, std::int64_t height, std::int64_t width,
                                    std::int64_t down, std::int64_t right) {
  std::vector<float> out(filled, filled + height * width);
  std::vector<std::int32_t> distance(height * width, kReachOverHoles);  // to what is in `out`, if it was measured
  for (std::int64_t i = 0; i < height; ++i) {
    const std::int64_t y = down > 0 ? height - 1 - i : i;  // what lies in that direction comes first
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t x = right > 0 ? width - 1 - j : j, at = y * width + x;
      if (valid[at]) {
        distance[at] = 0;
      } else if (0 <= y + down && y + down < height && 0 <= x + right && x + right < width) {
        const std::int64_t next = at + down * width + right;
        if (distance[next] + 1 < kReachOverHoles) {
          distance[at] = distance[next] + 1;
          out[at] = out[next];
        }
      }
    }
  }
  return out;
}

void surrounding_measurements(const float* x, const bool* valid, Upsampling shape, float* out,
                              ParallelFor parallel_for) {
  const std::vector<std::int32_t> nearest_row = nearest_coarse(shape.coarse_height, shape.height);
  const std::vector<std::int32_t> nearest_column = nearest_coarse(shape.coarse_width, shape.width);
  const std::int64_t row_spacing = coarse_spacing(shape.coarse_height, shape.height);
  const std::int64_t column_spacing = coarse_spacing(shape.coarse_width, shape.width);
  const std::int64_t coarse_pixels = shape.coarse_height * shape.coarse_width;
  parallel_for(shape.batch * 9, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t first = plane / 9 * coarse_pixels, down = plane % 9 / 3 - 1, right = plane % 3 - 1;
      const std::vector<float> map =
          measured_towards(x + first, valid + first, shape.coarse_height, shape.coarse_width, down, right);
      const std::vector<std::int32_t> columns = moved(nearest_column, right * column_spacing, shape.coarse_width);
      float* to = out + plane * shape.height * shape.width;
      for (const std::int32_t row : moved(nearest_row, down * row_spacing, shape.coarse_height)) {
        const float* from = map.data() + row * shape.coarse_width;
        for (std::int64_t i = 0; i < shape.width; ++i) to[i] = from[columns[i]];
        to += shape.width;
      }
    }
  });
}

}  // namespace depthsr
