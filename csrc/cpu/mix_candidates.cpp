#include <algorithm>

#include "isa.h"

namespace depthsr {
namespace {

constexpr std::int64_t kGrain = 1 << 12;  // pixels a thread: below this a thread costs more than it saves

}  // namespace

void mix_candidates(const float* logits, const float* correction, const float* error, const float* candidates,
                    const float* ambiguity, Mixture shape, float* depth, float* expected, ParallelFor parallel_for) {
  const std::int64_t pairs = (shape.height + 1) / 2, plane = shape.height * shape.width;
  const std::int64_t half_plane = shape.half_height * shape.half_width;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (2 * std::max<std::int64_t>(1, shape.width)));
  const FusedKernels& kernels = fused_kernels();
  parallel_for(shape.batch * pairs, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t frame = i / pairs, y = i % pairs;
      const auto half_row = [&](const float* map, std::int64_t channels) {
        const std::int64_t row = y * shape.half_width;
        return map + frame * channels * half_plane + (shape.channels_last ? row * channels : row);
      };
      const std::int64_t first = frame * plane + 2 * y * shape.width;
      kernels.mix_candidate_rows({
          .count = shape.candidates,
          .rows = std::min<std::int64_t>(2, shape.height - 2 * y),
          .width = shape.width,
          .logits = half_row(logits, 4 * shape.candidates),
          .correction = half_row(correction, 4),
          .error = half_row(error, 4),
          .half_plane = shape.channels_last ? 0 : half_plane,
          .candidates = candidates + frame * shape.candidates * plane + 2 * y * shape.width,
          .plane = plane,
          .ambiguity = ambiguity + first,
          .depth = depth + first,
          .expected = expected + first,
      });
    }
  });
}

}  // namespace depthsr
