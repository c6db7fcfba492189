// What the gradients of layers are made of: sums over pixels of products of their channels, a LayerNorm's and a depthwise
// convolution's way back.
#pragma once

#include "gemm.h"

namespace depthsr::DEPTHSR_ISA {

// Distance of two pixels in a buffer. Rows that lie a multiple of 64 floats apart would compete for the same few places
// of the first-level cache when a column of them is read.
DEPTHSR_INLINE std::int64_t pitch_of(std::int64_t floats) { return floats % 64 == 0 ? floats + PANEL : floats; }

// Hands out consecutive pieces of a buffer, each at a multiple of 64 bytes. Without a buffer it only counts.
class Carve {
 public:
  explicit Carve(float* memory) : memory_(memory) {}
  float* operator()(std::int64_t floats) {
    float* here = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += round_up(floats, PANEL);
    return here;
  }
  std::int64_t used() const { return used_; }

 private:
  float* memory_;
  std::int64_t used_ = 0;
};

// `rows` times a packed matrix of `columns` columns, whole panels. epilogue(row, column, sums of LANES columns).
template <int RUNS, typename Epilogue>
DEPTHSR_INLINE void product(const Rows<RUNS>& rows, std::int64_t count, const float* packed, std::int64_t columns,
                            Epilogue epilogue) {
  const std::int64_t depth = rows.length * RUNS;
  for (std::int64_t column = 0; column < columns; column += PANEL)
    gemm(rows, count, packed + column * depth, 0, [&](std::int64_t m, const V* sums) {
      for (int v = 0; v < PANEL_VECTORS; ++v) epilogue(m, column + v * LANES, sums[v]);
    });
}

// A buffer of pixels, `pitch` floats apart.
struct Pixels {
  float* first;
  std::int64_t pitch;

  float* operator[](std::int64_t pixel) const { return first + pixel * pitch; }
  Pixels from(std::int64_t pixel) const { return {first + pixel * pitch, pitch}; }
};

template <int ROWS>
DEPTHSR_INLINE void outer_block(const float* left, std::int64_t left_pitch, const float* right,
                                std::int64_t right_pitch, std::int64_t count, float* out, std::int64_t out_pitch) {
  V sums[ROWS][PANEL_VECTORS];
#pragma GCC unroll 12
  for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < PANEL_VECTORS; ++v) sums[m][v] = V{};
  for (std::int64_t pixel = 0; pixel < count; ++pixel, left += left_pitch, right += right_pitch) {
    V values[PANEL_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < PANEL_VECTORS; ++v) values[v] = load(right + v * LANES);
#pragma GCC unroll 12
    for (int m = 0; m < ROWS; ++m) {
      const V factor = splat(left[m]);
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; ++v) sums[m][v] += factor * values[v];
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < PANEL_VECTORS; ++v) {
      float* to = out + m * out_pitch + v * LANES;
      store(to, load(to) + sums[m][v]);
    }
}

// out[m][n] += sum over pixels of left[pixel][m] · right[pixel][n]: a 1×1 convolution's weight gradient. m < rows;
// n < columns, whole panels, and `out` has that many columns.
DEPTHSR_INLINE void add_outer(Pixels left, std::int64_t rows, Pixels right, std::int64_t columns, std::int64_t count,
                              float* out) {
  constexpr int BLOCK = block_rows(1);
  for (std::int64_t n = 0; n < columns; n += PANEL) {
    const float* values = right.first + n;
    std::int64_t m = 0;
    for (; m + BLOCK <= rows; m += BLOCK)
      outer_block<BLOCK>(left.first + m, left.pitch, values, right.pitch, count, out + m * columns + n, columns);
    if constexpr (BLOCK > 4)
      for (; m + 4 <= rows; m += 4)
        outer_block<4>(left.first + m, left.pitch, values, right.pitch, count, out + m * columns + n, columns);
    for (; m + 2 <= rows; m += 2)
      outer_block<2>(left.first + m, left.pitch, values, right.pitch, count, out + m * columns + n, columns);
    for (; m < rows; ++m)
      outer_block<1>(left.first + m, left.pitch, values, right.pitch, count, out + m * columns + n, columns);
  }
}

// out[c] += sum over pixels.
DEPTHSR_INLINE void add_pixels(Pixels pixels, std::int64_t columns, std::int64_t count, float* out) {
  for (std::int64_t c = 0; c < columns; c += LANES) {
    V total{};
    for (std::int64_t i = 0; i < count; ++i) total += load(pixels[i] + c);
    store(out + c, load(out + c) + total);
  }
}

// The stored type as floats; channels from `channels` to `stride` become 0.
template <typename T>
DEPTHSR_INLINE void widen(const T* from, std::int64_t channels, std::int64_t stride, std::int64_t count,
                          const Pixels& to) {
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t c = 0; c < stride; c += LANES)
      store(to[i] + c, c < channels ? load(from + i * channels + c, channels - c) : V{});
}

template <typename T>
DEPTHSR_INLINE void narrow(const Pixels& from, std::int64_t channels, std::int64_t count, T* to) {
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t c = 0; c < channels; c += LANES) store(to + i * channels + c, load(from[i] + c), channels - c);
}

// LayerNorm without gain and bias, as `normalise`; `scale`: 1 / sqrt(variance + eps). Channels up to `stride` become 0.
template <typename T>
DEPTHSR_INLINE void normalise(const T* x, std::int64_t channels, std::int64_t stride, float eps, float* out,
                              float* scale) {
  V total{};
  for (std::int64_t c = 0; c < channels; c += LANES) total += load(x + c, channels - c);
  const V mean = splat(sum(total) / static_cast<float>(channels));
  V squares{};
  for (std::int64_t c = 0; c < stride; c += LANES) {
    V centred{};
    if (c + LANES <= channels) {
      centred = load(x + c) - mean;
    } else if (c < channels) {
      float lanes[LANES] = {};
      store(lanes, load(x + c, channels - c) - mean, channels - c);
      centred = load(lanes);
    }
    squares += centred * centred;
    store(out + c, centred);
  }
  *scale = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(channels) + eps);
  for (std::int64_t c = 0; c < stride; c += LANES) store(out + c, load(out + c) * splat(*scale));
}

// The gradient of one pixel before `normalise`, from that after it. write(channel, V).
template <typename Write>
DEPTHSR_INLINE void normalise_backward(const float* grad, const float* normalised, float scale, std::int64_t channels,
                                       std::int64_t stride, Write write) {
  V totals{}, products{};
  for (std::int64_t c = 0; c < stride; c += LANES) {
    const V g = load(grad + c);
    totals += g;
    products += g * load(normalised + c);
  }
  const float share = 1.0f / static_cast<float>(channels);
  const V mean = splat(sum(totals) * share), slope = splat(sum(products) * share);
  for (std::int64_t c = 0; c < channels; c += LANES)
    write(c, splat(scale) * (load(grad + c) - mean - load(normalised + c) * slope));
}

// out = bias + depthwise 3×3 of rows[0..2], which start one column left of the first result. `width` channels.
template <int PIXELS>
DEPTHSR_INLINE void depthwise(const float* const* rows, std::int64_t pitch, const float* weights, std::int64_t width,
                              V bias, float* out) {
  V sums[PIXELS];
#pragma GCC unroll 4
  for (int i = 0; i < PIXELS; ++i) sums[i] = bias;
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; ++tap) {
    const V weight = load(weights + tap * width);
#pragma GCC unroll 4
    for (int i = 0; i < PIXELS; ++i) sums[i] += load(rows[tap / 3] + (i + tap % 3) * pitch) * weight;
  }
#pragma GCC unroll 4
  for (int i = 0; i < PIXELS; ++i) store(out + i * pitch, sums[i]);
}

DEPTHSR_INLINE void depthwise_row(const Pixels* rows, const float* weights, const float* bias, std::int64_t width,
                                  std::int64_t count, Pixels out) {
  for (std::int64_t c = 0; c < width; c += LANES) {
    const V start = bias == nullptr ? V{} : load(bias + c);
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
      const float* here[3] = {rows[0][i] + c, rows[1][i] + c, rows[2][i] + c};
      depthwise<4>(here, out.pitch, weights + c, width, start, out[i] + c);
    }
    for (; i < count; ++i) {
      const float* here[3] = {rows[0][i] + c, rows[1][i] + c, rows[2][i] + c};
      depthwise<1>(here, out.pitch, weights + c, width, start, out[i] + c);
    }
  }
}

// The depthwise convolution's weight and bias gradients from one row: grad[i] belongs to inputs i..i+2 of the rows.
DEPTHSR_INLINE void add_depthwise(Pixels grad, const Pixels* inputs, std::int64_t width, std::int64_t count,
                                  float* weights, float* bias) {
  for (std::int64_t c = 0; c < width; c += LANES) {
    V sums[9], total{};
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) sums[tap] = V{};
    for (std::int64_t i = 0; i < count; ++i) {
      const V g = load(grad[i] + c);
      total += g;
#pragma GCC unroll 9
      for (int tap = 0; tap < 9; ++tap) sums[tap] += g * load(inputs[tap / 3][i + tap % 3] + c);
    }
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) store(weights + tap * width + c, load(weights + tap * width + c) + sums[tap]);
    store(bias + c, load(bias + c) + total);
  }
}

// Adds the other parts to the first, in their order: `size` floats each, `distance` apart.
DEPTHSR_INLINE void add_parts(float* parts, std::int64_t count, std::int64_t size, std::int64_t distance,
                              ParallelFor parallel_for) {
  if (count == 1) return;
  parallel_for(size / PANEL, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = 1; part < count; ++part)
      for (std::int64_t i = begin * PANEL; i < end * PANEL; i += LANES)
        store(parts + i, load(parts + i) + load(parts + part * distance + i));
  });
}

}  // namespace depthsr::DEPTHSR_ISA
