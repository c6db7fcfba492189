// Convolutions between the stages, on NHWC activations.
#pragma once

#include "gemm.h"
#include "naf_block.h"
#include "unet_weights.h"

namespace depthsr::DEPTHSR_ISA {

// A convolution packed for gemm, with its biases.
template <typename O = float>
struct PackedConv {
  std::int64_t inputs, outputs;  // channels
  const O* weights;
  const float* bias;
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

  template <typename O>
  O* take_operands(std::int64_t count) {
    return reinterpret_cast<O*>(take(floats_of<O>(count)));
  }
};

// A k×k convolution of torch's layout, outputs × inputs × k × k; packed inputs in the order row, column, channel.
template <typename O>
DEPTHSR_INLINE PackedConv<O> pack_conv(const ConvWeights& conv, std::int64_t inputs, std::int64_t outputs,
                                       std::int64_t k, Arena& arena) {
  O* packed = arena.take_operands<O>(packed_size(outputs, k * k * inputs));
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
template <typename O>
DEPTHSR_INLINE PackedConv<O> pack_up(const ConvWeights& conv, std::int64_t inputs, std::int64_t outputs,
                                     Arena& arena) {
  O* packed = arena.take_operands<O>(packed_size(4 * outputs, inputs));
  if (arena.base)
    pack(4 * outputs, inputs, packed, [&](std::int64_t n, std::int64_t k) {
      return conv.weight[(n % outputs * 4 + n / outputs) * inputs + k];
    });
  return {inputs, outputs, packed, nullptr};
}

// 2×2 convolution with stride 2. in: height × width of the input, both even.
template <typename T, typename O>
void down(const T* x, const PackedConv<O>& conv, std::int64_t height, std::int64_t width, T* out,
          ParallelFor parallel_for) {
  const std::int64_t row = width * conv.inputs;
  parallel_for(height / 2, 1, [&](std::int64_t begin, std::int64_t end) {
    float* memory = scratch(Scratch::RANGE, 2 * row + LANES);
    for (std::int64_t y = begin; y < end; ++y) {
      const O* pixels = as_operands<O>(x + 2 * y * row, 2 * row, memory);
      const Rows<2, O> rows{{pixels, pixels + row}, 2 * conv.inputs, 2 * conv.inputs};
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
template <typename T, typename O>
void up(const T* x, const PackedConv<O>& conv, std::int64_t height, std::int64_t width, T* skip,
        ParallelFor parallel_for) {
  const std::int64_t outputs = conv.outputs;
  constexpr std::int64_t PART = 8;  // outputs are a multiple of it, so it lies in one sub-pixel; 16 may lie in two
  constexpr std::int64_t PIECE = LANES < PART ? LANES : PART;
  parallel_for(height, 1, [&](std::int64_t begin, std::int64_t end) {
    float* memory = scratch(Scratch::RANGE, width * conv.inputs + LANES);
    for (std::int64_t y = begin; y < end; ++y) {
      const O* pixels = as_operands<O>(x + y * width * conv.inputs, width * conv.inputs, memory);
      for (std::int64_t column = 0; column < 4 * outputs; column += PANEL) {
        T* parts[PANEL / PART] = {};  // where they go for the row's first pixel
        for (std::int64_t i = 0; i < PANEL / PART && column + i * PART < 4 * outputs; ++i) {
          const std::int64_t sub = (column + i * PART) / outputs, c = (column + i * PART) % outputs;
          parts[i] = skip + ((2 * y + sub / 2) * 2 * width + sub % 2) * outputs + c;
        }
        gemm(Rows<1, O>{{pixels}, conv.inputs, conv.inputs}, width, conv.weights + column * conv.inputs, 0,
             [&](std::int64_t m, const V* sums) {
               float values[PANEL];
               for (int v = 0; v < PANEL_VECTORS; ++v) store(values + v * LANES, sums[v]);
               for (std::int64_t i = 0; i < PANEL / PART && parts[i]; ++i) {
                 T* to = parts[i] + 2 * m * outputs;
                 for (std::int64_t at = 0; at < PART; at += PIECE)
                   store(to + at, load(to + at, PIECE) + load(values + i * PART + at, PIECE), PIECE);
               }
             });
      }
    }
  });
}

}  // namespace depthsr::DEPTHSR_ISA
