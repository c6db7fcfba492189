// The fused kernels for aarch64 processors with BFloat16 dot products (FEAT_BF16: Neoverse N2 and V1, Apple M2 on).
#if defined(__aarch64__)
#include "isa.h"  // and with it the standard library, before the instruction set changes

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+bf16")
#endif
#define DEPTHSR_ISA neon_bf16
#define DEPTHSR_LANES 4
#define DEPTHSR_BF16_NEON

#include "fused_kernels.h"

const depthsr::FusedKernels depthsr::NEON_BF16_KERNELS = depthsr::neon_bf16::table("neonbf16");

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
