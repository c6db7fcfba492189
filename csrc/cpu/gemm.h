// Matrix products of a few pixels' channels with packed weights: the inner loop of every layer.
//
// A convolution here is a sum of such products: one for 1×1, one a kernel row for k×k on pixels side by side in memory.
#pragma once

#include "simd.h"

namespace depthsr::DEPTHSR_ISA {

// Columns of a panel of packed weights, on every instruction set.
constexpr int PANEL = 16;
constexpr int PANEL_VECTORS = PANEL / LANES;

// Accumulators that fit in the registers beside the operands: 16 registers on x86 before AVX-512, else 32.
#if defined(DEPTHSR_ACCUMULATORS)  // of another processor, for a test
constexpr int ACCUMULATORS = DEPTHSR_ACCUMULATORS;
#elif defined(__aarch64__) || defined(__AVX512F__)
constexpr int ACCUMULATORS = 24;
#else
constexpr int ACCUMULATORS = 12;
#endif

constexpr int block_rows(int panels) {
  const int rows = ACCUMULATORS / (panels * PANEL_VECTORS);
  return rows < 1 ? 1 : rows > 12 ? 12 : rows;
}

DEPTHSR_INLINE std::int64_t round_up(std::int64_t count, std::int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// Floats that `pack` writes for a matrix of `columns` columns and `depth` rows.
DEPTHSR_INLINE std::int64_t packed_size(std::int64_t columns, std::int64_t depth) {
  return round_up(columns, PANEL) * depth;
}

// Panels of 16 columns: element (k, n) at (n / 16 · depth + k) · 16 + n % 16; columns beyond the last are 0.
// element(n, k): the weight from input k to output n.
template <typename Element>
void pack(std::int64_t columns, std::int64_t depth, float* packed, Element element) {
  for (std::int64_t first = 0; first < columns; first += PANEL)
    for (std::int64_t k = 0; k < depth; ++k)
      for (std::int64_t n = first; n < first + PANEL; ++n) *packed++ = n < columns ? element(n, k) : 0.0f;
}

// Rows of the left factor, cut into runs that lie side by side in memory: input k of run r of row m is
// runs[r][m · row_stride + k]. A 1×1 convolution on NHWC pixels has one run, a 3×3 one has one for each kernel row.
template <int RUNS>
struct Rows {
  const float* runs[RUNS];
  std::int64_t row_stride;
  std::int64_t length;  // of each run
};

// ROWS rows times PANELS panels that lie `panel_stride` floats apart.
template <int ROWS, int PANELS, int RUNS, typename Epilogue>
DEPTHSR_INLINE void gemm_block(const Rows<RUNS>& rows, std::int64_t row, const float* panel, std::int64_t panel_stride,
                               Epilogue epilogue) {
  constexpr int VECTORS = PANELS * PANEL_VECTORS;
  V sums[ROWS][VECTORS];
#pragma GCC unroll 12
  for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) sums[m][v] = V{};
  const float* weights = panel;
  const std::int64_t stride = rows.row_stride;
  const auto step = [&](const float* inputs) __attribute__((always_inline)) {
    // Where rows overlap the compiler would keep inputs for the next step, and spill the sums instead.
    asm volatile("" ::: "memory");
    V w[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v)
      w[v] = load(weights + v / PANEL_VECTORS * panel_stride + v % PANEL_VECTORS * LANES);
#pragma GCC unroll 12
    for (int m = 0; m < ROWS; ++m) {
      const V input = splat(inputs[m * stride]);
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) sums[m][v] += input * w[v];
    }
    weights += PANEL;
  };
#pragma GCC unroll 1
  for (int run = 0; run < RUNS; ++run) {
    const float* inputs = rows.runs[run] + row * stride;
    std::int64_t k = 0;
    for (; k + 4 <= rows.length; k += 4, inputs += 4) {
      step(inputs);
      step(inputs + 1);
      step(inputs + 2);
      step(inputs + 3);
    }
    for (; k < rows.length; ++k) step(inputs++);
  }
#pragma GCC unroll 12
  for (int m = 0; m < ROWS; ++m) epilogue(row + m, sums[m]);
}

// Rows 0..count-1 times PANELS panels. epilogue(row, sums): what is done with a row's PANELS · PANEL_VECTORS vectors.
template <int PANELS = 1, int RUNS, typename Epilogue>
DEPTHSR_INLINE void gemm(const Rows<RUNS>& rows, std::int64_t count, const float* panel, std::int64_t panel_stride,
                         Epilogue epilogue) {
  constexpr int BLOCK = block_rows(PANELS);
  std::int64_t row = 0;
  for (; row + BLOCK <= count; row += BLOCK) gemm_block<BLOCK, PANELS>(rows, row, panel, panel_stride, epilogue);
  if constexpr (BLOCK > 2)
    for (; row + 2 <= count; row += 2) gemm_block<2, PANELS>(rows, row, panel, panel_stride, epilogue);
  for (; row < count; ++row) gemm_block<1, PANELS>(rows, row, panel, panel_stride, epilogue);
}

}  // namespace depthsr::DEPTHSR_ISA
