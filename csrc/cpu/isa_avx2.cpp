// The fused kernels for x86-64 processors with AVX2 and FMA (Intel since 2013, AMD since 2015).
#if defined(__x86_64__)
#include "isa.h"  // and with it the standard library, before the instruction set changes

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define DEPTHSR_ISA avx2
#define DEPTHSR_LANES 8

#include "fused_kernels.h"

const depthsr::FusedKernels depthsr::AVX2_KERNELS = depthsr::avx2::table("avx2");

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
