#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "bilinear.h"
#include "depthsr/kernels.h"

namespace depthsr {
namespace {

Map resized(const Map& in, std::int64_t height, std::int64_t width) {
  const Map wide = widened(in, bilinear_taps(in.width, width));
  const std::vector<Tap> rows = bilinear_taps(in.height, height);
  Map out(height, width);
  for (std::int64_t y = 0; y < height; ++y) blend_rows(wide, rows[y], out.row(y));
  return out;
}

struct Level {
  Map values;
  Map weight;  // 1 where there is a value, else 0
};

Level halved(const Level& in) {
  const std::int64_t height = (in.values.height + 1) / 2, width = (in.values.width + 1) / 2;
  Level out{{height, width}, {height, width}};
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x) {
      float total = 0, weight = 0;
      for (std::int64_t v = 2 * y; v < std::min(2 * y + 2, in.values.height); ++v)
        for (std::int64_t u = 2 * x; u < std::min(2 * x + 2, in.values.width); ++u) {
          total += in.values.row(v)[u] * in.weight.row(v)[u];
          weight += in.weight.row(v)[u];
        }
      out.values.row(y)[x] = weight > 0 ? total / weight : 0.0f;
      out.weight.row(y)[x] = weight > 0 ? 1.0f : 0.0f;
    }
  return out;
}

Map with_holes_filled(Level finest) {
  std::vector<Level> levels;
  levels.push_back(std::move(finest));
  while (std::max(levels.back().values.height, levels.back().values.width) > 1) levels.push_back(halved(levels.back()));
  Map filled = std::move(levels.back().values);
  levels.pop_back();
  for (; !levels.empty(); levels.pop_back()) {
    Level& level = levels.back();
    filled = resized(filled, level.values.height, level.values.width);
    for (std::size_t i = 0; i < filled.values.size(); ++i)
      if (level.weight.values[i] > 0) filled.values[i] = level.values.values[i];
  }
  return filled;
}

}  // namespace

void fill_holes(const float* x, const bool* valid, std::int64_t batch, std::int64_t height, std::int64_t width, float* out,
                ParallelFor parallel_for) {
  const std::int64_t pixels = height * width;
  parallel_for(batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin * pixels; first < end * pixels; first += pixels) {
      if (std::all_of(valid + first, valid + first + pixels, [](bool is) { return is; })) {
        std::copy(x + first, x + first + pixels, out + first);
        continue;
      }
      Level measured{{height, width}, {height, width}};
      for (std::int64_t i = 0; i < pixels; ++i) {
        measured.values.values[i] = valid[first + i] ? x[first + i] : 0.0f;
        measured.weight.values[i] = valid[first + i] ? 1.0f : 0.0f;
      }
      const Map filled = with_holes_filled(std::move(measured));
      std::copy(filled.values.begin(), filled.values.end(), out + first);
    }
  });
}

}  // namespace depthsr
