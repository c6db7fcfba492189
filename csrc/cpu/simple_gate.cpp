#include <algorithm>

#include "../storage.h"

namespace depthsr {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // elements a thread: below this a thread costs more than it saves

// In both layouts the gate is a run of `inner` values, then the run of their gates, `outer` times over.
template <typename Run>
void for_each_run(Shape shape, ParallelFor parallel_for, Run run) {
  const std::int64_t inner = shape.channels_last ? shape.channels : shape.channels * shape.pixels;
  parallel_for(shape.elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t outer = begin / inner;
      const std::int64_t count = std::min(end, (outer + 1) * inner) - begin;
      const std::int64_t first = begin + outer * inner;
      run(begin, first, first + inner, count);
      begin += count;
    }
  });
}

}  // namespace

template <typename T>
void simple_gate(const T* x, Shape shape, T* out, ParallelFor parallel_for) {
  for_each_run(shape, parallel_for, [=](auto begin, auto first, auto second, auto count) {
    for (std::int64_t i = 0; i < count; ++i) store(load(x[first + i]) * load(x[second + i]), out[begin + i]);
  });
}

template <typename T>
void simple_gate_backward(const T* grad_out, const T* x, Shape shape, T* grad_x, ParallelFor parallel_for) {
  for_each_run(shape, parallel_for, [=](auto begin, auto first, auto second, auto count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const float grad = load(grad_out[begin + i]);
      store(grad * load(x[second + i]), grad_x[first + i]);
      store(grad * load(x[first + i]), grad_x[second + i]);
    }
  });
}

#define DEPTHSR_INSTANTIATE(T)                                    \
  template void simple_gate<T>(const T*, Shape, T*, ParallelFor); \
  template void simple_gate_backward<T>(const T*, const T*, Shape, T*, ParallelFor);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr
