// The fused kernels for what every processor of an architecture has: SSE2 on x86-64, NEON on aarch64.
#define DEPTHSR_ISA portable
#define DEPTHSR_LANES 4

#include "fused_kernels.h"

const depthsr::FusedKernels depthsr::PORTABLE_KERNELS = depthsr::portable::table(
#if defined(__aarch64__)
    "neon"
#else
    "portable"
#endif
);
