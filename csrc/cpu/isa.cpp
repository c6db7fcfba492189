#include "isa.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace depthsr {

namespace {

#if defined(__aarch64__)
bool has_bf16() {
#if defined(__linux__)
  constexpr unsigned long BF16 = 1ul << 14;  // HWCAP2_BF16, which older headers lack
  return (getauxval(AT_HWCAP2) & BF16) != 0;
#elif defined(__APPLE__)
  int present = 0;
  std::size_t size = sizeof present;
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &present, &size, nullptr, 0) == 0 && present != 0;
#else
  return false;
#endif
}
#endif

struct Candidate {
  const FusedKernels& kernels;
  bool runs_here;
};

// The fastest first.
std::vector<Candidate> candidates() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  return {{AVX512_BF16_KERNELS, avx512_bf16}, {AVX512_KERNELS, avx512}, {AVX2_KERNELS, avx2}, {PORTABLE_KERNELS, true}};
#elif defined(__aarch64__)
  return {{NEON_BF16_KERNELS, has_bf16()}, {PORTABLE_KERNELS, true}};
#else
  return {{PORTABLE_KERNELS, true}};
#endif
}

// The fastest that run here, or those that DEPTHSR_ISA names.
const FusedKernels& chosen_kernels() {
  const char* variable = std::getenv("DEPTHSR_ISA");
  const std::string wanted = variable == nullptr ? "auto" : variable;
  std::string names = "auto";
  for (const auto& [kernels, runs_here] : candidates()) {
    names += std::string(", ") + kernels.name;
    if (wanted != "auto" && wanted != kernels.name) continue;
    if (runs_here) return kernels;
    if (wanted != "auto")
      throw std::runtime_error("DEPTHSR_ISA is '" + wanted + "', but this processor lacks it; unset the variable.");
  }
  throw std::runtime_error("DEPTHSR_ISA is '" + wanted + "'; set it to one of " + names + ".");
}

struct Free {
  void operator()(float* memory) const { release(memory); }
};

struct Buffer {
  std::unique_ptr<float, Free> memory;
  std::int64_t floats = 0;
};

}  // namespace

const FusedKernels& fused_kernels() {
  static const FusedKernels& chosen = chosen_kernels();
  return chosen;
}

float* allocate(std::int64_t floats) {
  const std::size_t bytes = (static_cast<std::size_t>(floats) * sizeof(float) + 63) / 64 * 64;
  float* memory = static_cast<float*>(std::aligned_alloc(64, bytes));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(float* memory) { std::free(memory); }

float* scratch(Scratch slot, std::int64_t floats) {
  thread_local Buffer buffers[3];
  Buffer& buffer = buffers[static_cast<int>(slot)];
  if (floats > buffer.floats) {
    buffer.memory.reset();
    buffer.floats = 0;
    buffer.memory.reset(allocate(floats));
    buffer.floats = floats;
  }
  return buffer.memory.get();
}

void naf_block(const float* x, const NafBlockWeights& weights, float eps, Image image, float* out,
               ParallelFor parallel_for) {
  fused_kernels().naf_block(x, weights, eps, image, out, parallel_for);
}

void naf_block(const BFloat16* x, const NafBlockWeights& weights, float eps, Image image, BFloat16* out,
               ParallelFor parallel_for) {
  fused_kernels().naf_block_bf16(x, weights, eps, image, out, parallel_for);
}

void naf_block_backward(const float* grad_out, const float* x, const NafBlockWeights& weights, float eps, Image image,
                        float* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for) {
  fused_kernels().naf_block_backward(grad_out, x, weights, eps, image, grad_x, gradients, parallel_for);
}

void naf_block_backward(const BFloat16* grad_out, const BFloat16* x, const NafBlockWeights& weights, float eps,
                        Image image, BFloat16* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for) {
  fused_kernels().naf_block_backward_bf16(grad_out, x, weights, eps, image, grad_x, gradients, parallel_for);
}

}  // namespace depthsr
