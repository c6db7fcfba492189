#include "joint_bilateral.h"

#include <algorithm>
#include <cmath>

#include "isa.h"

namespace depthsr {
namespace {

// As in depthsr/ops/reference.py.
constexpr float kSigmaSpace = 1.2f;
constexpr float kSigmaColour = 20.0f / 255.0f;
constexpr float kColourScale = 0.25f / kSigmaColour;
constexpr float kFloor = 1e-4f;
constexpr int kPlanes = 5;  // of JointBilateralRow::coarse
constexpr int kReach = JOINT_BILATERAL_WINDOW / 2;

constexpr std::int64_t kGrain = 1 << 12;  // fine pixels a thread: below this a thread costs more than it saves

}  // namespace

std::vector<std::int32_t> nearest_coarse(std::int64_t coarse, std::int64_t fine) {
  std::vector<std::int32_t> nearest(fine);
  for (std::int64_t i = 0; i < fine; ++i)  // no rounding decides between two
    nearest[i] = static_cast<std::int32_t>((2 * i + 1) * coarse / (2 * fine));
  return nearest;
}

CoarseNeighbours::CoarseNeighbours(std::int64_t coarse, std::int64_t fine) : nearest(nearest_coarse(coarse, fine)) {
  for (auto& weight : weights) weight.resize(fine);
  const auto step = static_cast<float>(static_cast<double>(coarse) / static_cast<double>(fine));
  for (std::int64_t i = 0; i < fine; ++i) {
    const float position = (static_cast<float>(i) + 0.5f) * step - 0.5f;
    for (int k = 0; k < JOINT_BILATERAL_WINDOW; ++k) {
      const float distance = static_cast<float>(nearest[i] + k - kReach) - position;
      weights[k][i] = std::exp(distance * distance * (-0.5f / (kSigmaSpace * kSigmaSpace)));
    }
  }
}

JointBilateralRows::JointBilateralRows(const CoarseMap& coarse, const CoarseNeighbours& rows,
                                       const CoarseNeighbours& columns)
    : coarse_(coarse), rows_(rows), columns_(columns), width_(static_cast<std::int64_t>(columns.nearest.size())) {
  held_.fill(-1);
  const std::int64_t factor = width_ / coarse.width;
  const auto inside = [&](std::int64_t column) {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(column, 0, coarse.width - 1));
  };
  if (factor * coarse.width == width_) {
    // The next column of the window is what this one is `factor` fine pixels further on: one plane serves all.
    step_ = factor;
    plane_ = width_ + (JOINT_BILATERAL_WINDOW - 1) * factor;
    for (std::int64_t i = 0; i < plane_; ++i) spread_columns_.push_back(inside(i / factor - kReach));
  } else {
    step_ = kPlanes * width_;
    plane_ = width_;
    for (int k = 0; k < JOINT_BILATERAL_WINDOW; ++k)
      for (std::int64_t i = 0; i < width_; ++i) spread_columns_.push_back(inside(columns.nearest[i] + k - kReach));
  }
  for (auto& row : spread_) row.resize(kPlanes * spread_columns_.size());
}

const float* JointBilateralRows::spread_out(std::int64_t coarse_row) {
  const std::int64_t slot = coarse_row % JOINT_BILATERAL_WINDOW;  // the rows in use at a time follow each other
  if (held_[slot] != coarse_row) {
    held_[slot] = coarse_row;
    float* out = spread_[slot].data();
    for (std::size_t first = 0; first < spread_columns_.size(); first += plane_) {
      const std::int32_t* column = spread_columns_.data() + first;
      const float* values = coarse_.values + coarse_row * coarse_.width;
      const float* confidence = coarse_.confidence + coarse_row * coarse_.width;
      for (std::int64_t i = 0; i < plane_; ++i) {
        out[i] = values[column[i]] * confidence[column[i]];
        out[plane_ + i] = confidence[column[i]];
      }
      for (int c = 0; c < 3; ++c) {
        const float* colours = coarse_.guide + (c * coarse_.height + coarse_row) * coarse_.width;
        for (std::int64_t i = 0; i < plane_; ++i) out[(2 + c) * plane_ + i] = colours[column[i]] * kColourScale;
      }
      out += kPlanes * plane_;
    }
  }
  return spread_[slot].data();
}

void JointBilateralRows::operator()(std::int64_t row, const std::array<const float*, 3>& guide_row, float* out) {
  JointBilateralRow in{};
  in.width = width_;
  in.step = step_;
  in.plane = plane_;
  in.colour_scale = kColourScale;
  in.floor = kFloor;
  in.out = out;
  for (int c = 0; c < 3; ++c) in.guide[c] = guide_row[c];
  for (int k = 0; k < JOINT_BILATERAL_WINDOW; ++k) {
    in.coarse[k] = spread_out(std::clamp<std::int64_t>(rows_.nearest[row] + k - kReach, 0, coarse_.height - 1));
    in.row_weight[k] = rows_.weights[k][row];
    in.column_weight[k] = columns_.weights[k].data();
  }
  fused_kernels().joint_bilateral_row(in);
}

void joint_bilateral_upsample(const float* x, const float* confidence, const float* guide, const float* coarse_guide,
                              Upsampling shape, float* out, ParallelFor parallel_for) {
  const CoarseNeighbours rows(shape.coarse_height, shape.height), columns(shape.coarse_width, shape.width);
  const std::int64_t width = shape.width, pixels = shape.height * width;
  const std::int64_t coarse_pixels = shape.coarse_height * shape.coarse_width;
  parallel_for(shape.batch * shape.height, 1 + kGrain / width, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> planes(shape.channels_last ? 3 * width : 0);
    while (begin < end) {
      const std::int64_t sample = begin / shape.height;
      const CoarseMap coarse{shape.coarse_height, shape.coarse_width, x + sample * coarse_pixels,
                             confidence + sample * coarse_pixels, coarse_guide + 3 * sample * coarse_pixels};
      JointBilateralRows upsample(coarse, rows, columns);
      for (const std::int64_t stop = std::min(end, (sample + 1) * shape.height); begin < stop; ++begin) {
        const std::int64_t row = begin - sample * shape.height;
        std::array<const float*, 3> guide_row;
        for (int c = 0; c < 3; ++c) {
          if (shape.channels_last) {
            const float* in = guide + 3 * begin * width + c;
            float* plane = planes.data() + c * width;
            for (std::int64_t i = 0; i < width; ++i) plane[i] = in[3 * i];
            guide_row[c] = plane;
          } else {
            guide_row[c] = guide + (3 * sample + c) * pixels + row * width;
          }
        }
        upsample(row, guide_row, out + begin * width);
      }
    }
  });
}

}  // namespace depthsr
