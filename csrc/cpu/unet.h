// The U-Net on one frame: stems, stages, AdaIN fusion, decoder, head. Activations are NHWC and never leave native code.
// Specified by UNet and DepthSR.forward in depthsr/models/network.py.
#pragma once

#include "naf_block.h"
#include "unet_weights.h"

namespace depthsr::DEPTHSR_ISA {

// --- weights --------------------------------------------------------------------------------------------------------

// A convolution over `taps` pixels in `segments` rows, packed for gemm: inputs in the order row, column, channel.
struct PackedConv {
  std::int64_t inputs, outputs;  // channels
  const float* weights;
  const float* bias;
};

struct PackedUNet {
  PackedConv relative_stem, depth_stem, relative_downs[3], depth_downs[3], ups[3], heads;
  PackedNafBlock blocks[MOST_BLOCKS];
};

// Hands out parts of one allocation; with a null base it only counts.
struct Arena {
  float* base;
  std::int64_t used = 0;

  float* take(std::int64_t floats) {
    float* here = base ? base + used : nullptr;
    used += round_up(floats, 16);
    return here;
  }
};

// A k×k convolution of torch's layout, outputs × inputs × k × k.
DEPTHSR_INLINE PackedConv pack_conv(const ConvWeights& conv, std::int64_t inputs, std::int64_t outputs, std::int64_t k,
                                    Arena& arena) {
  float* packed = arena.take(packed_size(outputs, k * k * inputs));
  float* bias = arena.take(round_up(outputs, PANEL));
  if (arena.base) {
    pack(outputs, k * k * inputs, packed, [&](std::int64_t n, std::int64_t at) {
      const std::int64_t tap = at / inputs, channel = at % inputs;
      return conv.weight[(n * inputs + channel) * k * k + tap];
    });
    for (std::int64_t n = 0; n < round_up(outputs, PANEL); ++n)
      bias[n] = conv.bias && n < outputs ? conv.bias[n] : 0.0f;
  }
  return {inputs, outputs, packed, bias};
}

// The 1×1 before a pixel shuffle of 2, its outputs in the order (sub-pixel, channel) instead of (channel, sub-pixel).
DEPTHSR_INLINE PackedConv pack_up(const ConvWeights& conv, std::int64_t inputs, std::int64_t outputs, Arena& arena) {
  float* packed = arena.take(packed_size(4 * outputs, inputs));
  if (arena.base)
    pack(4 * outputs, inputs, packed, [&](std::int64_t n, std::int64_t k) {
      return conv.weight[(n % outputs * 4 + n / outputs) * inputs + k];
    });
  return {inputs, outputs, packed, nullptr};
}

// The three heads as one convolution: for each of a pixel's four sub-pixels one panel of 16 outputs, namely the
// candidates' logits, the correction, the error.
constexpr int CORRECTION = CANDIDATES;
constexpr int ERROR = CANDIDATES + 1;
static_assert(ERROR < PANEL);

DEPTHSR_INLINE PackedConv pack_heads(const UNetWeights& w, Arena& arena) {
  const std::int64_t inputs = w.widths[0];
  float* packed = arena.take(packed_size(4 * PANEL, 9 * inputs));
  float* bias = arena.take(4 * PANEL);
  if (arena.base) {
    const auto source = [&](std::int64_t n, const ConvWeights*& head) -> std::int64_t {
      const std::int64_t output = n % PANEL, sub = n / PANEL;
      head = output < CANDIDATES ? &w.choice_head : output == CORRECTION ? &w.residual_head
             : output == ERROR ? &w.error_head : nullptr;
      return (output < CANDIDATES ? output * 4 : 0) + sub;
    };
    pack(4 * PANEL, 9 * inputs, packed, [&](std::int64_t n, std::int64_t at) {
      const ConvWeights* head;
      const std::int64_t row = source(n, head);
      return head ? head->weight[(row * inputs + at % inputs) * 9 + at / inputs] : 0.0f;
    });
    for (std::int64_t n = 0; n < 4 * PANEL; ++n) {
      const ConvWeights* head;
      const std::int64_t row = source(n, head);
      bias[n] = head ? head->bias[row] : 0.0f;
    }
  }
  return {inputs, 4 * PANEL, packed, bias};
}

// Packs everything into the arena and returns how many floats that took; with a null arena only the latter.
DEPTHSR_INLINE std::int64_t lay_out_unet(const UNetWeights& w, float* memory, PackedUNet& packed) {
  Arena arena{memory};
  packed.relative_stem = pack_conv(w.relative_stem, 3, w.widths[0], 4, arena);
  packed.depth_stem = pack_conv(w.depth_stem, DEPTH_FEATURES, w.widths[0], 4, arena);
  packed.heads = pack_heads(w, arena);
  for (int i = 0; i < 3; ++i) {
    packed.relative_downs[i] = pack_conv(w.relative_downs[i], w.widths[i], w.widths[i + 1], 2, arena);
    packed.depth_downs[i] = pack_conv(w.depth_downs[i], w.widths[i], w.widths[i + 1], 2, arena);
    packed.ups[i] = pack_up(w.ups[i], w.widths[3 - i], w.widths[2 - i], arena);
  }
  for (std::int64_t i = 0; i < w.block_count; ++i) {
    float* here = arena.take(packed_naf_block_size(w.block_channels[i]));
    if (memory) packed.blocks[i] = pack_naf_block(w.blocks[i], w.block_channels[i], here);
  }
  return arena.used;
}

// Where the packed weights begin, after the PackedUNet that points into them.
constexpr std::int64_t PACKED_HEADER = (sizeof(PackedUNet) / sizeof(float) + 16) / 16 * 16;

inline float* pack_unet(const UNetWeights& w) {
  PackedUNet counted;
  float* memory = allocate(PACKED_HEADER + lay_out_unet(w, nullptr, counted));
  PackedUNet packed{};
  lay_out_unet(w, memory + PACKED_HEADER, packed);
  std::memcpy(memory, &packed, sizeof packed);
  return memory;
}

// --- stems ----------------------------------------------------------------------------------------------------------

// Normalised depth and ambiguity above this are shown to the network as this.
constexpr float FEATURE_LIMIT = 2.0f;

// Rows of features for the stems' 4×4 convolutions: one zero pixel, `width` pixels, one zero pixel; all zero outside of
// the padded frame. Within it the right and lower border are repeated.
DEPTHSR_INLINE void feature_row(const UNetInput& in, std::int64_t row, std::int64_t padded_height,
                                std::int64_t padded_width, float* guide, float* depth, float* memory) {
  std::memset(guide, 0, (padded_width + 2) * 3 * sizeof(float));
  std::memset(depth, 0, (padded_width + 2) * DEPTH_FEATURES * sizeof(float));
  if (row < 0 || row >= padded_height) return;
  const std::int64_t y = min(row, in.height - 1), plane = in.height * in.width;
  const float* rgb = in.rgb_HW3 + y * in.width * 3;
  const float* planes[UPSAMPLINGS];
  for (int i = 0; i < UPSAMPLINGS; ++i) planes[i] = in.upsampled + i * plane + y * in.width;
  for (std::int64_t x = 0; x < in.width; x += LANES) {
    const V first = max(load(planes[0] + x, in.width - x), V{});
    store(memory + x, log(1.0f + 30.0f * first) * (1.0f / 3.5f));
  }
  for (std::int64_t x = 0; x < padded_width; ++x) {
    const std::int64_t from = min(x, in.width - 1);
    float* g = guide + (x + 1) * 3;
    float* d = depth + (x + 1) * DEPTH_FEATURES;
    for (int i = 0; i < UPSAMPLINGS; ++i) {
      const float value = planes[i][from];
      d[i] = value < 0.0f ? 0.0f : value > FEATURE_LIMIT ? FEATURE_LIMIT : value;
    }
    const float ambiguity = in.ambiguity[y * in.width + from];
    d[UPSAMPLINGS] = memory[from];
    d[UPSAMPLINGS + 1] = ambiguity < 0.0f ? 0.0f : ambiguity > FEATURE_LIMIT ? FEATURE_LIMIT : ambiguity;
    d[UPSAMPLINGS + 2] = in.valid[y * in.width + from];
    for (int i = 0; i < 3; ++i) d[UPSAMPLINGS + 3 + i] = g[i] = (rgb[from * 3 + i] - 0.5f) * 2.0f;
  }
}

// Both stems. depth_bias: the depth stem's bias with the condition's share.
template <typename T>
void stems(const UNetInput& in, const PackedUNet& packed, const float* depth_bias, std::int64_t padded_height,
           std::int64_t padded_width, T* relative, T* depth, ParallelFor parallel_for) {
  constexpr std::int64_t BAND = 4;  // rows of the result that share their feature rows
  const std::int64_t height = padded_height / 2, width = padded_width / 2;
  const std::int64_t guide_row = round_up((padded_width + 2) * 3, 16);
  const std::int64_t depth_row = round_up((padded_width + 2) * DEPTH_FEATURES, 16);
  const std::int64_t rows = 2 * BAND + 2;
  parallel_for((height + BAND - 1) / BAND, 1, [&](std::int64_t begin, std::int64_t end) {
    float* guide = scratch(Scratch::RANGE, rows * (guide_row + depth_row) + padded_width + LANES);
    float* features = guide + rows * guide_row;
    float* memory = features + rows * depth_row;
    for (std::int64_t band = begin; band < end; ++band) {
      const std::int64_t first = band * BAND, last = min(first + BAND, height);
      for (std::int64_t row = 0; row < 2 * (last - first) + 2; ++row)
        feature_row(in, 2 * first - 1 + row, padded_height, padded_width, guide + row * guide_row,
                    features + row * depth_row, memory);
      for (std::int64_t y = first; y < last; ++y) {
        const auto stem = [&](const float* from, std::int64_t row_floats, const PackedConv& conv, const float* bias,
                              T* out) {
          const Rows pixels{from + 2 * (y - first) * row_floats, 2 * conv.inputs, 4 * conv.inputs, 4, row_floats};
          for (std::int64_t column = 0; column < conv.outputs; column += PANEL)
            gemm(pixels, width, conv.weights + column * 16 * conv.inputs, 0, [&](std::int64_t m, const V* sums) {
              for (int v = 0; v < PANEL_VECTORS; ++v) {
                const std::int64_t c = column + v * LANES;
                if (c < conv.outputs)
                  store(out + (y * width + m) * conv.outputs + c, sums[v] + load(bias + c), conv.outputs - c);
              }
            });
        };
        stem(guide, guide_row, packed.relative_stem, packed.relative_stem.bias, relative);
        stem(features, depth_row, packed.depth_stem, depth_bias, depth);
      }
    }
  });
}

// --- between the stages ---------------------------------------------------------------------------------------------

// 2×2 convolution with stride 2. in: height × width of the input, both even.
template <typename T>
void down(const T* x, const PackedConv& conv, std::int64_t height, std::int64_t width, T* out,
          ParallelFor parallel_for) {
  const std::int64_t row = width * conv.inputs;
  parallel_for(height / 2, 1, [&](std::int64_t begin, std::int64_t end) {
    float* memory = scratch(Scratch::RANGE, 2 * row + LANES);
    for (std::int64_t y = begin; y < end; ++y) {
      const float* pixels = as_floats(x + 2 * y * row, 2 * row, memory);
      const Rows rows{pixels, 2 * conv.inputs, 2 * conv.inputs, 2, row};
      for (std::int64_t column = 0; column < conv.outputs; column += PANEL)
        gemm(rows, width / 2, conv.weights + column * 4 * conv.inputs, 0, [&](std::int64_t m, const V* sums) {
          for (int v = 0; v < PANEL_VECTORS; ++v) {
            const std::int64_t c = column + v * LANES;
            if (c < conv.outputs)
              store(out + (y * width / 2 + m) * conv.outputs + c, sums[v] + load(conv.bias + c), conv.outputs - c);
          }
        });
    }
  });
}

// 1×1 convolution, pixel shuffle by 2, added to `skip`. height × width: of x.
template <typename T>
void up(const T* x, const PackedConv& conv, std::int64_t height, std::int64_t width, T* skip,
        ParallelFor parallel_for) {
  const std::int64_t outputs = conv.outputs;
  parallel_for(height, 1, [&](std::int64_t begin, std::int64_t end) {
    float* memory = scratch(Scratch::RANGE, width * conv.inputs + LANES);
    for (std::int64_t y = begin; y < end; ++y) {
      const float* pixels = as_floats(x + y * width * conv.inputs, width * conv.inputs, memory);
      for (std::int64_t column = 0; column < 4 * outputs; column += PANEL)
        gemm(Rows{pixels, conv.inputs, conv.inputs}, width, conv.weights + column * conv.inputs, 0,
             [&](std::int64_t m, const V* sums) {
               // Outputs are a multiple of 8, so a run of 8 lies in one sub-pixel; a vector of 16 may lie in two.
               float values[PANEL];
               for (int v = 0; v < PANEL_VECTORS; ++v) store(values + v * LANES, sums[v]);
               for (std::int64_t part = 0; part < PANEL && column + part < 4 * outputs; part += 8) {
                 const std::int64_t sub = (column + part) / outputs, c = (column + part) % outputs;
                 T* to = skip + ((2 * y + sub / 2) * 2 * width + 2 * m + sub % 2) * outputs + c;
                 for (std::int64_t i = 0; i < 8; i += min(LANES, 8)) {
                   const std::int64_t lanes = min(LANES, 8);
                   store(to + i, load(to + i, lanes) + load(values + part + i, lanes), lanes);
                 }
               }
             });
    }
  });
}

// Mean and sum of squared deviations of each channel over one run of pixels: 2 · stride floats, [mean, squares].
template <typename T>
DEPTHSR_INLINE void run_moments(const T* x, std::int64_t count, std::int64_t channels, float* moments,
                                std::int64_t stride) {
  for (std::int64_t c = 0; c < channels; c += LANES) {
    V total{};
    for (std::int64_t i = 0; i < count; ++i) total += load(x + i * channels + c, channels - c);
    const V mean = total / splat(static_cast<float>(count));
    V squares{};
    for (std::int64_t i = 0; i < count; ++i) {
      const V centred = load(x + i * channels + c, channels - c) - mean;
      squares += centred * centred;
    }
    store(moments + c, mean);
    store(moments + stride + c, squares);
  }
}

// Mean and biased variance of each channel from the moments of its runs, merged pairwise as Chan et al. 1979.
DEPTHSR_INLINE void merge_moments(const float* moments, std::int64_t runs, std::int64_t run_pixels,
                                  std::int64_t pixels, std::int64_t channels, std::int64_t stride, float* mean,
                                  float* variance) {
  for (std::int64_t c = 0; c < channels; ++c) {
    double count = 0.0, average = 0.0, squares = 0.0;
    for (std::int64_t run = 0; run < runs; ++run) {
      const double more = static_cast<double>(min(run_pixels, pixels - run * run_pixels));
      const float* here = moments + run * 2 * stride;
      const double difference = here[c] - average, total = count + more;
      average += difference * more / total;
      squares += here[stride + c] + difference * difference * count * more / total;
      count = total;
    }
    mean[c] = static_cast<float>(average);
    variance[c] = static_cast<float>(squares / count);
  }
}

constexpr std::int64_t MOMENT_RUN = 128;
constexpr float ADAIN_EPS = 1e-5f;

DEPTHSR_INLINE std::int64_t fusion_scratch(std::int64_t pixels, std::int64_t channels) {
  const std::int64_t stride = round_up(channels, PANEL), runs = (pixels + MOMENT_RUN - 1) / MOMENT_RUN;
  return runs * 4 * stride + 7 * stride + packed_size(channels, channels);
}

// depth += project(adain(relative, depth)): AdaIN is affine a channel, so it is folded into the projection.
template <typename T>
void fuse(const T* relative, const ConvWeights& project, std::int64_t pixels, std::int64_t channels, float* memory,
          T* depth, ParallelFor parallel_for) {
  const std::int64_t stride = round_up(channels, PANEL), runs = (pixels + MOMENT_RUN - 1) / MOMENT_RUN;
  float* moments[2] = {memory, memory + runs * 2 * stride};
  float* statistics = memory + runs * 4 * stride;  // mean and variance of both, then the fold
  float* ratio = statistics + 4 * stride;
  float* offset = ratio + stride;
  float* bias = offset + stride;
  float* weights = bias + stride;
  parallel_for(runs, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t run = begin; run < end; ++run) {
      const std::int64_t first = run * MOMENT_RUN, count = min(MOMENT_RUN, pixels - first);
      run_moments(relative + first * channels, count, channels, moments[0] + run * 2 * stride, stride);
      run_moments(depth + first * channels, count, channels, moments[1] + run * 2 * stride, stride);
    }
  });
  for (int i = 0; i < 2; ++i)
    merge_moments(moments[i], runs, MOMENT_RUN, pixels, channels, stride, statistics + 2 * i * stride,
                  statistics + (2 * i + 1) * stride);
  for (std::int64_t c = 0; c < channels; ++c) {
    ratio[c] = __builtin_sqrtf((statistics[3 * stride + c] + ADAIN_EPS) / (statistics[stride + c] + ADAIN_EPS));
    offset[c] = statistics[2 * stride + c] - ratio[c] * statistics[c];
  }
  pack(channels, channels, weights,
       [&](std::int64_t n, std::int64_t k) { return project.weight[n * channels + k] * ratio[k]; });
  for (std::int64_t n = 0; n < stride; ++n) {
    bias[n] = n < channels ? project.bias[n] : 0.0f;
    for (std::int64_t k = 0; n < channels && k < channels; ++k) bias[n] += project.weight[n * channels + k] * offset[k];
  }
  parallel_for(runs, 4, [&](std::int64_t begin, std::int64_t end) {
    float* floats = scratch(Scratch::RANGE, MOMENT_RUN * channels + LANES);
    for (std::int64_t run = begin; run < end; ++run) {
      const std::int64_t first = run * MOMENT_RUN, count = min(MOMENT_RUN, pixels - first);
      const float* inputs = as_floats(relative + first * channels, count * channels, floats);
      for (std::int64_t column = 0; column < channels; column += PANEL)
        gemm(Rows{inputs, channels, channels}, count, weights + column * channels, 0,
             [&](std::int64_t m, const V* sums) {
               for (int v = 0; v < PANEL_VECTORS; ++v) {
                 const std::int64_t c = column + v * LANES;
                 if (c >= channels) break;
                 T* to = depth + (first + m) * channels + c;
                 store(to, load(to, channels - c) + sums[v] + load(bias + c), channels - c);
               }
             });
    }
  });
}

// --- head -----------------------------------------------------------------------------------------------------------

// The largest lane.
DEPTHSR_INLINE float largest(const V* values) {
  V most = values[0];
  for (int v = 1; v < PANEL_VECTORS; ++v) most = max(most, values[v]);
  float lanes[LANES];
  store(lanes, most);
  float value = lanes[0];
  for (int lane = 1; lane < LANES; ++lane) value = lanes[lane] > value ? lanes[lane] : value;
  return value;
}

// Sum of softmax(logits) · candidates over the first CANDIDATES of a panel's 16; the other logits are ignored.
DEPTHSR_INLINE float chosen(const float* logits, const float* candidates) {
  V values[PANEL_VECTORS], total{}, weighted{};
  for (int v = 0; v < PANEL_VECTORS; ++v) values[v] = load(logits + v * LANES);
  const V most = splat(largest(values));
  for (int v = 0; v < PANEL_VECTORS; ++v) {
    const V share = exp(values[v] - most);
    total += share;
    weighted += share * load(candidates + v * LANES);
  }
  return sum(weighted) / sum(total);
}

// One fine pixel's candidates, in a panel's 16.
DEPTHSR_INLINE void gather_candidates(const UNetInput& in, const float* const* upsampled, const float* const* coarse,
                                      std::int64_t x, float* candidates) {
  for (int i = 0; i < UPSAMPLINGS; ++i) candidates[i] = upsampled[i][x];
  const std::int64_t nearest = in.nearest_column[x], last = in.low_width - 1;
  const std::int64_t columns[3] = {min(max(nearest - 1, 0), last), min(max(nearest, 0), last),
                                   min(max(nearest + 1, 0), last)};
  for (int i = 0; i < 9; ++i) candidates[UPSAMPLINGS + i] = coarse[i / 3][columns[i % 3]];
}

template <typename T>
void head(const T* x, const UNetInput& in, const PackedConv& conv, std::int64_t height, std::int64_t width,
          float* depth_m, float* error_m, ParallelFor parallel_for) {
  constexpr std::int64_t BAND = 4;
  const std::int64_t channels = conv.inputs, row_floats = (width + 2) * channels;
  const std::int64_t plane = in.height * in.width;
  const std::int64_t fine = round_up(2 * width, LANES);
  parallel_for((height + BAND - 1) / BAND, 1, [&](std::int64_t begin, std::int64_t end) {
    float* rows = scratch(Scratch::RANGE, (BAND + 2) * row_floats + RUN * 4 * PANEL + 6 * fine + LANES);
    float* logits = rows + (BAND + 2) * row_floats;
    float* results = logits + RUN * 4 * PANEL;  // of two fine rows: choice, correction, error
    for (std::int64_t band = begin; band < end; ++band) {
      const std::int64_t first = band * BAND, last = min(first + BAND, height);
      for (std::int64_t y = first - 1; y <= last; ++y) {
        float* to = rows + (y - first + 1) * row_floats;
        std::memset(to, 0, channels * sizeof(float));
        std::memset(to + (width + 1) * channels, 0, channels * sizeof(float));
        if (y < 0 || y >= height) {
          std::memset(to, 0, row_floats * sizeof(float));
        } else {
          const T* from = x + y * width * channels;
          for (std::int64_t i = 0; i < width * channels; i += LANES)
            store(to + channels + i, load(from + i, width * channels - i), width * channels - i);
        }
      }
      for (std::int64_t y = first; y < last && 2 * y < in.height; ++y) {
        for (std::int64_t left = 0; left < width && 2 * left < in.width; left += RUN) {
          const std::int64_t count = min(RUN, width - left);
          const Rows pixels{rows + (y - first) * row_floats + left * channels, channels, 3 * channels, 3, row_floats};
          for (std::int64_t column = 0; column < 4 * PANEL; column += PANEL) {
            const float* bias = conv.bias + column;
            gemm(pixels, count, conv.weights + column * 9 * channels, 0, [&](std::int64_t m, const V* sums) {
              for (int v = 0; v < PANEL_VECTORS; ++v)
                store(logits + m * 4 * PANEL + column + v * LANES, sums[v] + load(bias + v * LANES));
            });
          }
          for (int down = 0; down < 2 && 2 * y + down < in.height; ++down) {
            const std::int64_t fine_y = 2 * y + down, nearest = in.nearest_row[fine_y], bottom = in.low_height - 1;
            const float *upsampled[UPSAMPLINGS], *coarse[3];
            for (int i = 0; i < UPSAMPLINGS; ++i) upsampled[i] = in.upsampled + i * plane + fine_y * in.width;
            for (int i = 0; i < 3; ++i)
              coarse[i] = in.filled + min(max(nearest + i - 1, 0), bottom) * in.low_width;
            float* result = results + 3 * down * fine;
            for (std::int64_t m = 0; m < 2 * count; ++m) {
              const std::int64_t fine_x = 2 * left + m;
              if (fine_x >= in.width) break;
              float* outputs = logits + (m / 2 * 4 + 2 * down + m % 2) * PANEL;
              float candidates[PANEL] = {};
              gather_candidates(in, upsampled, coarse, fine_x, candidates);
              result[fine + fine_x] = outputs[CORRECTION];
              result[2 * fine + fine_x] = outputs[ERROR];
              for (int i = CANDIDATES; i < PANEL; ++i) outputs[i] = -1e30f;
              result[fine_x] = chosen(outputs, candidates);
            }
          }
        }
        for (int down = 0; down < 2 && 2 * y + down < in.height; ++down) {
          const std::int64_t at = (2 * y + down) * in.width;
          const float* result = results + 3 * down * fine;
          for (std::int64_t column = 0; column < in.width; column += LANES) {
            const std::int64_t count = in.width - column;
            const V ambiguity = load(in.ambiguity + at + column, count);
            const V depth = load(result + column) + load(result + fine + column) * ambiguity;
            const V limit = splat(in.limit_m);
            store(depth_m + at + column, min(max(depth * splat(in.scale_m), V{}), limit), count);
            const V logit = load(result + 2 * fine + column) - 2.0f;
            const V error = max(logit, V{}) + log(1.0f + exp(-max(logit, -logit)));  // softplus
            store(error_m + at + column, error * ambiguity * splat(in.scale_m), count);
          }
        }
      }
    }
  });
}

// --- the whole ------------------------------------------------------------------------------------------------------

// Frames are padded to a multiple of this: four halvings.
constexpr std::int64_t SIZE_MULTIPLE = 16;

template <typename T>
struct UNetMemory {
  T *relative[4], *depth[4];
  float *block, *fusion, *depth_bias;

  // Returns how many floats it all takes.
  std::int64_t lay_out(const UNetWeights& w, std::int64_t height, std::int64_t width, float* memory) {
    Arena arena{memory};
    std::int64_t block_floats = 0, fusion_floats = 0;
    for (int s = 0; s < 4; ++s) {
      const Image image{1, height >> (s + 1), width >> (s + 1), w.widths[s]};
      const std::int64_t floats = (image.elements() * sizeof(T) + 3) / sizeof(float);
      relative[s] = reinterpret_cast<T*>(arena.take(floats));
      depth[s] = reinterpret_cast<T*>(arena.take(floats));
      block_floats = max(block_floats, naf_block_scratch<T>(image));
      fusion_floats = max(fusion_floats, fusion_scratch(image.height * image.width, image.channels));
    }
    block = arena.take(block_floats);
    fusion = arena.take(fusion_floats);
    depth_bias = arena.take(round_up(w.widths[0], PANEL));
    return arena.used;
  }
};

template <typename T>
void unet(const UNetWeights& w, const float* packed_floats, const UNetInput& in, float* depth_m, float* error_m,
          ParallelFor parallel_for) {
  constexpr float NORM_EPS = 1e-6f;
  PackedUNet packed;
  std::memcpy(&packed, packed_floats, sizeof packed);
  const std::int64_t padded_height = round_up(in.height, SIZE_MULTIPLE);
  const std::int64_t padded_width = round_up(in.width, SIZE_MULTIPLE);
  UNetMemory<T> memory;
  memory.lay_out(w, padded_height, padded_width,
                 scratch(Scratch::FRAME, memory.lay_out(w, padded_height, padded_width, nullptr)));
  for (std::int64_t c = 0; c < w.widths[0]; ++c)
    memory.depth_bias[c] = packed.depth_stem.bias[c] + w.condition.bias[c] +
                           w.condition.weight[2 * c] * in.condition[0] + w.condition.weight[2 * c + 1] * in.condition[1];

  std::int64_t next = 0;  // blocks lie in the order in which they run
  const auto blocks = [&](T* x, std::int64_t count, int stage) {
    const Image image{1, padded_height >> (stage + 1), padded_width >> (stage + 1), w.widths[stage]};
    for (std::int64_t i = 0; i < count; ++i, ++next)
      naf_block_packed(x, w.blocks[next], packed.blocks[next], NORM_EPS, image, memory.block, x, parallel_for);
  };
  stems(in, packed, memory.depth_bias, padded_height, padded_width, memory.relative[0], memory.depth[0], parallel_for);
  for (int stage = 0; stage < 4; ++stage) {
    const std::int64_t height = padded_height >> (stage + 1), width = padded_width >> (stage + 1);
    if (stage > 0) {
      down(memory.relative[stage - 1], packed.relative_downs[stage - 1], 2 * height, 2 * width, memory.relative[stage],
           parallel_for);
      down(memory.depth[stage - 1], packed.depth_downs[stage - 1], 2 * height, 2 * width, memory.depth[stage],
           parallel_for);
    }
    blocks(memory.relative[stage], w.relative_blocks[stage], stage);
    blocks(memory.depth[stage], w.depth_blocks[stage], stage);
    fuse(memory.relative[stage], w.fusions[stage], height * width, w.widths[stage], memory.fusion, memory.depth[stage],
         parallel_for);
  }
  blocks(memory.depth[3], w.middle_blocks, 3);
  for (int i = 0; i < 3; ++i) {
    const int stage = 2 - i;
    up(memory.depth[stage + 1], packed.ups[i], padded_height >> (stage + 2), padded_width >> (stage + 2),
       memory.depth[stage], parallel_for);
    blocks(memory.depth[stage], w.decoder_blocks[i], stage);
  }
  head(memory.depth[0], in, packed.heads, padded_height / 2, padded_width / 2, depth_m, error_m, parallel_for);
}

}  // namespace depthsr::DEPTHSR_ISA
