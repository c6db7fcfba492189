// The fused kernels for x86-64 processors with AVX-512 and its BFloat16 dot products (AVX512_BF16: Zen 4, Cooper Lake on).
#if defined(__x86_64__)
#include "isa.h"  // and with it the standard library, before the instruction set changes

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#endif
#define DEPTHSR_ISA avx512_bf16
#define DEPTHSR_LANES 16
#define DEPTHSR_BF16_AVX512

#include "fused_kernels.h"

const depthsr::FusedKernels depthsr::AVX512_BF16_KERNELS = depthsr::avx512_bf16::table("avx512bf16");

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
