// The CUDA kernels' API: raw pointers to device memory, sizes and a stream; nothing of torch.
//
// Specified by depthsr/ops/reference.py, as kernels.h. Work is queued on `stream`, a cudaStream_t, and not waited for.
// Output buffers and scratch memory may hold anything before. No atomics: results are the same every time. Throws
// std::runtime_error when CUDA refuses a launch. Tested on the CPU (tests/host_cuda) and compiled for GPUs; no GPU has
// run these so far.
#pragma once

#include "depthsr/kernels.h"

namespace depthsr::cuda {

// --- gated_depthwise: x is B×H×W×2C, channels last, and the result B×H×W×C ------------------------------------------

struct Frames {
  int batch;
  int height;
  int width;
  int channels;  // C, of the result
};

// How many floats of scratch memory each of the two needs.
std::int64_t gated_depthwise_scratch(Frames frames);
std::int64_t gated_depthwise_backward_scratch(Frames frames, std::size_t element_size);

// weight: 2C×3×3. bias: 2C. mean: B×C, of the result before it is rounded to T.
template <typename T>
void gated_depthwise(const T* x, const float* weight, const float* bias, Frames frames, float* scratch, T* out,
                     float* mean, void* stream);

template <typename T>
void gated_depthwise_backward(const T* grad_out, const float* grad_mean, const T* x, const float* weight,
                              const float* bias, Frames frames, float* scratch, T* grad_x, float* grad_weight,
                              float* grad_bias, void* stream);

// --- adain_statistics -----------------------------------------------------------------------------------------------

// How many floats of scratch memory it needs. Content and style share batch and channels.
std::int64_t adain_statistics_scratch(Shape content, Shape style);

// Each B×C.
struct MeanAndVariance {
  float* mean;
  float* variance;
};

template <typename T>
void adain_statistics(const T* content, Shape content_shape, const T* style, Shape style_shape,
                      std::int64_t correction, float* scratch, MeanAndVariance content_out, MeanAndVariance style_out,
                      void* stream);

// --- sobel_l1_loss --------------------------------------------------------------------------------------------------

// How many doubles of scratch memory it needs for a stack of frames.
std::int64_t sobel_l1_loss_scratch(std::int64_t batch, std::int64_t height, std::int64_t width);

// slopes: a byte a pixel, from which sobel_l1_loss_gradient has the gradient without reading the frames again; or
// nullptr, where no gradient is wanted. scales: the two factors that the gradient needs beside it.
template <typename T>
void sobel_l1_loss(DepthPair<T> pair, double l1_weight, double gradient_weight, double* scratch, float* loss,
                   std::uint8_t* slopes, float* scales, void* stream);

// The gradient for pred; the target's is its negative.
template <typename T>
void sobel_l1_loss_gradient(const float* grad_out, const std::uint8_t* slopes, const float* scales,
                            std::int64_t pixels, T* grad_pred, void* stream);

}  // namespace depthsr::cuda
