#include "bilateral_sum.h"

#include <algorithm>
#include <cmath>

namespace depthsr {
namespace {

// As in depthsr/ops/reference.py.
constexpr float kSigmaSpace = 2.5f;
constexpr float kSigmaColour = 10.0f / 255.0f;
constexpr float kFloor = 1e-4f;

constexpr std::int64_t kPlanes = 5;      // of BilateralRow::rows
constexpr std::int64_t kGrain = 1 << 10;  // pixels a thread: below this a thread costs more than it saves
// Rows that a thread takes at least, of the BILATERAL_WINDOW - 1 beyond them that it has to lay out.
constexpr std::int64_t kRows = BILATERAL_WINDOW;

}  // namespace

BilateralRows::BilateralRows(const GuidedMaps& in) : in_(in) {
  held_.fill(-1);
  row_.width = in.width;
  row_.pitch = (in.width + 15) / 16 * 16 + 2 * BILATERAL_REACH;
  row_.floor = kFloor;
  for (int k = 0; k < BILATERAL_WINDOW; ++k) {
    const auto offset = static_cast<float>(k - BILATERAL_REACH);
    row_.near[k] = std::exp(offset * offset * (-0.5f / (kSigmaSpace * kSigmaSpace)));
  }
  for (auto& row : rows_) row.assign(kPlanes * row_.pitch, 0.0f);
}

const float* BilateralRows::laid_out(std::int64_t row) {
  const std::int64_t slot = row % BILATERAL_WINDOW;  // the rows in use at a time follow each other
  float* out = rows_[slot].data();
  if (held_[slot] != row) {
    held_[slot] = row;
    for (std::int64_t c = 0; c < 3; ++c) {
      const float* from = in_.guide + row * in_.guide_row + c * in_.guide_plane;
      float* to = out + c * row_.pitch + BILATERAL_REACH;
      for (std::int64_t i = 0; i < in_.width; ++i) to[i] = from[i * in_.guide_column] * (0.25f / kSigmaColour);
    }
    for (std::int64_t m = 0; m < 2; ++m)
      std::copy_n(in_.maps[m] + row * in_.width, in_.width, out + (3 + m) * row_.pitch + BILATERAL_REACH);
  }
  return out;
}

void BilateralRows::operator()(std::int64_t row, float* first, float* second) {
  for (int k = 0; k < BILATERAL_WINDOW; ++k) {
    const std::int64_t other = row + k - BILATERAL_REACH;
    row_.rows[k] = other >= 0 && other < in_.height ? laid_out(other) : nullptr;
  }
  row_.out[0] = first;
  row_.out[1] = second;
  fused_kernels().bilateral_row(row_);
}

void bilateral_sum(const float* x, const float* guide, Frames shape, float* out, ParallelFor parallel_for) {
  const std::int64_t pixels = shape.height * shape.width, pairs = (shape.channels + 1) / 2;
  if (pixels == 0) return;
  parallel_for(shape.batch * pairs * shape.height, std::max(kRows, 1 + kGrain / shape.width),
               [&](std::int64_t begin, std::int64_t end) {
                 std::vector<float> unused(shape.channels % 2 == 1 ? shape.width : 0);
                 while (begin < end) {
                   const std::int64_t pair = begin / shape.height, sample = pair / pairs;
                   const std::int64_t first = sample * shape.channels + 2 * (pair % pairs);
                   const bool both = 2 * (pair % pairs) + 1 < shape.channels;  // the last may be alone: twice the same
                   const std::int64_t second = both ? first + 1 : first;
                   const bool last = shape.guide_channels_last;
                   BilateralRows sums({shape.height,
                                       shape.width,
                                       guide + 3 * sample * pixels,
                                       last ? 3 * shape.width : shape.width,
                                       last ? 3 : 1,
                                       last ? 1 : pixels,
                                       {x + first * pixels, x + second * pixels}});
                   for (const std::int64_t stop = std::min(end, (pair + 1) * shape.height); begin < stop; ++begin) {
                     const std::int64_t row = begin - pair * shape.height;
                     sums(row, out + first * pixels + row * shape.width,
                          both ? out + second * pixels + row * shape.width : unused.data());
                   }
                 }
               });
}

}  // namespace depthsr
