#include <algorithm>
#include <cstdint>
#include <utility>
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

// How far off each pixel of a row finds a measurement, kReachOverHoles where none is near enough: to its left
// (right = -1) or to its right (1).
void distances_along_row(const bool* measured, std::int64_t width, std::int64_t right, std::int32_t* distance) {
  std::int32_t found = kReachOverHoles;
  for (std::int64_t i = 0; i < width; ++i) {
    const std::int64_t x = right > 0 ? width - 1 - i : i;
    found = measured[x] ? 0 : std::min(found + 1, kReachOverHoles);
    distance[x] = found;
  }
}

// The same in the next row, or on the diagonal: `next` is what that row's pixels found. In place of a choice a mask, so
// that the compiler takes many pixels at once.
void distances_from_row(const bool* __restrict measured, const std::int32_t* __restrict next, std::int64_t width,
                        std::int32_t* __restrict distance) {
  for (std::int64_t x = 0; x < width; ++x) {
    const std::int32_t found = std::min(next[x] + 1, kReachOverHoles), in_holes = measured[x] - 1;  // 0 or all bits
    distance[x] = found & in_holes;
  }
}

}  // namespace

std::int64_t coarse_spacing(std::int64_t coarse, std::int64_t fine) {
  return std::max<std::int64_t>(1, (2 * kSpacing * coarse + fine) / (2 * fine));
}

std::vector<float> measured_towards(const float* filled, const bool* valid, std::int64_t height, std::int64_t width,
                                    std::int64_t down, std::int64_t right) {
  std::vector<float> out(filled, filled + height * width);
  if (down == 0 && right == 0) return out;
  // What lies in that direction comes first. The border of a row's distances stands for what is outside the frame.
  std::vector<std::int32_t> distance(width + 2, kReachOverHoles), next(distance);
  for (std::int64_t i = 0; i < height; ++i) {
    const std::int64_t start = (down > 0 ? height - 1 - i : i) * width;
    if (down == 0)
      distances_along_row(valid + start, width, right, distance.data() + 1);
    else
      distances_from_row(valid + start, next.data() + 1 + right, width, distance.data() + 1);
    for (std::int64_t x = 0; x < width; ++x)
      if (const std::int64_t far = distance[1 + x]; far > 0 && far < kReachOverHoles)
        out[start + x] = filled[start + x + far * (down * width + right)];
    std::swap(distance, next);
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
