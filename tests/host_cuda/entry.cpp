// csrc/cuda on the CPU, as C functions for ctypes (tests/ops/test_cuda_on_host.py). Scratch memory begins as NaN.
#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "../../csrc/cuda/launch.h"
#include "depthsr/cuda_kernels.h"

namespace {

using depthsr::BFloat16;
using depthsr::Half;

// Calls function(T{}) for the storage type of this number: 0 float32, 1 float16, 2 bfloat16.
template <typename Function>
void with_storage_type(int number, Function function) {
  if (number == 0) function(float{});
  if (number == 1) function(Half{});
  if (number == 2) function(BFloat16{});
}

template <typename T>
std::vector<T> poisoned(std::int64_t count) {
  return std::vector<T>(count, static_cast<T>(NAN));
}

}  // namespace

extern "C" {

void run_backwards(bool backwards) { host_cuda::backwards = backwards; }

// Launches a grid with so many rows of blocks, and copies what is thrown into `message`, of 256 bytes; returns the error
// that the runtime has left then.
int launch_rows(unsigned rows, char* message) {
  void (*kernel)() = [] {};
  try {
    depthsr::cuda::launch(kernel, dim3{1, rows, 1}, dim3{1, 1, 1}, nullptr);
  } catch (const std::runtime_error& error) {
    std::strncpy(message, error.what(), 255);
  }
  return cudaGetLastError();
}

void gated_depthwise(int type, const void* x, const float* weight, const float* bias, int batch, int height, int width,
                     int channels, void* out, float* mean) {
  const depthsr::cuda::Frames frames{batch, height, width, channels};
  auto scratch = poisoned<float>(depthsr::cuda::gated_depthwise_scratch(frames));
  with_storage_type(type, [&](auto zero) {
    using T = decltype(zero);
    depthsr::cuda::gated_depthwise(static_cast<const T*>(x), weight, bias, frames, scratch.data(), static_cast<T*>(out),
                                   mean, nullptr);
  });
}

void gated_depthwise_backward(int type, const void* grad_out, const float* grad_mean, const void* x,
                              const float* weight, const float* bias, int batch, int height, int width, int channels,
                              void* grad_x, float* grad_weight, float* grad_bias) {
  const depthsr::cuda::Frames frames{batch, height, width, channels};
  with_storage_type(type, [&](auto zero) {
    using T = decltype(zero);
    auto scratch = poisoned<float>(depthsr::cuda::gated_depthwise_backward_scratch(frames, sizeof(T)));
    depthsr::cuda::gated_depthwise_backward(static_cast<const T*>(grad_out), grad_mean, static_cast<const T*>(x),
                                            weight, bias, frames, scratch.data(), static_cast<T*>(grad_x), grad_weight,
                                            grad_bias, nullptr);
  });
}

void adain_statistics(int type, const void* content, std::int64_t content_pixels, bool content_channels_last,
                      const void* style, std::int64_t style_pixels, bool style_channels_last, std::int64_t batch,
                      std::int64_t channels, std::int64_t correction, float* content_mean, float* content_variance,
                      float* style_mean, float* style_variance) {
  const depthsr::Shape content_shape{batch, channels, content_pixels, content_channels_last};
  const depthsr::Shape style_shape{batch, channels, style_pixels, style_channels_last};
  auto scratch = poisoned<float>(depthsr::cuda::adain_statistics_scratch(content_shape, style_shape));
  with_storage_type(type, [&](auto zero) {
    using T = decltype(zero);
    depthsr::cuda::adain_statistics(static_cast<const T*>(content), content_shape, static_cast<const T*>(style),
                                    style_shape, correction, scratch.data(), {content_mean, content_variance},
                                    {style_mean, style_variance}, nullptr);
  });
}

// slopes == nullptr: the loss alone.
void sobel_l1_loss(int type, const void* pred, const void* target, const bool* valid, std::int64_t batch,
                   std::int64_t height, std::int64_t width, double l1_weight, double gradient_weight, float* loss,
                   std::uint8_t* slopes, float* scales) {
  auto scratch = poisoned<double>(depthsr::cuda::sobel_l1_loss_scratch(batch, height, width));
  with_storage_type(type, [&](auto zero) {
    using T = decltype(zero);
    const depthsr::DepthPair<T> pair{static_cast<const T*>(pred), static_cast<const T*>(target), valid, batch, height,
                                     width};
    depthsr::cuda::sobel_l1_loss(pair, l1_weight, gradient_weight, scratch.data(), loss, slopes, scales, nullptr);
  });
}

void sobel_l1_loss_gradient(int type, const float* grad_out, const std::uint8_t* slopes, const float* scales,
                            std::int64_t pixels, void* grad_pred) {
  with_storage_type(type, [&](auto zero) {
    using T = decltype(zero);
    depthsr::cuda::sobel_l1_loss_gradient(grad_out, slopes, scales, pixels, static_cast<T*>(grad_pred), nullptr);
  });
}
}
