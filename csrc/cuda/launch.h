// Launching a kernel. tests/host_cuda has a cuda_runtime.h of its own that runs kernels on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace depthsr::cuda {

// Queues kernel(arguments...) on `stream`, a cudaStream_t; nothing when the grid is empty.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, void* stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = static_cast<cudaStream_t>(stream);
  if (const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...); error != cudaSuccess) {
    cudaGetLastError();  // forgets it, or torch would report it once more, of whatever it launches next
    throw std::runtime_error(std::string("depthsr: a CUDA kernel could not be launched: ") + cudaGetErrorString(error));
  }
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace depthsr::cuda
