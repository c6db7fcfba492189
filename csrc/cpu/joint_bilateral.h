// Joint bilateral upsampling row by row; specified by depthsr/ops/reference.py.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "isa.h"

namespace depthsr {

// Along one axis, for each fine pixel: the coarse one that its centre lies in.
std::vector<std::int32_t> nearest_coarse(std::int64_t coarse, std::int64_t fine);

// The same, and the spatial weights of the window around that.
struct CoarseNeighbours {
  CoarseNeighbours(std::int64_t coarse, std::int64_t fine);

  std::vector<std::int32_t> nearest;
  std::array<std::vector<float>, JOINT_BILATERAL_WINDOW> weights;
};

// A measurement of one channel, how much each pixel of it counts (> 0), and the guide's colours at its pixels, planar:
// guide is 3 × height × width.
struct CoarseMap {
  std::int64_t height, width;
  const float* values;
  const float* confidence;
  const float* guide;
};

// Fine rows of one coarse map, best asked for in order: it keeps the coarse rows it spread out to the fine width.
// Refers to its arguments, which must outlive it. One per thread.
class JointBilateralRows {
 public:
  JointBilateralRows(const CoarseMap& coarse, const CoarseNeighbours& rows, const CoarseNeighbours& columns);

  // out, guide_row[c]: as many values as `columns` has fine pixels.
  void operator()(std::int64_t row, const std::array<const float*, 3>& guide_row, float* out);

 private:
  const float* spread_out(std::int64_t coarse_row);

  const CoarseMap& coarse_;
  const CoarseNeighbours& rows_;
  const CoarseNeighbours& columns_;
  std::int64_t width_;
  // Of one coarse row, spread out to the fine width: from a column of the window to the next, and from plane to plane.
  std::int64_t step_, plane_;
  std::vector<std::int32_t> spread_columns_;  // the coarse column at each place of a plane, or of all columns' planes
  std::array<std::int64_t, JOINT_BILATERAL_WINDOW> held_;
  std::array<std::vector<float>, JOINT_BILATERAL_WINDOW> spread_;  // see JointBilateralRow::coarse
};

}  // namespace depthsr
