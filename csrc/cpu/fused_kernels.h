// One instruction set's table of fused kernels: included once by each isa_*.cpp.
#pragma once

#include "bilateral_row.h"
#include "joint_bilateral_row.h"
#include "mix_candidates.h"
#include "naf_block.h"
#include "naf_block_backward.h"
#include "spread_residuals_row.h"
#include "unet.h"

namespace depthsr::DEPTHSR_ISA {

constexpr FusedKernels table(const char* name) {
  return {
      .name = name,
      .bf16_products = sizeof(Operand<BFloat16>) == sizeof(BFloat16),
      .naf_block = naf_block<float>,
      .naf_block_bf16 = naf_block<BFloat16>,
      .naf_block_backward = naf_block_backward<float>,
      .naf_block_backward_bf16 = naf_block_backward<BFloat16>,
      .joint_bilateral_row = joint_bilateral_row,
      .mix_candidate_rows = mix_candidate_rows,
      .residual_row = residual_row,
      .bilateral_row = bilateral_row,
      .pack_unet = pack_unet<float>,
      .pack_unet_bf16 = pack_unet<BFloat16>,
      .unet = unet<float>,
      .unet_bf16 = unet<BFloat16>,
  };
}

}  // namespace depthsr::DEPTHSR_ISA
