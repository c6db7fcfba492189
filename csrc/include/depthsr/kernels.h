// The CPU kernels' API: raw pointers, sizes and a way to run a loop in parallel; nothing of torch or numpy. The CUDA
// kernels' is cuda_kernels.h.
//
// What each function computes is specified by depthsr/ops/reference.py. T, the storage type, is float, Half or
// BFloat16; all arithmetic is float or double. Output buffers are overwritten whole and may hold anything before.
// Results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>

namespace depthsr {

struct Half {
  std::uint16_t bits;
};

struct BFloat16 {
  std::uint16_t bits;
};

// A dense B×C×H×W tensor with pixels = H * W. Element (b, c, p) lies at (b * channels + c) * pixels + p, or, when
// channels_last, at (b * pixels + p) * channels + c.
struct Shape {
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t pixels;
  bool channels_last;

  std::int64_t elements() const { return batch * channels * pixels; }
};

// Runs body(begin, end) over ranges that cover [0, count) once, of at least `grain` steps each, in any order.
using Body = std::function<void(std::int64_t begin, std::int64_t end)>;
using ParallelFor = void (*)(std::int64_t count, std::int64_t grain, const Body& body);

template <typename T>
void layer_norm_2d(const T* x, const float* weight, const float* bias, float eps, Shape shape, T* out,
                   ParallelFor parallel_for);

template <typename T>
void layer_norm_2d_backward(const T* grad_out, const T* x, const float* weight, float eps, Shape shape, T* grad_x,
                            float* grad_weight, float* grad_bias, ParallelFor parallel_for);

// `shape` is that of the result; x has twice its channels.
template <typename T>
void simple_gate(const T* x, Shape shape, T* out, ParallelFor parallel_for);

template <typename T>
void simple_gate_backward(const T* grad_out, const T* x, Shape shape, T* grad_x, ParallelFor parallel_for);

// Content and style share batch and channels. The results have the layout of what they belong to.
template <typename T>
void adain(const T* content, Shape content_shape, const T* style, Shape style_shape, float eps,
           std::int64_t correction, T* out, ParallelFor parallel_for);

template <typename T>
void adain_backward(const T* grad_out, const T* content, Shape content_shape, const T* style, Shape style_shape,
                    float eps, std::int64_t correction, T* grad_content, T* grad_style, ParallelFor parallel_for);

// A stack of one-channel frames, row by row, with the pixels that count. valid == nullptr: all of them.
template <typename T>
struct DepthPair {
  const T* pred;
  const T* target;
  const bool* valid;
  std::int64_t batch;
  std::int64_t height;
  std::int64_t width;
};

template <typename T>
float sobel_l1_loss(DepthPair<T> pair, double l1_weight, double gradient_weight, ParallelFor parallel_for);

// The gradient for pred; the target's is its negative.
template <typename T>
void sobel_l1_loss_backward(float grad_out, DepthPair<T> pair, double l1_weight, double gradient_weight, T* grad_pred,
                            ParallelFor parallel_for);

// Images in NHWC order: element (b, y, x, c) lies at ((b * height + y) * width + x) * channels + c.
struct Image {
  std::int64_t batch;
  std::int64_t height;
  std::int64_t width;
  std::int64_t channels;

  std::int64_t elements() const { return batch * height * width * channels; }
};

// The parameters of one NAFNet block of C channels, contiguous, as depthsr/ops/reference.py's NAFBlockWeights.
struct NafBlockWeights {
  const float *norm1_weight, *norm1_bias;
  const float *conv1_weight, *conv1_bias;
  const float *conv2_weight, *conv2_bias;
  const float *attention_weight, *attention_bias;
  const float *conv3_weight, *conv3_bias;
  const float *norm2_weight, *norm2_bias;
  const float *conv4_weight, *conv4_bias;
  const float *conv5_weight, *conv5_bias;
  const float *beta, *gamma;
};

// Channels: a multiple of 8. `out` may be x.
void naf_block(const float* x, const NafBlockWeights& weights, float eps, Image image, float* out,
               ParallelFor parallel_for);
void naf_block(const BFloat16* x, const NafBlockWeights& weights, float eps, Image image, BFloat16* out,
               ParallelFor parallel_for);

// Gradients of NafBlockWeights, each with the size of its parameter.
struct NafBlockGradients {
  float *norm1_weight, *norm1_bias;
  float *conv1_weight, *conv1_bias;
  float *conv2_weight, *conv2_bias;
  float *attention_weight, *attention_bias;
  float *conv3_weight, *conv3_bias;
  float *norm2_weight, *norm2_bias;
  float *conv4_weight, *conv4_bias;
  float *conv5_weight, *conv5_bias;
  float *beta, *gamma;
};

// Needs nothing from the forward pass but its input: the rest is computed again. `grad_x` may be neither x nor grad_out.
void naf_block_backward(const float* grad_out, const float* x, const NafBlockWeights& weights, float eps, Image image,
                        float* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for);
void naf_block_backward(const BFloat16* grad_out, const BFloat16* x, const NafBlockWeights& weights, float eps,
                        Image image, BFloat16* grad_x, const NafBlockGradients& gradients, ParallelFor parallel_for);

// Maps of one channel, of a valid mask each. height, width >= 1.
void fill_holes(const float* x, const bool* valid, std::int64_t batch, std::int64_t height, std::int64_t width, float* out,
                ParallelFor parallel_for);

// Sizes from coarse to fine, none but the batch 0.
struct Upsampling {
  std::int64_t batch;
  std::int64_t coarse_height, coarse_width;
  std::int64_t height, width;
  bool channels_last;  // of the guide, where there is one
};

// x and valid: one value a coarse pixel. out: 9 × height × width per sample.
void surrounding_measurements(const float* x, const bool* valid, Upsampling shape, float* out,
                              ParallelFor parallel_for);

// The guide has 3 × height × width per sample, or height × width × 3 when channels_last; the coarse guide
// 3 × coarse_height × coarse_width; x and confidence one value a coarse pixel.
void joint_bilateral_upsample(const float* x, const float* confidence, const float* guide, const float* coarse_guide,
                              Upsampling shape, float* out, ParallelFor parallel_for);

struct LineFit {
  std::int64_t window, rounds;  // window: odd
  float frame_share, trust_in_bound, least_variance;
};

// Of ops.fit_lines. All maps batch × height × width, height and width >= 1.
void fit_lines(const float* relative, const float* inverse, const float* deviation, const bool* open_end,
               std::int64_t batch, std::int64_t height, std::int64_t width, const LineFit& fit, float* scale,
               float* offset, ParallelFor parallel_for);

struct Mixture {
  std::int64_t batch, candidates, height, width;  // of the result
  std::int64_t half_height, half_width;           // of the network's maps: at least half of that, rounded up
  bool channels_last;                             // of the network's maps
};

// A pixel of half the resolution has 4 · candidates logits (of the first candidate for its four pixels, of the second,
// ...), 4 corrections and 4 errors, side by side or in planes; candidates and ambiguity are planes of height × width, as both results are.
void mix_candidates(const float* logits, const float* correction, const float* error, const float* candidates,
                    const float* ambiguity, Mixture shape, float* depth, float* expected, ParallelFor parallel_for);

struct Frames {
  std::int64_t batch, channels, height, width;
  bool guide_channels_last;
};

// x and out: batch × channels × height × width. The guide has 3 × height × width per sample, or height × width × 3.
void bilateral_sum(const float* x, const float* guide, Frames shape, float* out, ParallelFor parallel_for);

// What a result misses sparse points by, one a cell of a grid over the frame: height × width cells and `reach` empty ones
// around them. An empty cell has residual 0 and a log_m that is near no other.
struct Residuals {
  std::int64_t height, width, reach;
  const float* residual;
  const float* log_m;
  float sigma_down, sigma_across;  // in cells
  float sigma_log, prior_weight;
};

// Specified by spread_residuals of depthsr/anchoring.py. log_m and out: height × width.
void spread_residuals(const float* log_m, std::int64_t height, std::int64_t width, const Residuals& residuals, bool own,
                      float* out, ParallelFor parallel_for);

}  // namespace depthsr
