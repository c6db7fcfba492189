// The gradients of a NAFNet block, computed from its input and the result's gradient alone: everything between is
// computed again. Four passes, with channel attention's mean between the first two and its gradient between the last:
//   1. The forward's first pass: y and its mean.
//   2. Second half of the block, forward and back, in runs of pixels: the gradient of the middle residual (`grad_middle`)
//      and those of the weights there. Summed with y it gives the gradient of the attention.
//   3. First half, forward and back, in tiles, with three rows each of conv1's result, of its input and of the depthwise
//      convolution's gradient in cache: grad_x and the other weights' gradients. The tile's border is computed twice.
//   4. Back from the gradients of the folded weights to those of the parameters, which is exact.
// Sums over pixels are taken part by part, and the parts added in their order: how the frame is divided does not depend
// on the number of threads, and so neither does any result.
#pragma once

#include "naf_block.h"

namespace depthsr::DEPTHSR_ISA {

// --- building blocks ----------------------------------------------------------------------------------------------

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

// The stored type as floats; channels up to `stride` become 0.
template <typename T>
DEPTHSR_INLINE void widen(const T* from, std::int64_t channels, std::int64_t stride, std::int64_t count, Pixels to) {
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t c = 0; c < stride; c += LANES)
      store(to[i] + c, c < channels ? load(from + i * channels + c, channels - c) : V{});
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

// --- weights ------------------------------------------------------------------------------------------------------

// Beside PackedNafBlock: its matrices transposed, to carry gradients back.
struct PackedNafBlockBackward {
  const float* expand;     // 2C -> C
  const float* ffn;        // 2C -> C
  const float* shrink;     // C -> C
  const float* depthwise;  // 9 taps of 2 · stride, the last first
};

DEPTHSR_INLINE PackedNafBlockBackward pack_backward(const NafBlockWeights& w, const PackedNafBlock& block,
                                                    Carve& carve) {
  const std::int64_t channels = block.channels, pair = 2 * block.stride;
  float* expand = carve(packed_size(channels, 2 * channels));
  float* ffn = carve(packed_size(channels, 2 * channels));
  float* shrink = carve(packed_size(channels, channels));
  float* depthwise = carve(9 * pair);
  if (expand == nullptr) return {};
  pack(channels, 2 * channels, expand,
       [&](std::int64_t n, std::int64_t k) { return w.conv1_weight[k * channels + n] * w.norm1_weight[n]; });
  pack(channels, 2 * channels, ffn,
       [&](std::int64_t n, std::int64_t k) { return w.conv4_weight[k * channels + n] * w.norm2_weight[n]; });
  pack(channels, channels, shrink,
       [&](std::int64_t n, std::int64_t k) { return w.conv5_weight[k * channels + n] * w.gamma[k]; });
  for (std::int64_t tap = 0; tap < 9; ++tap)
    std::memcpy(depthwise + tap * pair, block.depthwise + (8 - tap) * pair, pair * sizeof(float));
  return {expand, ffn, shrink, depthwise};
}

// Sums over the pixels of one part: gradients of folded weights, as [output][input], outputs of 2C half by half.
struct SecondHalfSums {
  float *project, *ffn, *shrink;                 // C, 2C, C rows of `stride`
  float *project_bias, *ffn_bias, *shrink_bias;  // stride, 2 · stride, stride

  SecondHalfSums(const PackedNafBlock& block, Carve carve) {
    const std::int64_t square = block.channels * block.stride;
    project = carve(square);
    ffn = carve(2 * square);
    shrink = carve(square);
    project_bias = carve(block.stride);
    ffn_bias = carve(2 * block.stride);
    shrink_bias = carve(block.stride);
  }
  static std::int64_t size(std::int64_t channels, std::int64_t stride) { return 4 * (channels + 1) * stride; }
};

struct FirstHalfSums {
  float* expand;          // 2C rows of `stride`
  float* expand_bias;     // 2 · stride
  float* depthwise;       // 9 taps of 2 · stride
  float* depthwise_bias;  // 2 · stride

  FirstHalfSums(const PackedNafBlock& block, Carve carve) {
    expand = carve(2 * block.channels * block.stride);
    expand_bias = carve(2 * block.stride);
    depthwise = carve(18 * block.stride);
    depthwise_bias = carve(2 * block.stride);
  }
  static std::int64_t size(std::int64_t channels, std::int64_t stride) { return (2 * channels + 22) * stride; }
};

// --- second half --------------------------------------------------------------------------------------------------

// Pixels that go through the second half together: enough for a sum in registers to be worth its way to memory.
constexpr std::int64_t BACKWARD_RUN = 48;

struct SecondHalfBuffers {
  Pixels y, grad_out, normalised, middle, gated;  // stride
  Pixels pair;                                    // 2 · stride
  float* scale;

  SecondHalfBuffers(std::int64_t stride, Carve& carve) {
    const std::int64_t single = pitch_of(stride), both = pitch_of(2 * stride);
    for (Pixels* buffer : {&y, &grad_out, &normalised, &middle, &gated})
      *buffer = {carve(BACKWARD_RUN * single), single};
    pair = {carve(BACKWARD_RUN * both), both};
    scale = carve(BACKWARD_RUN);
  }
};

// `count` <= BACKWARD_RUN pixels: grad_middle, and what they add to the sums.
template <typename T>
DEPTHSR_INLINE void second_half_backward(const T* grad_out, const T* x, const T* y, const PackedNafBlock& block,
                                         const PackedNafBlockBackward& backward, const float* projection, float eps,
                                         std::int64_t count, const SecondHalfBuffers& at, float* grad_middle,
                                         const SecondHalfSums& sums) {
  const std::int64_t channels = block.channels, stride = block.stride;
  widen(y, channels, stride, count, at.y);
  widen(grad_out, channels, stride, count, at.grad_out);
  product(Rows<1>{{at.y.first}, at.y.pitch, channels}, count, projection, stride,
          [&](std::int64_t m, std::int64_t c, V value) {
            if (c < channels) value += load(block.project_bias + c) + load(x + m * channels + c, channels - c);
            store(at.middle[m] + c, value);
          });
  for (std::int64_t m = 0; m < count; ++m)
    normalise(at.middle[m], channels, stride, eps, at.normalised[m], at.scale + m);
  for (std::int64_t column = 0; column < stride; column += PANEL) {
    const float* bias = block.ffn_bias + column;
    gemm<2>(Rows<1>{{at.normalised.first}, at.normalised.pitch, channels}, count, block.ffn + column * channels,
            packed_size(channels, channels), [&](std::int64_t m, const V* products) {
              for (int v = 0; v < PANEL_VECTORS; ++v) {
                const std::int64_t c = column + v * LANES;
                const V first = products[v] + load(bias + v * LANES);
                const V second = products[PANEL_VECTORS + v] + load(bias + stride + v * LANES);
                store(at.pair[m] + c, first);
                store(at.pair[m] + stride + c, second);
                store(at.gated[m] + c, first * second);
              }
            });
  }

  add_outer(at.grad_out, channels, at.gated, stride, count, sums.shrink);
  add_pixels(at.grad_out, stride, count, sums.shrink_bias);
  product(Rows<1>{{at.grad_out.first}, at.grad_out.pitch, channels}, count, backward.shrink, stride,
          [&](std::int64_t m, std::int64_t c, V grad) {  // of the gate, then of its factors
            float* pair = at.pair[m] + c;
            const V first = load(pair);
            store(pair, grad * load(pair + stride));
            store(pair + stride, grad * first);
          });
  for (std::int64_t half = 0; half < 2; ++half)
    add_outer({at.pair.first + half * stride, at.pair.pitch}, channels, at.normalised, stride, count,
              sums.ffn + half * channels * stride);
  add_pixels(at.pair, 2 * stride, count, sums.ffn_bias);
  const Pixels grad_normalised = at.middle;
  product(Rows<2>{{at.pair.first, at.pair.first + stride}, at.pair.pitch, channels}, count, backward.ffn, stride,
          [&](std::int64_t m, std::int64_t c, V grad) { store(grad_normalised[m] + c, grad); });
  for (std::int64_t m = 0; m < count; ++m)
    normalise_backward(grad_normalised[m], at.normalised[m], at.scale[m], channels, stride, [&](std::int64_t c, V grad) {
      const V total = grad + load(at.grad_out[m] + c);
      store(at.middle[m] + c, total);
      store(grad_middle + m * channels + c, total, channels - c);
    });
  add_outer(at.middle, channels, at.y, stride, count, sums.project);
  add_pixels(at.middle, stride, count, sums.project_bias);
}

// --- first half ---------------------------------------------------------------------------------------------------

// Tiles whose rows of all buffers (18 · stride floats a column) stay in the second-level cache.
DEPTHSR_INLINE Tiles backward_tiles_of(Image image) {
  const std::int64_t cache_floats = 65536;  // 256 KiB
  const std::int64_t fits = cache_floats / (18 * round_up(image.channels, PANEL));
  const std::int64_t widest = max(min(fits, 96), 24);
  const std::int64_t across = (image.width + widest - 1) / widest;
  const std::int64_t tallest = max(min(image.height / 4, 48), 16);
  const std::int64_t down = (image.height + tallest - 1) / tallest;
  return {(image.height + down - 1) / down, (image.width + across - 1) / across, down, across};
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

DEPTHSR_INLINE void clear(Pixels pixels, std::int64_t begin, std::int64_t end) {
  if (end > begin) std::memset(pixels[begin], 0, (end - begin) * pixels.pitch * sizeof(float));
}

// One frame's part of the block, and where its gradients go.
template <typename T>
struct FirstHalf {
  const T* x;
  const float* grad_middle;
  const PackedNafBlock& block;
  const PackedNafBlockBackward& backward;
  const float* projection;  // transposed, with attention
  const float* grad_mean;   // what every pixel of y adds to its gradient through the attention's mean
  float eps;
  Image image;
  T* grad_x;
};

// The rows in work of one tile. Row r of a ring lies in slot r % 3.
class FirstHalfRows {
 public:
  FirstHalfRows(std::int64_t stride, std::int64_t columns, Carve& carve) {
    const std::int64_t single = pitch_of(stride), both = pitch_of(2 * stride);
    for (int slot = 0; slot < 3; ++slot) {
      expanded_[slot] = {carve((columns + 4) * both), both};
      grad_[slot] = {carve((columns + 2) * both), both};
      normalised_[slot] = {carve((columns + 4) * single), single};
      scale_[slot] = carve(columns + 4);
    }
    grad_expanded_ = {carve(columns * both), both};
    grad_normalised_ = {carve(columns * single), single};
  }

  template <typename T>
  void tile(const FirstHalf<T>& half, std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right,
            const FirstHalfSums& sums);

 private:
  static int slot(std::int64_t row) { return static_cast<int>((row + 3) % 3); }

  Pixels expanded_[3];    // conv1's result; columns from left - 2
  Pixels normalised_[3];  // its input; the same columns
  float* scale_[3];
  Pixels grad_[3];        // of the depthwise convolution's result; columns from left - 1
  Pixels grad_expanded_;  // of its input; columns from left
  Pixels grad_normalised_;
};

template <typename T>
void FirstHalfRows::tile(const FirstHalf<T>& half, std::int64_t top, std::int64_t bottom, std::int64_t left,
                         std::int64_t right, const FirstHalfSums& sums) {
  const PackedNafBlock& block = half.block;
  const Image image = half.image;
  const std::int64_t channels = block.channels, stride = block.stride, pair = 2 * stride;

  const auto expand = [&](std::int64_t row) {
    const Pixels out = expanded_[slot(row)], normalised = normalised_[slot(row)];
    float* scale = scale_[slot(row)];
    const std::int64_t origin = left - 2, begin = max(origin, 0), end = min(right + 2, image.width);
    if (row < 0 || row >= image.height) return clear(out, 0, right + 2 - origin);
    clear(out, 0, begin - origin);
    clear(out, end - origin, right + 2 - origin);
    const T* pixels = half.x + row * image.width * channels;
    for (std::int64_t column = begin; column < end; ++column)
      normalise(pixels + column * channels, channels, stride, half.eps, normalised[column - origin],
                scale + column - origin);
    const Pixels to = out.from(begin - origin);
    product(Rows<1>{{normalised[begin - origin]}, normalised.pitch, channels}, end - begin, block.expand, pair,
            [&](std::int64_t m, std::int64_t c, V value) { store(to[m] + c, value + load(block.expand_bias + c)); });
  };

  // The gate's factors again, and then their gradients in their place.
  const auto carry_through_gate = [&](std::int64_t row) {
    const Pixels out = grad_[slot(row)];
    const std::int64_t origin = left - 1, begin = max(origin, 0), end = min(right + 1, image.width);
    if (row < 0 || row >= image.height) return clear(out, 0, right + 1 - origin);
    clear(out, 0, begin - origin);
    clear(out, end - origin, right + 1 - origin);
    const Pixels to = out.from(begin - origin);
    const Pixels inputs[3] = {expanded_[slot(row - 1)].from(begin - origin), expanded_[slot(row)].from(begin - origin),
                              expanded_[slot(row + 1)].from(begin - origin)};
    depthwise_row(inputs, block.depthwise, block.depthwise_bias, pair, end - begin, to);
    const float* grad_middle = half.grad_middle + (row * image.width + begin) * channels;
    product(Rows<1>{{grad_middle}, channels, channels}, end - begin, half.projection, stride,
            [&](std::int64_t m, std::int64_t c, V value) {
              const V grad = value + load(half.grad_mean + c);
              float* factors = to[m] + c;
              const V first = load(factors);
              store(factors, grad * load(factors + stride));
              store(factors + stride, grad * first);
            });
  };

  const std::int64_t count = right - left;
  const auto carry_to_input = [&](std::int64_t row) {
    const Pixels grads[3] = {grad_[slot(row - 1)], grad_[slot(row)], grad_[slot(row + 1)]};
    const Pixels normalised = normalised_[slot(row)].from(2);
    depthwise_row(grads, half.backward.depthwise, nullptr, pair, count, grad_expanded_);
    for (std::int64_t part = 0; part < 2; ++part)
      add_outer({grad_expanded_.first + part * stride, grad_expanded_.pitch}, channels, normalised, stride, count,
                sums.expand + part * channels * stride);
    add_pixels(grad_expanded_, pair, count, sums.expand_bias);
    const Rows<2> halves{{grad_expanded_.first, grad_expanded_.first + stride}, grad_expanded_.pitch, channels};
    product(halves, count, half.backward.expand, stride,
            [&](std::int64_t m, std::int64_t c, V grad) { store(grad_normalised_[m] + c, grad); });
    const std::int64_t at = (row * image.width + left) * channels;
    for (std::int64_t m = 0; m < count; ++m)
      normalise_backward(grad_normalised_[m], normalised[m], scale_[slot(row)][2 + m], channels, stride,
                         [&](std::int64_t c, V grad) {
                           const std::int64_t to = at + m * channels + c;
                           store(half.grad_x + to, grad + load(half.grad_middle + to, channels - c), channels - c);
                         });
  };

  expand(top - 2);
  expand(top - 1);
  for (std::int64_t row = top - 1; row <= bottom; ++row) {
    expand(row + 1);
    carry_through_gate(row);
    if (row >= top && row < bottom) {
      const Pixels inputs[3] = {expanded_[slot(row - 1)].from(1), expanded_[slot(row)].from(1),
                                expanded_[slot(row + 1)].from(1)};
      add_depthwise(grad_[slot(row)].from(1), inputs, pair, count, sums.depthwise, sums.depthwise_bias);
    }
    if (row > top) carry_to_input(row - 1);
  }
}

// --- back to the parameters ---------------------------------------------------------------------------------------

// Of the convolution C -> 2C after a LayerNorm, and of that LayerNorm.
DEPTHSR_INLINE void unfold_after_norm(std::int64_t channels, std::int64_t stride, const float* folded,
                                      const float* folded_bias, const float* weight, const float* gain,
                                      const float* offset, float* grad_weight, float* grad_bias, float* grad_gain,
                                      float* grad_offset) {
  std::memset(grad_gain, 0, channels * sizeof(float));
  std::memset(grad_offset, 0, channels * sizeof(float));
  for (std::int64_t o = 0; o < 2 * channels; ++o) {
    const float bias = folded_bias[o / channels * stride + o % channels];
    grad_bias[o] = bias;
    for (std::int64_t k = 0; k < channels; ++k) {
      const float grad = folded[o * stride + k], value = weight[o * channels + k];
      grad_weight[o * channels + k] = grad * gain[k] + bias * offset[k];
      grad_gain[k] += grad * value;
      grad_offset[k] += bias * value;
    }
  }
}

// Of a convolution C -> C and the vector that its result is multiplied by.
DEPTHSR_INLINE void unfold_before_scale(std::int64_t channels, std::int64_t stride, const float* folded,
                                        const float* folded_bias, const float* weight, const float* bias,
                                        const float* scale, float* grad_weight, float* grad_bias, float* grad_scale) {
  for (std::int64_t o = 0; o < channels; ++o) {
    float total = folded_bias[o] * bias[o];
    for (std::int64_t k = 0; k < channels; ++k) {
      total += folded[o * stride + k] * weight[o * channels + k];
      grad_weight[o * channels + k] = folded[o * stride + k] * scale[o];
    }
    grad_scale[o] = total;
    grad_bias[o] = folded_bias[o] * scale[o];
  }
}

// From a frame's sums `folded` for conv3 on y times attention: leaves in `folded` the sums for conv3 on y alone, adds to
// the attention's gradients, and gives each pixel's share of the gradient of y's mean.
DEPTHSR_INLINE void attention_backward(const NafBlockWeights& w, const PackedNafBlock& block, const float* mean,
                                       const float* attention, std::int64_t pixels, float* folded,
                                       const NafBlockGradients& gradients, float* grad_attention, float* grad_mean) {
  const std::int64_t channels = block.channels, stride = block.stride;
  std::memset(grad_attention, 0, stride * sizeof(float));
  std::memset(grad_mean, 0, stride * sizeof(float));
  for (std::int64_t o = 0; o < channels; ++o)
    for (std::int64_t c = 0; c < channels; ++c) {
      grad_attention[c] += folded[o * stride + c] * w.conv3_weight[o * channels + c] * w.beta[o];
      folded[o * stride + c] *= attention[c];
    }
  for (std::int64_t n = 0; n < channels; ++n) {
    gradients.attention_bias[n] += grad_attention[n];
    for (std::int64_t k = 0; k < channels; ++k) {
      gradients.attention_weight[n * channels + k] += grad_attention[n] * mean[k];
      grad_mean[k] += grad_attention[n] * w.attention_weight[n * channels + k];
    }
  }
  for (std::int64_t k = 0; k < channels; ++k) grad_mean[k] /= static_cast<float>(pixels);
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

// ------------------------------------------------------------------------------------------------------------------

// Parts of the sums over a batch of frames: each needs 16 C² bytes.
constexpr std::int64_t MAX_PARTS = 32;

template <typename T>
void naf_block_backward(const T* grad_out, const T* x, const NafBlockWeights& weights, float eps, Image image,
                        T* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for) {
  const std::int64_t channels = image.channels, stride = round_up(channels, PANEL);
  const std::int64_t pixels = image.height * image.width, frame = pixels * channels;
  const Tiles forward_tiles = tiles_of(image), tiles = backward_tiles_of(image);
  const std::int64_t runs = (pixels + BACKWARD_RUN - 1) / BACKWARD_RUN;
  // A part of the second half is of one frame, for attention's sake.
  const std::int64_t second_parts = max(min(pixels / 512, MAX_PARTS / max(image.batch, 1)), 1);
  const std::int64_t first_parts = min(image.batch * tiles.count(), MAX_PARTS);
  const std::int64_t second_size = SecondHalfSums::size(channels, stride);
  const std::int64_t first_size = FirstHalfSums::size(channels, stride);
  const std::int64_t square = packed_size(channels, channels);

  PackedNafBlock block;
  PackedNafBlockBackward backward;
  float *y_memory, *tile_sums, *mean, *attention, *grad_attention, *grad_mean, *projections, *transposed, *grad_middle;
  float *second_sums, *first_sums;
  const auto lay_out = [&](float* memory) {
    Carve carve(memory);
    float* packed = carve(packed_naf_block_size(channels));
    block.channels = channels;
    block.stride = stride;
    if (memory != nullptr) block = pack_naf_block(weights, channels, packed);
    backward = pack_backward(weights, block, carve);
    y_memory = carve(image.elements() * sizeof(T) / sizeof(float) + 1);
    tile_sums = carve(image.batch * forward_tiles.count() * stride);
    mean = carve(image.batch * stride);
    attention = carve(image.batch * stride);
    grad_attention = carve(stride);
    grad_mean = carve(image.batch * stride);
    projections = carve(image.batch * square);
    transposed = carve(image.batch * square);
    grad_middle = carve(image.elements());
    second_sums = carve(image.batch * second_parts * second_size);
    first_sums = carve(first_parts * first_size);
    return carve.used();
  };
  lay_out(scratch(Scratch::FRAME, lay_out(nullptr)));
  T* y = reinterpret_cast<T*>(y_memory);

  naf_block_first_pass(x, block, eps, image, y, tile_sums, parallel_for);
  for (std::int64_t sample = 0; sample < image.batch; ++sample) {
    const float* factors = attention + sample * stride;
    frame_mean(tile_sums + sample * forward_tiles.count() * stride, forward_tiles.count(), stride, pixels,
               mean + sample * stride);
    attended_projection(weights, channels, mean + sample * stride, attention + sample * stride,
                        projections + sample * square);
    pack(channels, channels, transposed + sample * square, [&](std::int64_t n, std::int64_t k) {
      return weights.conv3_weight[k * channels + n] * weights.beta[k] * factors[n];
    });
  }

  parallel_for(image.batch * second_parts, 1, [&](std::int64_t begin, std::int64_t end) {
    Carve sizes(nullptr);
    SecondHalfBuffers(stride, sizes);
    Carve carve(scratch(Scratch::RANGE, sizes.used()));
    const SecondHalfBuffers buffers(stride, carve);
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t sample = item / second_parts, part = item % second_parts;
      float* memory = second_sums + item * second_size;
      std::memset(memory, 0, second_size * sizeof(float));
      const SecondHalfSums sums(block, Carve(memory));
      for (std::int64_t run = part * runs / second_parts; run < (part + 1) * runs / second_parts; ++run) {
        const std::int64_t first = run * BACKWARD_RUN, at = sample * frame + first * channels;
        second_half_backward(grad_out + at, x + at, y + at, block, backward, projections + sample * square, eps,
                             min(BACKWARD_RUN, pixels - first), buffers, grad_middle + at, sums);
      }
    }
  });

  std::memset(gradients.attention_weight, 0, channels * channels * sizeof(float));
  std::memset(gradients.attention_bias, 0, channels * sizeof(float));
  for (std::int64_t sample = 0; sample < image.batch; ++sample) {
    float* parts = second_sums + sample * second_parts * second_size;
    add_parts(parts, second_parts, second_size, second_size, parallel_for);
    attention_backward(weights, block, mean + sample * stride, attention + sample * stride, pixels,
                       SecondHalfSums(block, Carve(parts)).project, gradients, grad_attention,
                       grad_mean + sample * stride);
  }
  add_parts(second_sums, image.batch, second_size, second_parts * second_size, parallel_for);
  const SecondHalfSums second(block, Carve(second_sums));
  unfold_before_scale(channels, stride, second.project, second.project_bias, weights.conv3_weight, weights.conv3_bias,
                      weights.beta, gradients.conv3_weight, gradients.conv3_bias, gradients.beta);
  unfold_before_scale(channels, stride, second.shrink, second.shrink_bias, weights.conv5_weight, weights.conv5_bias,
                      weights.gamma, gradients.conv5_weight, gradients.conv5_bias, gradients.gamma);
  unfold_after_norm(channels, stride, second.ffn, second.ffn_bias, weights.conv4_weight, weights.norm2_weight,
                    weights.norm2_bias, gradients.conv4_weight, gradients.conv4_bias, gradients.norm2_weight,
                    gradients.norm2_bias);

  const std::int64_t all_tiles = image.batch * tiles.count();
  parallel_for(first_parts, 1, [&](std::int64_t begin, std::int64_t end) {
    Carve sizes(nullptr);
    FirstHalfRows(stride, tiles.columns, sizes);
    Carve carve(scratch(Scratch::RANGE, sizes.used()));
    FirstHalfRows rows(stride, tiles.columns, carve);
    for (std::int64_t part = begin; part < end; ++part) {
      float* memory = first_sums + part * first_size;
      std::memset(memory, 0, first_size * sizeof(float));
      const FirstHalfSums sums(block, Carve(memory));
      for (std::int64_t item = part * all_tiles / first_parts; item < (part + 1) * all_tiles / first_parts; ++item) {
        const std::int64_t sample = item / tiles.count(), tile = item % tiles.count();
        const std::int64_t top = tile / tiles.across * tiles.rows, left = tile % tiles.across * tiles.columns;
        const std::int64_t bottom = min(top + tiles.rows, image.height);
        const std::int64_t right = min(left + tiles.columns, image.width);
        if (top >= bottom || left >= right) continue;
        const std::int64_t at = sample * frame;
        rows.tile(FirstHalf<T>{x + at, grad_middle + at, block, backward, transposed + sample * square,
                               grad_mean + sample * stride, eps, image, grad_x + at},
                  top, bottom, left, right, sums);
      }
    }
  });
  add_parts(first_sums, first_parts, first_size, first_size, parallel_for);
  const FirstHalfSums first(block, Carve(first_sums));
  unfold_after_norm(channels, stride, first.expand, first.expand_bias, weights.conv1_weight, weights.norm1_weight,
                    weights.norm1_bias, gradients.conv1_weight, gradients.conv1_bias, gradients.norm1_weight,
                    gradients.norm1_bias);
  for (std::int64_t c = 0; c < 2 * channels; ++c) {
    const std::int64_t from = c / channels * stride + c % channels;
    gradients.conv2_bias[c] = first.depthwise_bias[from];
    for (std::int64_t tap = 0; tap < 9; ++tap)
      gradients.conv2_weight[c * 9 + tap] = first.depthwise[tap * 2 * stride + from];
  }
}

}  // namespace depthsr::DEPTHSR_ISA
