// One row of spread_residuals in vectors; spread_residuals.cpp prepares what it reads.
#pragma once

#include "isa.h"
#include "simd.h"

namespace depthsr::DEPTHSR_ISA {

// `count` <= LANES pixels from `i` on.
DEPTHSR_INLINE void residual_pixels(const ResidualRow& row, std::int64_t i, std::int64_t count) {
  const V log_m = load(row.log_m + i, count);
  V total{}, weights = splat(row.prior_weight);
  for (std::int64_t k = 0; k < row.window; ++k) {
    const float *cell = row.cells[k] + i, *column_exponent = row.column_exponent + i;
    for (std::int64_t l = 0; l < row.window; ++l, cell += 2 * row.width, column_exponent += row.width) {
      if (!row.own && 2 * k + 1 == row.window && k == l) continue;
      const V apart = (log_m - load(cell + row.width, count)) * row.log_scale;
      const V weight = exponential(row.row_exponent[k] + load(column_exponent, count) - apart * apart);
      weights += weight;
      total += weight * load(cell, count);
    }
  }
  store(row.out + i, total / weights, count);
}

static void residual_row(const ResidualRow& row) {
  std::int64_t i = 0;
  for (; i + LANES <= row.width; i += LANES) residual_pixels(row, i, LANES);
  if (i < row.width) residual_pixels(row, i, row.width - i);
}

}  // namespace depthsr::DEPTHSR_ISA
