// Stands in for CUDA's header of this name, so that csrc/cuda compiles for the CPU and its kernels' indexing can be
// tested without a GPU.
//
// The threads of a block are fibers of one system thread. One runs until it reaches a barrier or a warp shuffle, then
// the next does: what a thread reads between two barriers without having been promised it depends on the order, so tests
// run every kernel in both orders. Blocks run one after the other. Nothing here tells how fast a kernel is, and whether
// nvcc compiles it right.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // one block at a time
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace host_cuda {

inline bool backwards = false;  // the last thread first

constexpr std::size_t kStackBytes = 64 * 1024;

struct Barrier {
  int expected = 0;
  int arrived = 0;
  int generation = 0;
};

// The threads of one block and whose turn it is.
class Block {
 public:
  Block(dim3 size, const std::function<void()>& body) : size_(size), body_(body) {
    const int threads = static_cast<int>(size.x * size.y * size.z);
    fibers_.resize(threads);
    whole_.expected = threads;
    warps_.resize((threads + 31) / 32);
    for (int i = 0; i < threads; ++i) ++warps_[i / 32].barrier.expected;
  }

  void run() {
    current_block() = this;
    const int threads = static_cast<int>(fibers_.size());
    while (finished_ < threads) {
      const int before = progress_;
      for (int i = 0; i < threads; ++i) {
        current_ = backwards ? threads - 1 - i : i;
        if (fibers_[current_].finished) continue;
        const unsigned thread = static_cast<unsigned>(current_);
        threadIdx = dim3(thread % size_.x, thread / size_.x % size_.y, thread / (size_.x * size_.y));
        if (_setjmp(scheduler_) == 0) resume(fibers_[current_]);
      }
      if (progress_ == before) std::abort();  // a barrier that some thread will never reach
    }
  }

  void wait_for_block() { wait(whole_); }

  template <typename T>
  T shuffle_down(T value, unsigned offset) {
    Warp& warp = warps_[current_ / 32];
    const unsigned lane = current_ % 32;
    std::memcpy(&warp.values[lane], &value, sizeof value);
    wait(warp.barrier);
    if (lane + offset < 32) std::memcpy(&value, &warp.values[lane + offset], sizeof value);
    wait(warp.barrier);
    return value;
  }

  static Block*& current_block() {
    static Block* block = nullptr;
    return block;
  }

 private:
  struct Fiber {
    std::jmp_buf context;
    bool started = false;
    bool finished = false;
  };

  struct Warp {
    Barrier barrier;
    std::uint64_t values[32];
  };

  // ucontext begins a fiber on its own stack; from then on _longjmp switches, which costs no system call.
  void resume(Fiber& fiber) {
    if (fiber.started) _longjmp(fiber.context, 1);
    fiber.started = true;
    static std::vector<char> stacks(1024 * kStackBytes);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks.data() + current_ * kStackBytes;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, &Block::start, 0);
    setcontext(&context);
  }

  static void start() {
    Block& block = *current_block();
    block.body_();
    block.fibers_[block.current_].finished = true;
    ++block.finished_;
    ++block.progress_;
    _longjmp(block.scheduler_, 1);
  }

  void wait(Barrier& barrier) {
    const int generation = barrier.generation;
    if (++barrier.arrived == barrier.expected) {
      barrier.arrived = 0;
      ++barrier.generation;
      ++progress_;
      return;
    }
    const dim3 own = threadIdx;
    const int self = current_;
    while (barrier.generation == generation) {
      if (_setjmp(fibers_[self].context) == 0) _longjmp(scheduler_, 1);
      threadIdx = own;
    }
  }

  dim3 size_;
  const std::function<void()>& body_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  Barrier whole_;
  std::jmp_buf scheduler_;
  int current_ = 0;
  int finished_ = 0;
  int progress_ = 0;
};

}  // namespace host_cuda

inline void __syncthreads() { host_cuda::Block::current_block()->wait_for_block(); }

template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned offset) {
  return host_cuda::Block::current_block()->shuffle_down(value, offset);
}

template <typename T>
T min(T a, T b) {
  return a < b ? a : b;
}

// --- the part of the runtime's interface that csrc/cuda/launch.h uses -----------------------------------------------

using cudaStream_t = void*;

enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration };

namespace host_cuda {

inline cudaError_t last_error = cudaSuccess;

}  // namespace host_cuda

// The last error, which it forgets.
inline cudaError_t cudaGetLastError() { return std::exchange(host_cuda::last_error, cudaSuccess); }

inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  cudaStream_t stream;
};

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  gridDim = config->gridDim;
  blockDim = config->blockDim;
  if (gridDim.y > 65535 || gridDim.z > 65535 || blockDim.x * blockDim.y * blockDim.z > 1024)
    return host_cuda::last_error = cudaErrorInvalidConfiguration;
  const std::function<void()> body = [&] { kernel(arguments...); };
  for (unsigned z = 0; z < gridDim.z; ++z)
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = dim3(x, y, z);
        host_cuda::Block(blockDim, body).run();
      }
  return cudaSuccess;
}
