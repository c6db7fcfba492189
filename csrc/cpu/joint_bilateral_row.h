// One row of joint bilateral upsampling in vectors; joint_bilateral.cpp prepares what it reads.
#pragma once

#include "isa.h"
#include "simd.h"

namespace depthsr::DEPTHSR_ISA {

// `count` <= LANES pixels from `i` on.
template <bool WHOLE>
DEPTHSR_INLINE void joint_bilateral_pixels(const JointBilateralRow& row, std::int64_t i, std::int64_t count) {
  const auto at = [&](const float* from) { return WHOLE ? load(from + i) : load(from + i, count); };
  const V red = at(row.guide[0]), green = at(row.guide[1]), blue = at(row.guide[2]);
  V total{}, weights{};
  for (int k = 0; k < JOINT_BILATERAL_WINDOW; ++k) {
    const float* coarse = row.coarse[k];
    V row_total{}, row_weights{};
    for (int l = 0; l < JOINT_BILATERAL_WINDOW; ++l, coarse += row.step) {
      const V r = red - at(coarse + row.plane);
      const V g = green - at(coarse + 2 * row.plane);
      const V b = blue - at(coarse + 3 * row.plane);
      const V alike = max((r * r + g * g + b * b) * row.colour_factor + 1.0f, V{});
      const V squared = alike * alike, fourth = squared * squared;
      const V weight = (fourth * fourth + row.floor) * at(row.column_weight[l]);
      row_total += weight * at(coarse);
      row_weights += weight;
    }
    total += row_total * row.row_weight[k];
    weights += row_weights * row.row_weight[k];
  }
  if constexpr (WHOLE) store(row.out + i, total / weights);
  else store(row.out + i, total / weights, count);
}

static void joint_bilateral_row(const JointBilateralRow& row) {
  std::int64_t i = 0;
  for (; i + LANES <= row.width; i += LANES) joint_bilateral_pixels<true>(row, i, LANES);
  if (i < row.width) joint_bilateral_pixels<false>(row, i, row.width - i);
}

}  // namespace depthsr::DEPTHSR_ISA
