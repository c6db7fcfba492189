// One row of joint bilateral upsampling in vectors; joint_bilateral.cpp prepares what it reads.
#pragma once

#include "colour_weight.h"
#include "isa.h"
#include "simd.h"

namespace depthsr::DEPTHSR_ISA {

// `count` <= LANES pixels from `i` on.
template <bool WHOLE>
DEPTHSR_INLINE void joint_bilateral_pixels(const JointBilateralRow& row, std::int64_t i, std::int64_t count) {
  const auto at = [&](const float* from) { return WHOLE ? load(from + i) : load(from + i, count); };
  const auto colour = [&](int c) { return at(row.guide[c]) * row.colour_scale; };
  const V red = colour(0), green = colour(1), blue = colour(2);
  V total{}, weights{};
  for (int k = 0; k < JOINT_BILATERAL_WINDOW; ++k) {
    const float* coarse = row.coarse[k];
    V row_total{}, row_weights{};
    for (int l = 0; l < JOINT_BILATERAL_WINDOW; ++l, coarse += row.step) {
      const V r = red - at(coarse + 2 * row.plane);
      const V g = green - at(coarse + 3 * row.plane);
      const V b = blue - at(coarse + 4 * row.plane);
      const V weight = colour_weight(r, g, b, row.floor) * at(row.column_weight[l]);
      row_total += weight * at(coarse);
      row_weights += weight * at(coarse + row.plane);
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
