// The fused kernels exist once for every instruction set; which table of them runs is decided when it is first asked for.
#pragma once

#include <cstdint>

#include "depthsr/kernels.h"

namespace depthsr {

struct UNetWeights;
struct UNetInput;
struct UNetOutput;

// Coarse pixels that joint bilateral upsampling looks at, each way: REACH of depthsr/ops/reference.py to both sides.
constexpr int JOINT_BILATERAL_WINDOW = 7;

// One fine row of joint bilateral upsampling. What fine pixel i sees in row k, column l of the window lies at
// coarse[k][i + l · step], in five planes `plane` apart: value times confidence, confidence, and red, green and blue times
// colour_scale.
struct JointBilateralRow {
  std::int64_t width;
  const float* guide[3];  // `width` values each
  const float* coarse[JOINT_BILATERAL_WINDOW];
  std::int64_t step, plane;
  float row_weight[JOINT_BILATERAL_WINDOW];
  const float* column_weight[JOINT_BILATERAL_WINDOW];  // `width` values each
  float colour_scale;  // weight: max(0, 1 - |colour_scale · colour difference|²)^8 + floor
  float floor;
  float* out;  // `width` values
};

// Pixels that bilateral_sum looks at, each way: BILATERAL_REACH of depthsr/ops/reference.py to both sides.
constexpr int BILATERAL_REACH = 4;
constexpr int BILATERAL_WINDOW = 2 * BILATERAL_REACH + 1;

// One row of bilateral_sum for two maps. rows[k], of the row k - BILATERAL_REACH below: five planes, `pitch` apart, of
// red, green and blue times a scale and the two maps; each begins BILATERAL_REACH columns left of the frame, where the maps
// are 0, and goes on as far to the right of it, and up to the next multiple of 16.
struct BilateralRow {
  std::int64_t width, pitch;
  const float* rows[BILATERAL_WINDOW];  // null: outside of the frame
  float near[BILATERAL_WINDOW];         // weight: near[row] · near[column] · (max(0, 1 - |colour difference|²)^8 + floor)
  float floor;
  float* out[2];  // `width` values each
};

// One row of spread_residuals. Of the cell in row k, column l of the window of pixel i, the residual lies at
// cells[k][2 · l · width + i], the logarithm `width` further on.
struct ResidualRow {
  std::int64_t width, window;
  const float* log_m;  // `width` values
  const float* const* cells;
  const float* row_exponent;     // `window` values
  const float* column_exponent;  // `window` times `width` values
  float log_scale;               // weight: e^(row's + column's exponent - (log_scale · difference of log_m)²)
  float prior_weight;
  bool own;    // whether the middle of the window counts
  float* out;  // `width` values
};

// One row of mix_candidates' result, or two that lie below one another, which share a row of the network's maps.
struct CandidateRows {
  std::int64_t count, rows, width;             // of candidates; 1 or 2; pixels a row
  const float *logits, *correction, *error;    // a row of half the resolution: 4 · count, 4 and 4 values a pixel
  std::int64_t half_plane;                     // from one of these values to the next; 0: a pixel's lie side by side
  const float* candidates;                     // the first row of the first; the next candidate's `plane` further on
  std::int64_t plane;
  const float* ambiguity;                      // as the results: the next row follows the first
  float *depth, *expected;
};

// One instruction set's kernels. See kernels.h and network.h for what they compute.
struct FusedKernels {
  const char* name;
  bool bf16_products;  // the _bf16 kernels multiply BFloat16; otherwise they convert what they read to float
  void (*naf_block)(const float* x, const NafBlockWeights& weights, float eps, Image image, float* out,
                    ParallelFor parallel_for);
  void (*naf_block_bf16)(const BFloat16* x, const NafBlockWeights& weights, float eps, Image image, BFloat16* out,
                         ParallelFor parallel_for);
  void (*naf_block_backward)(const float* grad_out, const float* x, const NafBlockWeights& weights, float eps,
                             Image image, float* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for);
  void (*naf_block_backward_bf16)(const BFloat16* grad_out, const BFloat16* x, const NafBlockWeights& weights,
                                  float eps, Image image, BFloat16* grad_x, const NafBlockGradients& gradients,
                                  ParallelFor parallel_for);
  void (*joint_bilateral_row)(const JointBilateralRow& row);
  void (*mix_candidate_rows)(const CandidateRows& rows);
  void (*residual_row)(const ResidualRow& row);
  void (*bilateral_row)(const BilateralRow& row);
  // The weights as `unet` and as `unet_bf16` of this table read them; to be freed with `release`.
  float* (*pack_unet)(const UNetWeights& weights);
  float* (*pack_unet_bf16)(const UNetWeights& weights);
  void (*unet)(const UNetWeights& weights, const float* packed, const UNetInput& input, const UNetOutput& output,
               ParallelFor parallel_for);
  void (*unet_bf16)(const UNetWeights& weights, const float* packed, const UNetInput& input, const UNetOutput& output,
                    ParallelFor parallel_for);
};

extern const FusedKernels PORTABLE_KERNELS;
#if defined(__x86_64__)
extern const FusedKernels AVX2_KERNELS;
extern const FusedKernels AVX512_KERNELS;
extern const FusedKernels AVX512_BF16_KERNELS;
#elif defined(__aarch64__)
extern const FusedKernels NEON_BF16_KERNELS;
#endif

// The fastest table for this processor, or the one that DEPTHSR_ISA names, which is read once. Throws std::runtime_error
// for a name that does not exist or that this processor cannot run.
const FusedKernels& fused_kernels();

// 64-byte aligned memory. Throws std::bad_alloc.
float* allocate(std::int64_t floats);
void release(float* memory);

// Memory of the calling thread, at least `floats` long, 64-byte aligned, kept for the next call. The slots are for a
// whole frame's features and for its maps between the U-Net and the refinement (asked for outside of parallel loops), and
// for one range of a loop (asked for inside).
enum class Scratch { FRAME, MAPS, RANGE };
float* scratch(Scratch slot, std::int64_t floats);

}  // namespace depthsr
