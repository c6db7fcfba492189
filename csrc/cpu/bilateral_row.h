// One row of bilateral_sum in vectors; bilateral_sum.cpp prepares what it reads.
#pragma once

#include "colour_weight.h"
#include "isa.h"
#include "simd.h"

namespace depthsr::DEPTHSR_ISA {

static void bilateral_row(const BilateralRow& row) {
  const float* centre = row.rows[BILATERAL_REACH] + BILATERAL_REACH;
  for (std::int64_t i = 0; i < row.width; i += LANES) {
    const V red = load(centre + i), green = load(centre + row.pitch + i), blue = load(centre + 2 * row.pitch + i);
    V first{}, second{};
    for (int k = 0; k < BILATERAL_WINDOW; ++k) {
      if (row.rows[k] == nullptr) continue;
      V row_first{}, row_second{};
      for (int l = 0; l < BILATERAL_WINDOW; ++l) {
        const float* pixel = row.rows[k] + i + l;
        const V r = red - load(pixel), g = green - load(pixel + row.pitch), b = blue - load(pixel + 2 * row.pitch);
        const V weight = colour_weight(r, g, b, row.floor) * row.near[l];
        row_first += weight * load(pixel + 3 * row.pitch);
        row_second += weight * load(pixel + 4 * row.pitch);
      }
      first += row_first * row.near[k];
      second += row_second * row.near[k];
    }
    store(row.out[0] + i, first, row.width - i);
    store(row.out[1] + i, second, row.width - i);
  }
}

}  // namespace depthsr::DEPTHSR_ISA
