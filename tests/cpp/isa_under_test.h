// The fused kernels of every instruction set that this processor can run.
#pragma once

#include <vector>

#include "cpu/isa.h"

#if defined(__x86_64__)
namespace depthsr {
extern const FusedKernels WIDE_KERNELS;  // isa_wide.cpp
}
#endif

inline std::vector<const depthsr::FusedKernels*> tables_that_run_here() {
  std::vector<const depthsr::FusedKernels*> tables{&depthsr::PORTABLE_KERNELS};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    tables.push_back(&depthsr::AVX2_KERNELS);
    tables.push_back(&depthsr::WIDE_KERNELS);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    tables.push_back(&depthsr::AVX512_KERNELS);
    if (__builtin_cpu_supports("avx512bf16")) tables.push_back(&depthsr::AVX512_BF16_KERNELS);
  }
#elif defined(__aarch64__)
  tables.push_back(&depthsr::NEON_BF16_KERNELS);  // qemu -cpu max has them
#endif
  return tables;
}
