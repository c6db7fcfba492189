#include "depthsr/prior.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "bilinear.h"
#include "depthsr/kernels.h"
#include "joint_bilateral.h"
#include "measured_towards.h"

namespace depthsr {
namespace {

// As in depthsr/models/prior.py.
constexpr float kRangeQuantile = 0.99f;
constexpr float kAmbiguityOfDepth = 0.02f;
constexpr float kAmbiguityOfRange = 0.002f;
constexpr float kAmbiguityOfHole = 0.25f;
constexpr float kConfidenceInHole = 0.003f;

// Fewer fine rows than this are not worth waking a thread for.
constexpr std::int64_t kRowGrain = 16;

float depth_range_m(const float* depth_m, const bool* valid, std::int64_t count) {
  std::vector<float> values;
  values.reserve(count);
  for (std::int64_t i = 0; i < count; ++i)
    if (valid[i]) values.push_back(std::isnan(depth_m[i]) ? std::numeric_limits<float>::infinity() : depth_m[i]);
  if (values.empty()) return 1.0f;
  const auto rank = static_cast<std::int64_t>(std::nearbyintf(static_cast<float>(values.size() - 1) * kRangeQuantile));
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return std::isfinite(values[rank]) && values[rank] > 0 ? values[rank] : 1.0f;
}

// --- ambiguity -------------------------------------------------------------------------------------------------------

// Of row y: the spread, maximum minus minimum of the 3×3 pixels around each inside the frame, plus what else is unsure.
void ambiguity_row(const Map& filled, const bool* valid, float step, std::int64_t y, float* lowest, float* highest,
                   float* out) {
  const std::int64_t width = filled.width;
  const float* above = filled.row(std::max<std::int64_t>(y - 1, 0));
  const float* row = filled.row(y);
  const float* below = filled.row(std::min(y + 1, filled.height - 1));
  for (std::int64_t x = 0; x < width; ++x) {  // of the three rows, at 1 + x: the border repeats itself
    lowest[1 + x] = std::min(std::min(above[x], row[x]), below[x]);
    highest[1 + x] = std::max(std::max(above[x], row[x]), below[x]);
  }
  lowest[0] = lowest[1], lowest[1 + width] = lowest[width];
  highest[0] = highest[1], highest[1 + width] = highest[width];
  const bool* measured = valid + y * width;
  for (std::int64_t x = 0; x < width; ++x) {
    const float spread = std::max(std::max(highest[x], highest[x + 1]), highest[x + 2]) -
                         std::min(std::min(lowest[x], lowest[x + 1]), lowest[x + 2]);
    const float of_depth = measured[x] ? kAmbiguityOfDepth : kAmbiguityOfDepth + kAmbiguityOfHole;
    out[x] = spread + step + of_depth * row[x] + kAmbiguityOfRange;
  }
}

Map ambiguity_of(const Map& filled, const bool* valid, float step, ParallelFor parallel_for) {
  Map out(filled.height, filled.width);
  parallel_for(filled.height, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> lowest(filled.width + 2), highest(filled.width + 2);
    for (std::int64_t y = begin; y < end; ++y)
      ambiguity_row(filled, valid, step, y, lowest.data(), highest.data(), out.row(y));
  });
  return out;
}

// --- guides ----------------------------------------------------------------------------------------------------------

struct Picture {
  const float* rgb_HW3;
  std::int64_t height, width;
};

// The fine pixels that coarse pixel i touches.
std::pair<std::int64_t, std::int64_t> window(std::int64_t i, std::int64_t coarse, std::int64_t fine) {
  return {i * fine / coarse, ((i + 1) * fine + coarse - 1) / coarse};
}

// The picture's mean over each coarse pixel: 3 × height × width.
std::vector<float> area_guide(const Picture& picture, std::int64_t height, std::int64_t width,
                              ParallelFor parallel_for) {
  std::vector<float> guide(3 * height * width);
  parallel_for(height, 1 + kRowGrain * height / picture.height, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> column_sums(3 * picture.width);
    for (std::int64_t y = begin; y < end; ++y) {
      const auto [top, bottom] = window(y, height, picture.height);
      std::fill(column_sums.begin(), column_sums.end(), 0.0f);
      for (std::int64_t v = top; v < bottom; ++v) {
        const float* row = picture.rgb_HW3 + v * 3 * picture.width;
        for (std::int64_t i = 0; i < 3 * picture.width; ++i) column_sums[i] += row[i];
      }
      for (std::int64_t x = 0; x < width; ++x) {
        const auto [left, right] = window(x, width, picture.width);
        float red = 0, green = 0, blue = 0;
        for (const float* pixel = column_sums.data() + 3 * left; pixel < column_sums.data() + 3 * right; pixel += 3) {
          red += pixel[0];
          green += pixel[1];
          blue += pixel[2];
        }
        const auto count = static_cast<float>((bottom - top) * (right - left));
        float* out = guide.data() + y * width + x;
        out[0] = red / count;
        out[height * width] = green / count;
        out[2 * height * width] = blue / count;
      }
    }
  });
  return guide;
}

// The fine pixels that hold the centres of the coarse ones.
std::vector<std::int64_t> centres(std::int64_t coarse, std::int64_t fine) {
  const auto step = static_cast<float>(static_cast<double>(fine) / static_cast<double>(coarse));
  std::vector<std::int64_t> result(coarse);
  for (std::int64_t i = 0; i < coarse; ++i)
    result[i] = std::min(static_cast<std::int64_t>((static_cast<float>(i) + 0.5f) * step), fine - 1);
  return result;
}

// The picture's pixel at each coarse pixel's centre: 3 × height × width.
std::vector<float> point_guide(const Picture& picture, std::int64_t height, std::int64_t width) {
  const std::vector<std::int64_t> rows = centres(height, picture.height), columns = centres(width, picture.width);
  std::vector<float> guide(3 * height * width);
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      for (std::int64_t c = 0; c < 3; ++c)
        guide[(c * height + y) * width + x] = picture.rgb_HW3[(rows[y] * picture.width + columns[x]) * 3 + c];
  return guide;
}

}  // namespace

Prior make_prior(const float* rgb_HW3, std::int64_t height, std::int64_t width, const float* depth_m, const bool* valid,
                 std::int64_t low_height, std::int64_t low_width, float quantisation_step_m, float max_depth_m,
                 const float* filling_m, ParallelFor parallel_for) {
  const std::int64_t pixels = height * width, low_pixels = low_height * low_width;
  const float scale_m = max_depth_m > 0 ? max_depth_m : depth_range_m(depth_m, valid, low_pixels);
  const float step = quantisation_step_m / scale_m;

  std::vector<float> normalised(low_pixels), confidence(low_pixels);
  const auto known = std::make_unique<bool[]>(low_pixels);
  Map measured_where(low_height, low_width), filled(low_height, low_width);
  parallel_for(low_pixels, kRowGrain * width, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      known[i] = valid[i] || (filling_m && std::isfinite(filling_m[i]));
      normalised[i] = known[i] ? (valid[i] ? depth_m : filling_m)[i] / scale_m : 0.0f;
      measured_where.values[i] = valid[i] ? 1.0f : 0.0f;
      confidence[i] = valid[i] ? 1.0f : kConfidenceInHole;
    }
  });
  fill_holes(normalised.data(), known.get(), 1, low_height, low_width, filled.values.data(), parallel_for);

  const Picture picture{rgb_HW3, height, width};
  const std::vector<float> area = area_guide(picture, low_height, low_width, parallel_for);
  const bool full_size = low_height == height && low_width == width;  // then both guides are the picture
  const std::vector<float> point = full_size ? std::vector<float>{} : point_guide(picture, low_height, low_width);
  const CoarseMap with_area{low_height, low_width, filled.values.data(), confidence.data(), area.data()};
  const CoarseMap with_point{low_height, low_width, filled.values.data(), confidence.data(), point.data()};
  CoarseNeighbours rows(low_height, height), columns(low_width, width);

  const std::vector<Tap> column_taps = bilinear_taps(low_width, width), row_taps = bilinear_taps(low_height, height);
  const Map wide_depth = widened(filled, column_taps);
  const Map wide_ambiguity = widened(ambiguity_of(filled, valid, step, parallel_for), column_taps);
  const Map wide_valid = widened(measured_where, column_taps);

  Prior prior{};
  prior.upsampled.resize(3 * pixels);
  prior.ambiguity.resize(pixels);
  prior.valid.resize(pixels);
  parallel_for(height, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    JointBilateralRows area_rows(with_area, rows, columns), point_rows(with_point, rows, columns);
    std::vector<float> planes(3 * width);
    const std::array<float*, 3> rgb{planes.data(), planes.data() + width, planes.data() + 2 * width};
    for (std::int64_t y = begin; y < end; ++y) {
      for (std::int64_t x = 0; x < width; ++x)
        for (int c = 0; c < 3; ++c) rgb[c][x] = rgb_HW3[(y * width + x) * 3 + c];
      float* out = prior.upsampled.data() + y * width;
      blend_rows(wide_depth, row_taps[y], out);
      area_rows(y, {rgb[0], rgb[1], rgb[2]}, out + pixels);
      if (full_size)
        std::copy(out + pixels, out + pixels + width, out + 2 * pixels);
      else
        point_rows(y, {rgb[0], rgb[1], rgb[2]}, out + 2 * pixels);
      blend_rows(wide_ambiguity, row_taps[y], prior.ambiguity.data() + y * width);
      blend_rows(wide_valid, row_taps[y], prior.valid.data() + y * width);
    }
  });

  const auto factor = [](std::int64_t fine, std::int64_t coarse) {
    return std::max(1.0, static_cast<double>(fine) / static_cast<double>(coarse));
  };
  const double log2_factor = 0.5 * std::log2(factor(height, low_height) * factor(width, low_width));
  prior.height = height;
  prior.width = width;
  prior.low_height = low_height;
  prior.low_width = low_width;
  if (!std::all_of(valid, valid + low_pixels, [](bool is) { return is; }))
    parallel_for(9, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        if (i != 4) prior.towards[i] = measured_towards(filled.values.data(), valid, low_height, low_width, i / 3 - 1, i % 3 - 1);
    });
  prior.filled = std::move(filled.values);
  prior.nearest_row = std::move(rows.nearest);
  prior.nearest_column = std::move(columns.nearest);
  prior.row_spacing = coarse_spacing(low_height, height);
  prior.column_spacing = coarse_spacing(low_width, width);
  prior.condition[0] = step * 10;
  prior.condition[1] = static_cast<float>(log2_factor / 4);
  prior.scale_m = scale_m;
  return prior;
}

}  // namespace depthsr
