#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace depthsr {

namespace {

const FusedKernels& best_kernels() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return AVX512_KERNELS;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2_KERNELS;
#endif
  return PORTABLE_KERNELS;
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
  static const FusedKernels& chosen = best_kernels();
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
  thread_local Buffer buffers[2];
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
