// The fused kernels for x86-64 processors with AVX-512 (F, BW, DQ, VL).
#if defined(__x86_64__)
#include "isa.h"  // and with it the standard library, before the instruction set changes

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#endif
#define DEPTHSR_ISA avx512
#define DEPTHSR_LANES 16

#include "fused_kernels.h"

const depthsr::FusedKernels depthsr::AVX512_KERNELS = depthsr::avx512::table("avx512");

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
