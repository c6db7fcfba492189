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

#include "naf_block_gradients.h"

namespace depthsr::DEPTHSR_ISA {

// --- runs of pixels -----------------------------------------------------------------------------------------------

// Pixels that go through a pass together: enough for sums in registers to be worth their way to memory, of which there
// are more the more channels; and a multiple of every block of rows.
constexpr std::int64_t MAX_BACKWARD_RUN = 72;
DEPTHSR_INLINE std::int64_t backward_run(std::int64_t channels) { return channels < 64 ? 36 : MAX_BACKWARD_RUN; }

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

  RunBuffers(std::int64_t channels, std::int64_t stride, Carve& carve) {
    const std::int64_t run = backward_run(channels), single = pitch_of(stride), both = pitch_of(2 * stride);
    grad_out = {carve(run * single), single};
    normalised = {carve(run * single), single};
    middle = {carve(run * single), single};
    gated = {carve(run * single), single};
    y = {carve(run * single), single};
    pair = {carve(run * both), both};
    scale = carve(run);
  }
};

// --- passes 1 and 2: the gated depthwise convolution -----------------------------------------------------------------

template <typename T>
DEPTHSR_INLINE void normalise_run(const T* x, const PackedNafBlock<>& block, float eps, std::int64_t first,
                                  std::int64_t count, const RunBuffers& at) {
  for (std::int64_t m = 0; m < count; ++m)
    normalise(x + (first + m) * block.channels, block.channels, block.stride, eps, at.normalised[m], at.scale + m);
}

// Of at.normalised.
inline void expand_run(const PackedNafBlock<>& block, std::int64_t first, std::int64_t count, const RunBuffers& at,
                       const BackwardFrame& frame) {
  float* places[MAX_BACKWARD_RUN];
  for (std::int64_t m = 0; m < count; ++m) places[m] = frame.expanded[frame.within(first + m)];
  product(Rows<1>{{at.normalised.first}, at.normalised.pitch, block.channels}, count, block.expand, 2 * block.stride,
          [&](std::int64_t m, std::int64_t c, V value) { store(places[m] + c, value + load(block.expand_bias + c)); });
}

// The three rows of pixels around those from `within` on, from one column to the left.
struct Neighbours {
  Pixels rows[3];

  Neighbours(Pixels pixels, const BackwardFrame& frame, std::int64_t within)
      : rows{pixels.from(within - frame.width() - 1), pixels.from(within - 1),
             pixels.from(within + frame.width() - 1)} {}
};

// y, and its sums over the run.
inline void gate_run(const PackedNafBlock<>& block, std::int64_t first, std::int64_t count, const RunBuffers& at,
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

// From at.grad_out, and x in at.middle.
inline void second_half_run(const PackedNafBlock<>& block, const PackedNafBlockBackward& backward,
                            const float* projection, float eps, std::int64_t first, std::int64_t count,
                            const RunBuffers& at, const BackwardFrame& frame, const SecondHalfSums& sums) {
  const std::int64_t channels = block.channels, stride = block.stride;
  float* grad_middle = frame.grad_middle + first * channels;
  widen(frame.y[first], stride, stride, count, at.y);
  product(Rows<1>{{at.y.first}, at.y.pitch, channels}, count, projection, stride,
          [&](std::int64_t m, std::int64_t c, V value) {
            float* middle = at.middle[m] + c;
            store(middle, load(middle) + value + load(block.project_bias + c));
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
inline void gate_backward_run(const PackedNafBlock<>& block, const float* projection, const float* grad_mean,
                              std::int64_t first, std::int64_t count, const BackwardFrame& frame,
                              const FirstHalfSums& sums) {
  const std::int64_t channels = block.channels, stride = block.stride;
  // The gate's factors again, and then their gradients in their place.
  for_each_row(frame, first, count, [&](std::int64_t, std::int64_t piece, std::int64_t within) {
    depthwise_row(Neighbours(frame.expanded, frame, within).rows, block.depthwise, block.depthwise_bias, 2 * stride,
                  piece, frame.grad_gate.from(within));
  });
  float* places[MAX_BACKWARD_RUN];
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

// From at.normalised; leaves the gradient of x in at.middle.
inline void expand_backward_run(const PackedNafBlock<>& block, const PackedNafBlockBackward& backward,
                                std::int64_t first, std::int64_t count, const RunBuffers& at,
                                const BackwardFrame& frame, const FirstHalfSums& sums) {
  const std::int64_t channels = block.channels, stride = block.stride;
  for_each_row(frame, first, count, [&](std::int64_t done, std::int64_t piece, std::int64_t within) {
    depthwise_row(Neighbours(frame.grad_gate, frame, within).rows, backward.depthwise, nullptr, 2 * stride, piece,
                  at.pair.from(done));
  });
  for (std::int64_t half = 0; half < 2; ++half)
    add_outer({at.pair.first + half * stride, at.pair.pitch}, channels, at.normalised, stride, count,
              sums.expand + half * channels * stride);
  add_pixels(at.pair, 2 * stride, count, sums.expand_bias);
  product(Rows<2>{{at.pair.first, at.pair.first + stride}, at.pair.pitch, channels}, count, backward.expand, stride,
          [&](std::int64_t m, std::int64_t c, V grad) { store(at.middle[m] + c, grad); });
  const float* grad_middle = frame.grad_middle + first * channels;
  for (std::int64_t m = 0; m < count; ++m)
    normalise_backward(at.middle[m], at.normalised[m], at.scale[m], channels, stride, [&](std::int64_t c, V grad) {
      store(at.middle[m] + c, grad + load(grad_middle + m * channels + c, channels - c));
    });
}

// --- all passes ---------------------------------------------------------------------------------------------------

// Calls body(part, first, count) for the runs of `length` pixels of a frame; those of one part one after another.
template <typename RunBody>
void for_each_run(std::int64_t pixels, std::int64_t length, std::int64_t parts, ParallelFor parallel_for,
                  RunBody body) {
  const std::int64_t runs = (pixels + length - 1) / length;
  parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part)
      for (std::int64_t run = part * runs / parts; run < (part + 1) * runs / parts; ++run)
        body(part, run * length, min(length, pixels - run * length));
  });
}

template <typename T>
void naf_block_backward(const T* grad_out, const T* x, const NafBlockWeights& weights, float eps, Image image,
                        T* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for) {
  const std::int64_t channels = image.channels, stride = round_up(channels, PANEL);
  const std::int64_t pixels = image.height * image.width;
  const std::int64_t length = backward_run(channels), runs = (pixels + length - 1) / length;
  // Parts cost memory, 24 C² bytes each: some runs to each, where there are enough for several threads.
  const std::int64_t parts = max(min(max(runs / 4, min(runs, 4)), 32), 1);
  const std::int64_t second_size = SecondHalfSums::size(channels, stride);
  const std::int64_t first_size = FirstHalfSums::size(channels, stride);
  const std::int64_t square = packed_size(channels, channels);

  PackedNafBlock<> block{};
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
  Carve buffer_sizes(nullptr);
  RunBuffers(channels, stride, buffer_sizes);
  const auto buffers = [&] {
    Carve carve(scratch(Scratch::RANGE, buffer_sizes.used()));
    return RunBuffers(channels, stride, carve);
  };
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
    for_each_run(pixels, length, parts, parallel_for, [&](std::int64_t, std::int64_t first, std::int64_t count) {
      const RunBuffers at = buffers();
      normalise_run(frame_x, block, eps, first, count, at);
      expand_run(block, first, count, at, frame);
    });
    std::memset(part_totals, 0, parts * stride * sizeof(float));
    for_each_run(pixels, length, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      gate_run(block, first, count, buffers(), frame, part_totals + part * stride);
    });
    frame_mean(part_totals, parts, stride, pixels, mean);
    attended_projection(weights, channels, mean, attention, projection);
    pack(channels, channels, transposed, [&](std::int64_t n, std::int64_t k) {
      return weights.conv3_weight[k * channels + n] * weights.beta[k] * attention[n];
    });
    for_each_run(pixels, length, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      const RunBuffers at = buffers();
      widen(frame_x + first * channels, channels, stride, count, at.middle);
      widen(frame_grad_out + first * channels, channels, stride, count, at.grad_out);
      second_half_run(block, backward, projection, eps, first, count, at, frame, second_sums(part));
    });
    add_parts(second_memory, parts, channels * stride, second_size, parallel_for);
    attention_backward(weights, block, mean, attention, pixels, second_sums(0).project, project_total, gradients,
                       grad_attention, grad_mean);
    for (std::int64_t part = 0; part < parts; ++part)
      std::memset(second_sums(part).project, 0, channels * stride * sizeof(float));
    for_each_run(pixels, length, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      gate_backward_run(block, transposed, grad_mean, first, count, frame, first_sums(part));
    });
    for_each_run(pixels, length, parts, parallel_for, [&](std::int64_t part, std::int64_t first, std::int64_t count) {
      const RunBuffers at = buffers();
      normalise_run(frame_x, block, eps, first, count, at);
      expand_backward_run(block, backward, first, count, at, frame, first_sums(part));
      narrow(at.middle, channels, count, frame_grad_x + first * channels);
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
