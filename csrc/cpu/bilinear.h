// Maps of one channel, and bilinear resizing of them (align_corners=False).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace depthsr {

struct Map {
  std::int64_t height, width;
  std::vector<float> values;

  Map(std::int64_t height, std::int64_t width) : height(height), width(width), values(height * width) {}
  float* row(std::int64_t y) { return values.data() + y * width; }
  const float* row(std::int64_t y) const { return values.data() + y * width; }
};

struct Tap {
  std::int64_t first, second;
  float share;  // of the second
};

inline std::vector<Tap> bilinear_taps(std::int64_t source, std::int64_t target) {
  const float step = static_cast<float>(source) / static_cast<float>(target);
  std::vector<Tap> taps(target);
  for (std::int64_t i = 0; i < target; ++i) {
    // Rounded once, as PyTorch's is: twice, and on a long axis the share differs by an ulp of the position.
    const float position = std::max(0.0f, std::fma(step, static_cast<float>(i) + 0.5f, -0.5f));
    const std::int64_t first = std::min(static_cast<std::int64_t>(position), source - 1);
    const float share = std::clamp(position - static_cast<float>(first), 0.0f, 1.0f);
    taps[i] = {first, std::min(first + 1, source - 1), share};
  }
  return taps;
}

// Every row at the width of `columns`.
inline Map widened(const Map& in, const std::vector<Tap>& columns) {
  if (static_cast<std::int64_t>(columns.size()) == in.width) return in;
  Map out(in.height, static_cast<std::int64_t>(columns.size()));
  for (std::int64_t y = 0; y < in.height; ++y) {
    const float* source = in.row(y);
    float* target = out.row(y);
    for (std::int64_t x = 0; x < out.width; ++x) {
      const auto [first, second, share] = columns[x];
      target[x] = (1.0f - share) * source[first] + share * source[second];
    }
  }
  return out;
}

inline void blend_rows(const Map& wide, const Tap& tap, float* __restrict out) {
  const float* first = wide.row(tap.first);
  const float* second = wide.row(tap.second);
  for (std::int64_t x = 0; x < wide.width; ++x) out[x] = (1.0f - tap.share) * first[x] + tap.share * second[x];
}

}  // namespace depthsr
