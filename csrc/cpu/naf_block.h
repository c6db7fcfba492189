// A NAFNet block in two passes over memory, because channel attention needs the mean of the whole frame between them:
//   1. LN, 1×1, depthwise 3×3, gate, partial sums of the mean: reads x, writes y. In tiles, with three rows of the
//      1×1's result in cache; the tile's border is computed twice.
//   2. 1×1 of the attended y, residual, LN, 1×1, gate, 1×1, residual: reads x and y, writes the result. In short runs of
//      pixels that stay in cache from the first product to the last.
#pragma once

#include "packed_naf_block.h"

namespace depthsr::DEPTHSR_ISA {

// The channels first.. of one pixel; those beyond the last hold `beyond`.
template <typename T>
DEPTHSR_INLINE V load_channels(const T* x, std::int64_t first, std::int64_t channels, V beyond) {
  if (channels - first >= LANES) return load(x + first);
  float lanes[LANES];
  store(lanes, beyond);
  float known[LANES];
  store(known, load(x + first, channels - first));
  std::memcpy(lanes, known, (channels - first) * sizeof(float));
  return load(lanes);
}

// (x - mean) / sqrt(variance + eps) over the channels of PIXELS <= 4 pixels. The variance is taken around the mean.
template <int PIXELS, typename T, typename O>
DEPTHSR_INLINE void normalise_block(const T* x, std::int64_t channels, float eps, O* out, std::int64_t stride) {
  V totals[4] = {}, squares[4] = {};
  for (std::int64_t c = 0; c < channels; c += LANES)
#pragma GCC unroll 4
    for (int i = 0; i < PIXELS; ++i) totals[i] += load(x + i * channels + c, channels - c);
  const Four share = Four{} + 1.0f / static_cast<float>(channels);
  const Four mean = sums(totals[0], totals[1], totals[2], totals[3]) * share;
  for (std::int64_t c = 0; c < channels; c += LANES)
#pragma GCC unroll 4
    for (int i = 0; i < PIXELS; ++i) {
      const V centred = load_channels(x + i * channels, c, channels, splat(mean[i])) - splat(mean[i]);
      squares[i] += centred * centred;
    }
  Four deviation = sums(squares[0], squares[1], squares[2], squares[3]) * share + eps;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) deviation[i] = __builtin_sqrtf(deviation[i]);
  const Four scale = 1.0f / deviation;
  for (std::int64_t c = 0; c < channels; c += LANES)
#pragma GCC unroll 4
    for (int i = 0; i < PIXELS; ++i)
      store(out + i * stride + c, (load(x + i * channels + c, channels - c) - splat(mean[i])) * splat(scale[i]),
            channels - c);
}

// `count` pixels that lie side by side; `stride` from result to result.
template <typename T, typename O>
DEPTHSR_INLINE void normalise(const T* x, std::int64_t count, std::int64_t channels, float eps, O* out,
                              std::int64_t stride) {
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) normalise_block<4>(x + i * channels, channels, eps, out + i * stride, stride);
  for (; i < count; ++i) normalise_block<1>(x + i * channels, channels, eps, out + i * stride, stride);
}

// --- pass 1 -------------------------------------------------------------------------------------------------------

// Tiles of a frame. The first pass holds three rows of (columns + 2) · 2C floats in cache.
struct Tiles {
  std::int64_t rows, columns;   // of a tile
  std::int64_t down, across;    // tiles in a frame

  std::int64_t count() const { return down * across; }
};

DEPTHSR_INLINE Tiles tiles_of(Image image) {
  const std::int64_t cache_floats = 32768;  // 128 KiB, of the second-level cache: wider tiles repeat less of their border
  const std::int64_t fits = cache_floats / (6 * round_up(image.channels, PANEL));
  const std::int64_t widest = max(min(fits, 96), 24) / 6 * 6 - 2;
  const std::int64_t across = (image.width + widest - 1) / widest;
  const std::int64_t tallest = max(min(image.height / 4, 48), 16);
  const std::int64_t down = (image.height + tallest - 1) / tallest;
  return {(image.height + down - 1) / down, (image.width + across - 1) / across, down, across};
}

// One row of conv1(norm1(x)) for columns first..last-1, zero outside of the frame, 2 · stride floats a pixel.
template <typename T, typename O, typename Block>
DEPTHSR_INLINE void expanded_row(const T* x, const Block& block, float eps, Image image, std::int64_t row,
                                 std::int64_t first, std::int64_t last, O* normalised, float* out) {
  const std::int64_t pixel = 2 * block.stride;
  const std::int64_t begin = max(first, 0), end = min(last, image.width);
  if (row < 0 || row >= image.height) {
    std::memset(out, 0, (last - first) * pixel * sizeof(float));
    return;
  }
  if (begin > first) std::memset(out, 0, (begin - first) * pixel * sizeof(float));
  if (end < last) std::memset(out + (end - first) * pixel, 0, (last - end) * pixel * sizeof(float));
  const T* pixels = x + (row * image.width + begin) * block.channels;
  normalise(pixels, end - begin, block.channels, eps, normalised, block.stride);
  float* expanded = out + (begin - first) * pixel;
  const Rows<1, O> rows{{normalised}, block.stride, block.channels};
  for (std::int64_t column = 0; column < pixel; column += PANEL) {
    const float* bias = block.expand_bias + column;
    gemm(rows, end - begin, block.expand + column * block.channels, 0, [&](std::int64_t m, const V* sums) {
      for (int v = 0; v < PANEL_VECTORS; ++v)
        store(expanded + m * pixel + column + v * LANES, sums[v] + load(bias + v * LANES));
    });
  }
}

// Gate of the depthwise 3×3 of one row: rows[0..2] start one column left of the first result. Adds to the sums of y.
template <int PIXELS, typename T, typename Block>
DEPTHSR_INLINE void gated_depthwise(const float* const* rows, const Block& block, std::int64_t channel,
                                    T* out, V& total) {
  const std::int64_t pixel = 2 * block.stride, channels = block.channels;
  V first[PIXELS], second[PIXELS];
#pragma GCC unroll 4
  for (int i = 0; i < PIXELS; ++i) {
    first[i] = load(block.depthwise_bias + channel);
    second[i] = load(block.depthwise_bias + block.stride + channel);
  }
  // Pixels side by side share inputs: each is read once for the kernel's three columns.
#pragma GCC unroll 3
  for (int row = 0; row < 3; ++row)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const float* weights = block.depthwise + 3 * row * pixel + half * block.stride + channel;
      const float* inputs = rows[row] + half * block.stride + channel;
      V* sums = half == 0 ? first : second;
      const V weight[3] = {load(weights), load(weights + pixel), load(weights + 2 * pixel)};
#pragma GCC unroll 6
      for (int column = 0; column < PIXELS + 2; ++column) {
        const V input = load(inputs + column * pixel);
#pragma GCC unroll 3
        for (int tap = 0; tap < 3; ++tap)
          if (column >= tap && column - tap < PIXELS) sums[column - tap] += input * weight[tap];
      }
    }
#pragma GCC unroll 4
  for (int i = 0; i < PIXELS; ++i) {
    const V gated = first[i] * second[i];
    total += gated;
    store(out + i * channels + channel, gated, channels - channel);
  }
}

template <typename T, typename Block>
DEPTHSR_INLINE void gated_depthwise_row(const float* const* rows, const Block& block, std::int64_t count,
                                        T* out, float* totals) {
  const std::int64_t pixel = 2 * block.stride;
  for (std::int64_t channel = 0; channel < block.channels; channel += LANES) {
    V total = load(totals + channel);
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
      const float* here[3] = {rows[0] + i * pixel, rows[1] + i * pixel, rows[2] + i * pixel};
      gated_depthwise<4>(here, block, channel, out + i * block.channels, total);
    }
    for (; i < count; ++i) {
      const float* here[3] = {rows[0] + i * pixel, rows[1] + i * pixel, rows[2] + i * pixel};
      gated_depthwise<1>(here, block, channel, out + i * block.channels, total);
    }
    store(totals + channel, total);
  }
}

// y and, for each tile of each frame, the sums of its channels (`stride` floats a tile).
template <int CHANNELS, typename T, typename O>
void naf_block_first_pass(const T* x, const PackedNafBlock<O>& packed, float eps, Image image, T* y,
                          float* tile_sums, ParallelFor parallel_for) {
  const Tiles tiles = tiles_of(image);
  parallel_for(image.batch * tiles.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    const KnownNafBlock<CHANNELS, O> block{packed};
    const std::int64_t frame = image.height * image.width * block.channels;
    const std::int64_t row_floats = (tiles.columns + 2) * 2 * block.stride;
    float* memory = scratch(Scratch::RANGE, 3 * row_floats + (tiles.columns + 2) * block.stride);
    O* normalised = reinterpret_cast<O*>(memory + 3 * row_floats);
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t sample = item / tiles.count(), tile = item % tiles.count();
      const std::int64_t top = tile / tiles.across * tiles.rows, left = tile % tiles.across * tiles.columns;
      const std::int64_t bottom = min(top + tiles.rows, image.height), right = min(left + tiles.columns, image.width);
      float* totals = tile_sums + item * block.stride;
      std::memset(totals, 0, block.stride * sizeof(float));
      const auto slot = [&](std::int64_t row) { return memory + (row + 3) % 3 * row_floats; };
      if (top >= bottom || left >= right) continue;
      for (std::int64_t row = top - 1; row <= bottom; ++row) {
        expanded_row(x + sample * frame, block, eps, image, row, left - 1, right + 1, normalised, slot(row));
        if (row <= top) continue;
        const float* rows[3] = {slot(row - 2), slot(row - 1), slot(row)};
        T* out = y + sample * frame + ((row - 1) * image.width + left) * block.channels;
        gated_depthwise_row(rows, block, right - left, out, totals);
      }
    }
  });
}

// Mean of y over one frame, from the sums of its tiles, in their order: the same on any number of threads.
DEPTHSR_INLINE void frame_mean(const float* tile_sums, std::int64_t tiles, std::int64_t stride, std::int64_t pixels,
                               float* mean) {
  for (std::int64_t c = 0; c < stride; ++c) {
    double total = 0.0;
    for (std::int64_t tile = 0; tile < tiles; ++tile) total += tile_sums[tile * stride + c];
    mean[c] = static_cast<float>(total / static_cast<double>(pixels));
  }
}

// --- pass 2 -------------------------------------------------------------------------------------------------------

// Pixels that go through the second pass together: a multiple of every block of rows.
constexpr std::int64_t RUN = 24;

// `count` <= RUN pixels. memory: 4 · RUN · stride floats.
template <typename T, typename O, typename Block>
DEPTHSR_INLINE void second_pass_run(const T* x, const T* y, const Block& block, const O* projection,
                                    float eps, std::int64_t count, float* memory, T* out) {
  const std::int64_t channels = block.channels, stride = block.stride;
  float* middle = memory;  // x after the first residual
  O* normalised = reinterpret_cast<O*>(middle + RUN * stride);
  O* gated = reinterpret_cast<O*>(middle + 2 * RUN * stride);
  const O* attended = as_operands<O>(y, count * channels, middle + 3 * RUN * stride);
  for (std::int64_t column = 0; column < channels; column += PANEL) {
    gemm(Rows<1, O>{{attended}, channels, channels}, count, projection + column * channels, 0,
         [&](std::int64_t m, const V* sums) {
           for (int v = 0; v < PANEL_VECTORS; ++v) {
             const std::int64_t c = column + v * LANES;
             if (c >= channels) break;
             const V value = sums[v] + load(block.project_bias + c) + load(x + m * channels + c, channels - c);
             store(middle + m * channels + c, value, channels - c);
           }
         });
  }
  normalise(middle, count, channels, eps, normalised, stride);
  const std::int64_t half = packed_size(channels, channels);
  for (std::int64_t column = 0; column < channels; column += PANEL) {
    const float* bias = block.ffn_bias + column;
    gemm<2>(Rows<1, O>{{normalised}, stride, channels}, count, block.ffn + column * channels, half,
            [&](std::int64_t m, const V* sums) {
              for (int v = 0; v < PANEL_VECTORS; ++v) {
                const V first = sums[v] + load(bias + v * LANES);
                const V second = sums[PANEL_VECTORS + v] + load(bias + stride + v * LANES);
                store(gated + m * stride + column + v * LANES, first * second);
              }
            });
  }
  for (std::int64_t column = 0; column < channels; column += PANEL) {
    gemm(Rows<1, O>{{gated}, stride, channels}, count, block.shrink + column * channels, 0,
         [&](std::int64_t m, const V* sums) {
           for (int v = 0; v < PANEL_VECTORS; ++v) {
             const std::int64_t c = column + v * LANES;
             if (c >= channels) break;
             const V value = sums[v] + load(block.shrink_bias + c) + load(middle + m * channels + c, channels - c);
             store(out + m * channels + c, value, channels - c);
           }
         });
  }
}

// projections: a packed matrix a sample (attended_projection). `out` may be x.
template <int CHANNELS, typename T, typename O>
void naf_block_second_pass(const T* x, const T* y, const PackedNafBlock<O>& packed, const O* projections, float eps,
                           Image image, T* out, ParallelFor parallel_for) {
  const std::int64_t pixels = image.height * image.width, runs = (pixels + RUN - 1) / RUN;
  parallel_for(image.batch * runs, 16, [&](std::int64_t begin, std::int64_t end) {
    const KnownNafBlock<CHANNELS, O> block{packed};
    float* memory = scratch(Scratch::RANGE, 4 * RUN * block.stride);
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t sample = item / runs, first = item % runs * RUN;
      const std::int64_t at = (sample * pixels + first) * block.channels;
      const O* projection = projections + sample * packed_size(block.channels, block.channels);
      second_pass_run(x + at, y + at, block, projection, eps, min(RUN, pixels - first), memory, out + at);
    }
  });
}

// ------------------------------------------------------------------------------------------------------------------

// Scratch floats that naf_block_packed needs.
template <typename T>
DEPTHSR_INLINE std::int64_t naf_block_scratch(Image image) {
  const std::int64_t stride = round_up(image.channels, PANEL);
  const std::int64_t y = image.elements() * sizeof(T) / sizeof(float) + PANEL;
  return y + image.batch * (tiles_of(image).count() * stride + packed_size(image.channels, image.channels)) + 2 * stride;
}

// The block with its weights already packed. `out` may be x.
template <int CHANNELS, typename T, typename O>
void naf_block_of(const T* x, const NafBlockWeights& weights, const PackedNafBlock<O>& block, float eps, Image image,
                      float* memory, T* out, ParallelFor parallel_for) {
  const std::int64_t tiles = tiles_of(image).count();
  T* y = reinterpret_cast<T*>(memory);
  float* tile_sums = memory + image.elements() * sizeof(T) / sizeof(float) + PANEL;
  float* mean = tile_sums + image.batch * tiles * block.stride;
  O* projections = reinterpret_cast<O*>(mean + 2 * block.stride);
  naf_block_first_pass<CHANNELS>(x, block, eps, image, y, tile_sums, parallel_for);
  for (std::int64_t sample = 0; sample < image.batch; ++sample) {
    frame_mean(tile_sums + sample * tiles * block.stride, tiles, block.stride, image.height * image.width, mean);
    attended_projection(weights, image.channels, mean, mean + block.stride,
                        projections + sample * packed_size(image.channels, image.channels));
  }
  naf_block_second_pass<CHANNELS>(x, y, block, projections, eps, image, out, parallel_for);
}

template <typename T, typename O>
void naf_block_packed(const T* x, const NafBlockWeights& weights, const PackedNafBlock<O>& block, float eps, Image image,
                      float* memory, T* out, ParallelFor parallel_for) {
  auto run = naf_block_of<0, T, O>;
  if constexpr (sizeof(T) == sizeof(O)) {  // not for what has to be converted first: it is no processor's fast path
    if (image.channels == 16) run = naf_block_of<16, T, O>;
    if (image.channels == 32) run = naf_block_of<32, T, O>;
    if (image.channels == 64) run = naf_block_of<64, T, O>;
    if (image.channels == 128) run = naf_block_of<128, T, O>;
  }
  run(x, weights, block, eps, image, memory, out, parallel_for);
}

template <typename T>
void naf_block(const T* x, const NafBlockWeights& weights, float eps, Image image, T* out, ParallelFor parallel_for) {
  if (image.elements() == 0) return;
  using O = Operand<T>;
  const std::int64_t packed = packed_naf_block_size<O>(image.channels);
  float* memory = scratch(Scratch::FRAME, packed + naf_block_scratch<T>(image));
  const auto block = pack_naf_block<O>(weights, image.channels, memory);
  naf_block_packed(x, weights, block, eps, image, memory + packed, out, parallel_for);
}

}  // namespace depthsr::DEPTHSR_ISA
