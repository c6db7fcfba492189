// bilateral_sum row by row; specified by depthsr/ops/reference.py.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "isa.h"

namespace depthsr {

// Two maps of a frame and its guide. An element of the guide: row · guide_row + column · guide_column + colour · guide_plane.
struct GuidedMaps {
  std::int64_t height, width;
  const float* guide;
  std::int64_t guide_row, guide_column, guide_plane;
  const float* maps[2];
};

// Rows of the result, best asked for in order: it keeps those that it reads, laid out for BilateralRow. One per thread.
class BilateralRows {
 public:
  explicit BilateralRows(const GuidedMaps& in);

  // first, second: the sums of the two maps, `width` values each.
  void operator()(std::int64_t row, float* first, float* second);

 private:
  const float* laid_out(std::int64_t row);

  GuidedMaps in_;
  BilateralRow row_{};
  std::array<std::int64_t, BILATERAL_WINDOW> held_;
  std::array<std::vector<float>, BILATERAL_WINDOW> rows_;
};

}  // namespace depthsr
