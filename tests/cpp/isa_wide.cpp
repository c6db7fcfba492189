// The kernels with the 16 lanes, the block sizes and the BFloat16 products of AVX-512, on processors that have AVX2
// only: the compiler splits the vectors, and the products of pairs are spelled out. For the tests alone.
#if defined(__x86_64__)
#include "isa_under_test.h"  // and with it the standard library, before the instruction set changes

#pragma GCC target("avx2,fma")
#define DEPTHSR_ISA wide
#define DEPTHSR_LANES 16
#define DEPTHSR_ACCUMULATORS 24
#define DEPTHSR_BF16_EMULATED

#include "cpu/fused_kernels.h"

const depthsr::FusedKernels depthsr::WIDE_KERNELS = depthsr::wide::table("wide");
#endif
