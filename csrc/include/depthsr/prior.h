// The depth measurement at the guide's resolution, as the network sees it; specified by depthsr/models/prior.py.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "depthsr/kernels.h"

namespace depthsr {

// One frame. Maps are row by row; depth is in units of scale_m. The coarse pixels around a fine one, which the
// reference lists as nine more candidates, stay where they are: around(i) at nearest_row
// + (i / 3 - 1) * row_spacing and nearest_column + (i % 3 - 1) * column_spacing, each clamped to the coarse frame.
struct Prior {
  std::int64_t height, width;          // of the guide
  std::int64_t low_height, low_width;  // of the measurement
  std::vector<float> upsampled;        // 3 planes height * width: bilinear, joint bilateral with area and point guide
  std::vector<float> ambiguity;        // height * width
  std::vector<float> valid;            // height * width: 1 where measured, 0 in holes, between at their edges
  std::vector<float> filled;           // low_height * low_width
  std::array<std::vector<float>, 9> towards;  // of each direction, where not as `filled`; see around
  std::vector<std::int32_t> nearest_row;     // height: the nearest coarse row, before offset and clamping
  std::vector<std::int32_t> nearest_column;  // width
  std::int64_t row_spacing, column_spacing;  // of the coarse pixels around a fine one
  float condition[2];                  // quantisation step and log2 of the upsampling factor, both about 0 to 1
  float scale_m;                       // metres per unit

  // low_height * low_width: holes hold the next measurement i / 3 - 1 down and i % 3 - 1 right of them, if there is one.
  const float* around(int i) const { return towards[i].empty() ? filled.data() : towards[i].data(); }
};

// rgb_HW3   height * width * 3, interleaved, [0, 1].
// depth_m   low_height * low_width metres; anything where not valid (never read there).
// quantisation_step_m  metres between the measurement's levels; 0: none or unknown.
// max_depth_m          known range, mapped to 1; 0: unknown, taken from the data.
// filling_m            as depth_m: what holes are filled with where it is finite; nullptr: nowhere.
// All sizes are at least 1. Results do not depend on the number of threads.
Prior make_prior(const float* rgb_HW3, std::int64_t height, std::int64_t width, const float* depth_m,
                 const bool* valid, std::int64_t low_height, std::int64_t low_width, float quantisation_step_m,
                 float max_depth_m, const float* filling_m, ParallelFor parallel_for);

}  // namespace depthsr
