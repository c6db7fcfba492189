// Matrix products of a few pixels' channels with packed weights: the inner loop of every layer.
//
// A convolution here is a sum of such products: one for 1×1, one a kernel row for k×k on pixels side by side in memory.
#pragma once

#include "operands.h"

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

// Operands that `pack` writes for a matrix of `columns` columns and `depth` rows.
DEPTHSR_INLINE std::int64_t packed_size(std::int64_t columns, std::int64_t depth) {
  return round_up(columns, PANEL) * depth;
}

DEPTHSR_INLINE float operand(float value, float) { return value; }

DEPTHSR_INLINE BFloat16 operand(float value, BFloat16) {
  BFloat16 rounded[LANES];
  store(rounded, splat(value));
  return rounded[0];
}

// Panels of 16 columns, in them the steps of a product, in these the columns' STEP weights: element (k, n) at
// ((n / 16 · depth + k - k % STEP) · 16 + n % 16 · STEP + k % STEP. Columns beyond the last are 0.
// element(n, k): the weight from input k to output n. depth: a multiple of STEP.
template <typename O, typename Element>
void pack(std::int64_t columns, std::int64_t depth, O* packed, Element element) {
  constexpr int STEP = Operands<O>::STEP;
  for (std::int64_t first = 0; first < columns; first += PANEL)
    for (std::int64_t k = 0; k < depth; k += STEP)
      for (std::int64_t n = first; n < first + PANEL; ++n)
        for (int i = 0; i < STEP; ++i) *packed++ = operand(n < columns ? element(n, k + i) : 0.0f, O{});
}

// Rows of the left factor, cut into runs that lie side by side in memory: input k of run r of row m is
// runs[r][m · row_stride + k]. A 1×1 convolution on NHWC pixels has one run, a 3×3 one has one for each kernel row.
template <int RUNS, typename O = float>
struct Rows {
  const O* runs[RUNS];
  std::int64_t row_stride;
  std::int64_t length;  // of each run, a multiple of Operands<O>::STEP
};

// ROWS rows times PANELS panels that lie `panel_stride` operands apart.
template <int ROWS, int PANELS, int RUNS, typename O, typename Epilogue>
DEPTHSR_INLINE void gemm_block(const Rows<RUNS, O>& rows, std::int64_t row, const O* panel, std::int64_t panel_stride,
                               Epilogue epilogue) {
  using Multiply = Operands<O>;
  constexpr int STEP = Multiply::STEP;
  constexpr int VECTORS = PANELS * PANEL_VECTORS;
  V sums[ROWS][VECTORS];
#pragma GCC unroll 12
  for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) sums[m][v] = V{};
  const O* weights = panel;
  const std::int64_t stride = rows.row_stride;
  const auto step = [&](const O* inputs) __attribute__((always_inline)) {
    // Where rows overlap the compiler would keep inputs for the next step, and spill the sums instead.
    asm volatile("" ::: "memory");
    typename Multiply::Vector w[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v)
      w[v] = Multiply::weights(weights + v / PANEL_VECTORS * panel_stride + v % PANEL_VECTORS * LANES * STEP);
#pragma GCC unroll 12
    for (int m = 0; m < ROWS; ++m) {
      const auto input = Multiply::broadcast(inputs + m * stride);
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) sums[m][v] = Multiply::multiply_add(input, w[v], sums[m][v]);
    }
    weights += PANEL * STEP;
  };
#pragma GCC unroll 1
  for (int run = 0; run < RUNS; ++run) {
    const O* inputs = rows.runs[run] + row * stride;
    const O* end = inputs + rows.length;
    for (; inputs + 4 * STEP <= end; inputs += 4 * STEP) {
      step(inputs);
      step(inputs + STEP);
      step(inputs + 2 * STEP);
      step(inputs + 3 * STEP);
    }
    for (; inputs < end; inputs += STEP) step(inputs);
  }
#pragma GCC unroll 12
  for (int m = 0; m < ROWS; ++m) epilogue(row + m, sums[m]);
}

// Rows 0..count-1 times PANELS panels. epilogue(row, sums): what is done with a row's PANELS · PANEL_VECTORS vectors.
template <int PANELS = 1, int RUNS, typename O, typename Epilogue>
DEPTHSR_INLINE void gemm(const Rows<RUNS, O>& rows, std::int64_t count, const O* panel, std::int64_t panel_stride,
                         Epilogue epilogue) {
  constexpr int BLOCK = block_rows(PANELS);
  std::int64_t row = 0;
  for (; row + BLOCK <= count; row += BLOCK) gemm_block<BLOCK, PANELS>(rows, row, panel, panel_stride, epilogue);
  if constexpr (BLOCK > 2)
    for (; row + 2 <= count; row += 2) gemm_block<2, PANELS>(rows, row, panel, panel_stride, epilogue);
  for (; row < count; ++row) gemm_block<1, PANELS>(rows, row, panel, panel_stride, epilogue);
}

}  // namespace depthsr::DEPTHSR_ISA
