// The gradients of a NAFNet block, computed from its input and the result's gradient alone: everything between is
// computed again. Frame by frame, in five passes over runs of pixels, with channel attention's mean after the second and
// its gradient after the third:
//   1. `expanded`, conv1's result: read by the two depthwise passes, so kept rather than computed thrice.
//   2. The gated depthwise convolution, y, and its sums.
//   3. The second half of the block, forward and back: the gradient of the middle residual (`grad_middle`) and those of
//      the weights there. Summed with y it gives the gradient of the attention.
//   4. Back through gate and depthwise convolution's weights: `grad_gate`, the gradient of the convolution's result.
//   5. Back through the convolution itself, conv1 and the first norm: grad_x.
// and at last back from the gradients of the folded weights to those of the parameters, which is exact.
// Sums over pixels are taken part by part, and the parts added in their order: how a frame is divided does not depend on
// the number of threads, and so neither does any result.
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

// --- runs of pixels -----------------------------------------------------------------------------------------------

// Pixels that go through a pass together: enough for a sum in registers to be worth its way to memory, and a multiple of
// every block of rows.
constexpr std::int64_t BACKWARD_RUN = 36;

// What the passes keep of one frame. `expanded` and `grad_gate` have a border of zeros, one pixel wide.
struct BackwardFrame {
  Image image;
  Pixels expanded, grad_gate;  // (height + 2) · (width + 2) pixels of 2 · stride
  Pixels y;                    // height · width pixels of `stride`
  float* grad_middle;          // height · width pixels of `channels`

  BackwardFrame(Image image_, std::int64_t stride, Carve& carve) : image(image_) {
    const std::int64_t pixels = image.height * image.width, both = pitch_of(2 * stride);
    expanded = {carve(bordered() * both), both};
    grad_gate = {carve(bordered() * both), both};
    y = {carve(pixels * stride), stride};
    grad_middle = carve(pixels * image.channels);
  }

  std::int64_t bordered() const { return (image.height + 2) * (image.width + 2); }
  std::int64_t width() const { return image.width + 2; }

  // Where a pixel lies within the border.
  std::int64_t within(std::int64_t pixel) const {
    return (pixel / image.width + 1) * width() + pixel % image.width + 1;
  }
};

DEPTHSR_INLINE void clear(Pixels pixels, std::int64_t begin, std::int64_t end) {
  std::memset(pixels[begin], 0, (end - begin) * pixels.pitch * sizeof(float));
}

// The next passes write within it only.
DEPTHSR_INLINE void clear_border(Pixels pixels, const BackwardFrame& frame) {
  const std::int64_t width = frame.width(), height = frame.image.height + 2;
  clear(pixels, 0, width + 1);
  for (std::int64_t row = 2; row < height; ++row) clear(pixels, row * width - 1, row * width + 1);
  clear(pixels, (height - 1) * width, height * width);
}

// body(first, count, within): the pieces of a run that lie in one row, `within` being the first's place in the border.
template <typename Body>
DEPTHSR_INLINE void for_each_row(const BackwardFrame& frame, std::int64_t first, std::int64_t count, Body body) {
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t left = frame.image.width - (first + done) % frame.image.width;
    const std::int64_t piece = min(left, count - done);
    body(done, piece, frame.within(first + done));
    done += piece;
  }
}

// One range's buffers.
struct RunBuffers {
  Pixels grad_out, normalised, middle, gated, y;  // stride
  Pixels pair;                                    // 2 · stride
  float* scale;

  RunBuffers(std::int64_t stride, Carve carve) {
    const std::int64_t single = pitch_of(stride), both = pitch_of(2 * stride);
    for (Pixels* buffer : {&grad_out, &normalised, &middle, &gated, &y}) *buffer = {carve(BACKWARD_RUN * single), single};
    pair = {carve(BACKWARD_RUN * both), both};
    scale = carve(BACKWARD_RUN);
  }
  static std::int64_t size(std::int64_t stride) {
    return BACKWARD_RUN * (5 * pitch_of(stride) + pitch_of(2 * stride)) + 8 * PANEL + BACKWARD_RUN;
  }
};

// --- passes 1 and 2: the gated depthwise convolution ------------------------------------------------------------------

template <typename T>
DEPTHSR_INLINE void expand_run(const T* x, const PackedNafBlock& block, float eps, std::int64_t first,
                               std::int64_t count, const RunBuffers& at, const BackwardFrame& frame) {
  const std::int64_t channels = block.channels, stride = block.stride;
  float* places[BACKWARD_RUN];
  for (std::int64_t m = 0; m < count; ++m) {
    normalise(x + (first + m) * channels, channels, stride, eps, at.normalised[m], at.scale + m);
    places[m] = frame.expanded[frame.within(first + m)];
  }
  product(Rows<1>{{at.normalised.first}, at.normalised.pitch, channels}, count, block.expand, 2 * stride,
          [&](std::int64_t m, std::int64_t c, V value) { store(places[m] + c, value + load(block.expand_bias + c)); });
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

// The three rows of pixels around those from `within` on, from one column to the left.
struct Neighbours {
  Pixels rows[3];

  Neighbours(Pixels pixels, const BackwardFrame& frame, std::int64_t within)
      : rows{pixels.from(within - frame.width() - 1), pixels.from(within - 1),
             pixels.from(within + frame.width() - 1)} {}
};

// y, and its sums over the run.
DEPTHSR_INLINE void gate_run(const PackedNafBlock& block, std::int64_t first, std::int64_t count, const RunBuffers& at,
                             const BackwardFrame& frame, float* totals) {
  const std::int64_t stride = block.stride;
  for_each_row(frame, first, count, [&](std::int64_t done, std::int64_t piece, std::int64_t within) {
    depthwise_row(Neighbours(frame.expanded, frame, within).rows, block.depthwise, block.depthwise_bias, 2 * stride,
                  piece, at.pair.from(done));
  });
  for (std::int64_t c = 0; c < stride; c += LANES) {
    V total{};
    for (std::int64_t m = 0; m < count; ++m) {
      const V gated = load(at.pair[m] + c) * load(at.pair[m] + stride + c);
      store(frame.y[first + m] + c, gated);
      total += gated;
    }
    store(totals + c, load(totals + c) + total);
  }
}

// --- pass 3: the second half --------------------------------------------------------------------------------------

template <typename T>
DEPTHSR_INLINE void second_half_run(const T* grad_out, const T* x, const PackedNafBlock& block,
                                    const PackedNafBlockBackward& backward, const float* projection, float eps,
                                    std::int64_t first, std::int64_t count, const RunBuffers& at,
                                    const BackwardFrame& frame, const SecondHalfSums& sums) {
  const std::int64_t channels = block.channels, stride = block.stride;
  x += first * channels;
  grad_out += first * channels;
  float* grad_middle = frame.grad_middle + first * channels;
  widen(frame.y[first], stride, stride, count, at.y);
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

// --- passes 4 and 5: the first half -------------------------------------------------------------------------------

// grad_mean: what every pixel of y adds to its gradient through the attention's mean.
DEPTHSR_INLINE void gate_backward_run(const PackedNafBlock& block, const float* projection, const float* grad_mean,
                                      std::int64_t first, std::int64_t count, const BackwardFrame& frame,
                                      const FirstHalfSums& sums) {
  const std::int64_t channels = block.channels, stride = block.stride;
  // The gate's factors again, and then their gradients in their place.
  for_each_row(frame, first, count, [&](std::int64_t, std::int64_t piece, std::int64_t within) {
    depthwise_row(Neighbours(frame.expanded, frame, within).rows, block.depthwise, block.depthwise_bias, 2 * stride,
                  piece, frame.grad_gate.from(within));
  });
  float* places[BACKWARD_RUN];
  for (std::int64_t m = 0; m < count; ++m) places[m] = frame.grad_gate[frame.within(first + m)];
  product(Rows<1>{{frame.grad_middle + first * channels}, channels, channels}, count, projection, stride,
          [&](std::int64_t m, std::int64_t c, V value) {
            const V grad = value + load(grad_mean + c);
            float* factors = places[m] + c;
            const V left = load(factors);
            store(factors, grad * load(factors + stride));
            store(factors + stride, grad * left);
          });
  for_each_row(frame, first, count, [&](std::int64_t, std::int64_t piece, std::int64_t within) {
    add_depthwise(frame.grad_gate.from(within), Neighbours(frame.expanded, frame, within).rows, 2 * stride, piece,
                  sums.depthwise, sums.depthwise_bias);
  });
}

template <typename T>
DEPTHSR_INLINE void expand_backward_run(const T* x, const PackedNafBlock& block, const PackedNafBlockBackward& backward,
                                        float eps, std::int64_t first, std::int64_t count, const RunBuffers& at,
                                        const BackwardFrame& frame, T* grad_x, const FirstHalfSums& sums) {
  const std::int64_t channels = block.channels, stride = block.stride;
  for_each_row(frame, first, count, [&](std::int64_t done, std::int64_t piece, std::int64_t within) {
    depthwise_row(Neighbours(frame.grad_gate, frame, within).rows, backward.depthwise, nullptr, 2 * stride, piece,
                  at.pair.from(done));
  });
  for (std::int64_t m = 0; m < count; ++m)
    normalise(x + (first + m) * channels, channels, stride, eps, at.normalised[m], at.scale + m);
  for (std::int64_t half = 0; half < 2; ++half)
    add_outer({at.pair.first + half * stride, at.pair.pitch}, channels, at.normalised, stride, count,
              sums.expand + half * channels * stride);
  add_pixels(at.pair, 2 * stride, count, sums.expand_bias);
  product(Rows<2>{{at.pair.first, at.pair.first + stride}, at.pair.pitch, channels}, count, backward.expand, stride,
          [&](std::int64_t m, std::int64_t c, V grad) { store(at.middle[m] + c, grad); });
  for (std::int64_t m = 0; m < count; ++m)
    normalise_backward(at.middle[m], at.normalised[m], at.scale[m], channels, stride, [&](std::int64_t c, V grad) {
      const std::int64_t to = (first + m) * channels + c;
      store(grad_x + to, grad + load(frame.grad_middle + to, channels - c), channels - c);
    });
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

// From a frame's sums `folded` for conv3 on y times attention: adds to `total`, the sums for conv3 on the attended y, and
// to the attention's gradients, and gives each pixel's share of the gradient of y's mean.
DEPTHSR_INLINE void attention_backward(const NafBlockWeights& w, const PackedNafBlock& block, const float* mean,
                                       const float* attention, std::int64_t pixels, const float* folded, float* total,
                                       const NafBlockGradients& gradients, float* grad_attention, float* grad_mean) {
  const std::int64_t channels = block.channels, stride = block.stride;
  std::memset(grad_attention, 0, stride * sizeof(float));
  std::memset(grad_mean, 0, stride * sizeof(float));
  for (std::int64_t o = 0; o < channels; ++o)
    for (std::int64_t c = 0; c < channels; ++c) {
      grad_attention[c] += folded[o * stride + c] * w.conv3_weight[o * channels + c] * w.beta[o];
      total[o * stride + c] += folded[o * stride + c] * attention[c];
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

// Calls body(part, first, count) for the runs of a frame, `parts` of them at most at the same time.
template <typename RunBody>
void for_each_run(std::int64_t pixels, std::int64_t parts, ParallelFor parallel_for, RunBody body) {
  const std::int64_t runs = (pixels + BACKWARD_RUN - 1) / BACKWARD_RUN;
  parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part)
      for (std::int64_t run = part * runs / parts; run < (part + 1) * runs / parts; ++run)
        body(part, run * BACKWARD_RUN, min(BACKWARD_RUN, pixels - run * BACKWARD_RUN));
  });
}

template <typename T>
void naf_block_backward(const T* grad_out, const T* x, const NafBlockWeights& weights, float eps, Image image,
                        T* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for) {
  const std::int64_t channels = image.channels, stride = round_up(channels, PANEL);
  const std::int64_t pixels = image.height * image.width;
  const std::int64_t runs = (pixels + BACKWARD_RUN - 1) / BACKWARD_RUN;
  // Parts cost memory, 24 C² bytes each: some runs to each, where there are enough for several threads.
  const std::int64_t parts = max(min(max(runs / 4, min(runs, 4)), 32), 1);
  const std::int64_t second_size = SecondHalfSums::size(channels, stride);
  const std::int64_t first_size = FirstHalfSums::size(channels, stride);
  const std::int64_t square = packed_size(channels, channels);

  PackedNafBlock block{};
  PackedNafBlockBackward backward{};
  float *second_memory, *first_memory, *project_total, *part_totals, *vectors, *projection, *transposed, *frame_memory;
  const auto lay_out = [&](float* memory) {
    Carve carve(memory);
    float* packed = carve(packed_naf_block_size(channels));
    block.channels = channels;
    block.stride = stride;
    if (memory != nullptr) block = pack_naf_block(weights, channels, packed);
    backward = pack_backward(weights, block, carve);
    second_memory = carve(parts * second_size);
    first_memory = carve(parts * first_size);
    part_totals = carve(parts * stride);
    vectors = carve(4 * stride);
    project_total = carve(channels * stride);  // conv3's sums are a frame's own; the others go on from frame to frame
    projection = carve(square);
    transposed = carve(square);
    Carve frame_sizes(nullptr);
    BackwardFrame(image, stride, frame_sizes);
    frame_memory = carve(frame_sizes.used());
    return carve.used();
  };
  lay_out(scratch(Scratch::FRAME, lay_out(nullptr)));
  float *mean = vectors, *attention = mean + stride, *grad_attention = attention + stride;
  float* grad_mean = grad_attention + stride;
  Carve frame_carve(frame_memory);
  const BackwardFrame frame(image, stride, frame_carve);
  clear_border(frame.expanded, frame);
  clear_border(frame.grad_gate, frame);
  const auto buffers = [&] { return RunBuffers(stride, Carve(scratch(Scratch::RANGE, RunBuffers::size(stride)))); };
  const auto second_sums = [&](std::int64_t part) {
    return SecondHalfSums(block, Carve(second_memory + part * second_size));
  };
  const auto first_sums = [&](std::int64_t part) {
    return FirstHalfSums(block, Carve(first_memory + part * first_size));
  };

  std::memset(second_memory, 0, parts * second_size * sizeof(float));
  std::memset(first_memory, 0, parts * first_size * sizeof(float));
  std::memset(project_total, 0, channels * stride * sizeof(float));
  std::memset(gradients.attention_weight, 0, channels * channels * sizeof(float));
  std::memset(gradients.attention_bias, 0, channels * sizeof(float));
  for (std::int64_t sample = 0; sample < image.batch && pixels > 0; ++sample) {
    const T* frame_x = x + sample * pixels * channels;
    const T* frame_grad_out = grad_out + sample * pixels * channels;
    T* frame_grad_x = grad_x + sample * pixels * channels;
    for_each_run(pixels, parts, parallel_for, [&](std::int64_t, std::int64_t first, std::int64_t count) {
      expand_run(frame_x, block, eps, first, count, buffers(), frame);
    });
    std::memset(part_totals, 0, parts * stride * sizeof(float));
    for_each_run(pixels, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      gate_run(block, first, count, buffers(), frame, part_totals + part * stride);
    });
    frame_mean(part_totals, parts, stride, pixels, mean);
    attended_projection(weights, channels, mean, attention, projection);
    pack(channels, channels, transposed, [&](std::int64_t n, std::int64_t k) {
      return weights.conv3_weight[k * channels + n] * weights.beta[k] * attention[n];
    });
    for_each_run(pixels, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      second_half_run(frame_grad_out, frame_x, block, backward, projection, eps, first, count, buffers(), frame,
                      second_sums(part));
    });
    add_parts(second_memory, parts, channels * stride, second_size, parallel_for);
    attention_backward(weights, block, mean, attention, pixels, second_sums(0).project, project_total, gradients,
                       grad_attention, grad_mean);
    for (std::int64_t part = 0; part < parts; ++part)
      std::memset(second_sums(part).project, 0, channels * stride * sizeof(float));
    for_each_run(pixels, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      gate_backward_run(block, transposed, grad_mean, first, count, frame, first_sums(part));
    });
    for_each_run(pixels, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      expand_backward_run(frame_x, block, backward, eps, first, count, buffers(), frame, frame_grad_x,
                          first_sums(part));
    });
  }
  add_parts(second_memory, parts, second_size, second_size, parallel_for);
  add_parts(first_memory, parts, first_size, first_size, parallel_for);
  const SecondHalfSums second = second_sums(0);
  const FirstHalfSums first = first_sums(0);
  unfold_before_scale(channels, stride, project_total, second.project_bias, weights.conv3_weight, weights.conv3_bias,
                      weights.beta, gradients.conv3_weight, gradients.conv3_bias, gradients.beta);
  unfold_before_scale(channels, stride, second.shrink, second.shrink_bias, weights.conv5_weight, weights.conv5_bias,
                      weights.gamma, gradients.conv5_weight, gradients.conv5_bias, gradients.gamma);
  unfold_after_norm(channels, stride, second.ffn, second.ffn_bias, weights.conv4_weight, weights.norm2_weight,
                    weights.norm2_bias, gradients.conv4_weight, gradients.conv4_bias, gradients.norm2_weight,
                    gradients.norm2_bias);

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
