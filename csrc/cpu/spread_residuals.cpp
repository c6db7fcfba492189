#include <cmath>
#include <vector>

#include "depthsr/kernels.h"
#include "isa.h"
#include "joint_bilateral.h"

namespace depthsr {
namespace {

constexpr std::int64_t kGrain = 1 << 10;  // pixels a thread: below this a thread costs more than it saves

// Along one axis, for each pixel: the cell that its centre lies in, and the Gaussian's exponent of each of its window.
struct Windows {
  Windows(std::int64_t cells, std::int64_t pixels, std::int64_t reach, float sigma_cells)
      : cell(nearest_coarse(cells, pixels)), exponent((2 * reach + 1) * pixels) {
    for (std::int64_t i = 0; i < pixels; ++i) {
      const double place = (i + 0.5) * static_cast<double>(cells) / static_cast<double>(pixels);
      for (std::int64_t k = 0; k <= 2 * reach; ++k) {
        const double distance = (place - (static_cast<double>(cell[i] + k - reach) + 0.5)) / sigma_cells;
        exponent[k * pixels + i] = static_cast<float>(-0.5 * distance * distance);
      }
    }
  }

  std::vector<std::int32_t> cell;
  std::vector<float> exponent;  // window × pixels
};

// Rows of cells as ResidualRow reads them; those of the last window are kept.
class SpreadRows {
 public:
  SpreadRows(const Residuals& residuals, const Windows& columns)
      : residuals_(residuals), columns_(columns), held_(window(), -1), rows_(window()) {
    for (auto& row : rows_) row.resize(2 * columns.exponent.size());
  }

  // `row` counts the empty ones.
  const float* operator()(std::int64_t row) {
    const std::int64_t slot = row % window();
    if (held_[slot] != row) {
      held_[slot] = row;
      const std::int64_t first = row * (residuals_.width + 2 * residuals_.reach);
      float* out = rows_[slot].data();
      for (std::int64_t l = 0; l < window(); ++l)
        for (const float* cells : {residuals_.residual + first, residuals_.log_m + first})
          for (const std::int32_t cell : columns_.cell) *out++ = cells[cell + l];
    }
    return rows_[slot].data();
  }

 private:
  std::int64_t window() const { return 2 * residuals_.reach + 1; }

  const Residuals& residuals_;
  const Windows& columns_;
  std::vector<std::int64_t> held_;
  std::vector<std::vector<float>> rows_;
};

}  // namespace

void spread_residuals(const float* log_m, std::int64_t height, std::int64_t width, const Residuals& residuals, bool own,
                      float* out, ParallelFor parallel_for) {
  if (height == 0 || width == 0) return;
  const Windows rows(residuals.height, height, residuals.reach, residuals.sigma_down);
  const Windows columns(residuals.width, width, residuals.reach, residuals.sigma_across);
  const std::int64_t window = 2 * residuals.reach + 1;
  parallel_for(height, 1 + kGrain / width, [&](std::int64_t begin, std::int64_t end) {
    SpreadRows spread(residuals, columns);
    std::vector<const float*> cells(window);
    std::vector<float> row_exponent(window);
    for (std::int64_t y = begin; y < end; ++y) {
      for (std::int64_t k = 0; k < window; ++k) {
        cells[k] = spread(rows.cell[y] + k);
        row_exponent[k] = rows.exponent[k * height + y];
      }
      fused_kernels().residual_row({
          .width = width,
          .window = window,
          .log_m = log_m + y * width,
          .cells = cells.data(),
          .row_exponent = row_exponent.data(),
          .column_exponent = columns.exponent.data(),
          .log_scale = std::sqrt(0.5f) / residuals.sigma_log,
          .prior_weight = residuals.prior_weight,
          .own = own,
          .out = out + y * width,
      });
    }
  });
}

}  // namespace depthsr
