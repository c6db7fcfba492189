// depthsr._C_cuda: the CUDA kernels as the CUDA implementation of torch.ops.depthsr.*, on torch's stable ABI. Apart
// from _C_cpu, so that this one's failing to load (another CUDA release, say) leaves the CPU kernels alone.
#include <Python.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <array>
#include <limits>
#include <tuple>

#include "depthsr/cuda_kernels.h"
#include "torch_tensors.h"

namespace {

using namespace depthsr::torch_tensors;
using torch::stable::accelerator::DeviceGuard;

void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

void check_same_device(const Tensor& a, const Tensor& b, const char* names) {
  STD_TORCH_CHECK(a.is_cuda() && b.is_cuda() && a.get_device_index() == b.get_device_index(), "depthsr: ", names,
                  " must be on the same GPU");
}

Tensor scratch_of(const Tensor& like, std::int64_t count, ScalarType dtype) {
  return torch::stable::new_empty(like, {count}, dtype);
}

// --- gated_depthwise ----------------------------------------------------------------------------------------------

// What forward and backward are given, in the form that the kernels take: x channels last, the filters float32.
struct GatedDepthwise {
  Tensor x, weight, bias;
  depthsr::cuda::Frames frames;

  GatedDepthwise(const Tensor& x_any, const Tensor& weight_any, const Tensor& bias_any) {
    check_image(x_any, "x");
    const std::int64_t channels = x_any.size(1);
    STD_TORCH_CHECK(channels % 2 == 0, "depthsr: x must have an even number of channels, but has ", channels);
    STD_TORCH_CHECK(weight_any.numel() == 9 * channels, "depthsr: weight must be 2C×1×3×3, with 2C = ", channels);
    STD_TORCH_CHECK(bias_any.numel() == channels, "depthsr: bias must have ", channels, " values");
    check_same_device(x_any, weight_any, "x and weight");
    check_same_device(x_any, bias_any, "x and bias");
    for (int dim = 0; dim < 4; ++dim)
      STD_TORCH_CHECK(x_any.size(dim) <= std::numeric_limits<int>::max() / 16, "depthsr: x is too large");
    x = dense(x_any, MemoryFormat::ChannelsLast);
    weight = torch::stable::contiguous(torch::stable::to(weight_any, ScalarType::Float));
    bias = torch::stable::contiguous(torch::stable::to(bias_any, ScalarType::Float));
    frames = {static_cast<int>(x.size(0)), static_cast<int>(x.size(2)), static_cast<int>(x.size(3)),
              static_cast<int>(channels / 2)};
  }
};

std::tuple<Tensor, Tensor> gated_depthwise(const Tensor& x_any, const Tensor& weight, const Tensor& bias) {
  const GatedDepthwise given(x_any, weight, bias);
  const DeviceGuard device(x_any.get_device_index());
  const auto& frames = given.frames;
  const std::array<std::int64_t, 4> sizes{frames.batch, frames.channels, frames.height, frames.width};
  Tensor out = empty(sizes, given.x, MemoryFormat::ChannelsLast);
  Tensor mean = torch::stable::new_empty(given.x, {frames.batch, frames.channels}, ScalarType::Float);
  Tensor scratch = scratch_of(given.x, depthsr::cuda::gated_depthwise_scratch(frames), ScalarType::Float);
  with_storage_type(given.x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::cuda::gated_depthwise(data<T>(given.x), data<float>(given.weight), data<float>(given.bias), frames,
                                   mutable_data<float>(scratch), mutable_data<T>(out), mutable_data<float>(mean),
                                   current_stream(given.x));
  });
  return {out, mean};
}

std::tuple<Tensor, Tensor, Tensor> gated_depthwise_backward(const Tensor& grad_any, const Tensor& grad_mean_any,
                                                            const Tensor& x_any, const Tensor& weight,
                                                            const Tensor& bias) {
  const GatedDepthwise given(x_any, weight, bias);
  const auto& frames = given.frames;
  check_image(grad_any, "grad");
  check_same(grad_any, x_any, "grad and x");
  check_same_device(grad_any, x_any, "grad and x");
  check_same_device(grad_mean_any, x_any, "the mean's grad and x");
  STD_TORCH_CHECK(grad_any.numel() * 2 == x_any.numel(), "depthsr: grad must have half of x's channels");
  STD_TORCH_CHECK(grad_mean_any.numel() == std::int64_t{frames.batch} * frames.channels,
                  "depthsr: the mean's grad must be B×C");
  const DeviceGuard device(x_any.get_device_index());
  const Tensor grad = dense(grad_any, MemoryFormat::ChannelsLast);
  const Tensor grad_mean = torch::stable::contiguous(torch::stable::to(grad_mean_any, ScalarType::Float));
  Tensor grad_x = empty(given.x.sizes(), given.x, MemoryFormat::ChannelsLast);
  Tensor grad_weight = torch::stable::empty_like(given.weight);
  Tensor grad_bias = torch::stable::empty_like(given.bias);
  with_storage_type(given.x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    Tensor scratch =
        scratch_of(given.x, depthsr::cuda::gated_depthwise_backward_scratch(frames, sizeof(T)), ScalarType::Float);
    depthsr::cuda::gated_depthwise_backward(
        data<T>(grad), data<float>(grad_mean), data<T>(given.x), data<float>(given.weight), data<float>(given.bias),
        frames, mutable_data<float>(scratch), mutable_data<T>(grad_x), mutable_data<float>(grad_weight),
        mutable_data<float>(grad_bias), current_stream(given.x));
  });
  return {grad_x, grad_weight, grad_bias};
}

// --- adain_statistics ---------------------------------------------------------------------------------------------

std::tuple<Tensor, Tensor, Tensor, Tensor> adain_statistics(const Tensor& content_any, const Tensor& style_any,
                                                            std::int64_t correction) {
  check_image(content_any, "content");
  check_image(style_any, "style");
  check_same(content_any, style_any, "content and style");
  check_same_device(content_any, style_any, "content and style");
  STD_TORCH_CHECK(content_any.size(0) == style_any.size(0) && content_any.size(1) == style_any.size(1),
                  "depthsr: content and style must have the same batch and channels");
  const DeviceGuard device(content_any.get_device_index());
  const MemoryFormat content_layout = layout_of(content_any);
  const MemoryFormat style_layout = layout_of(style_any);
  const Tensor content = dense(content_any, content_layout);
  const Tensor style = dense(style_any, style_layout);
  const depthsr::Shape content_shape = shape_of(content, content_layout);
  const depthsr::Shape style_shape = shape_of(style, style_layout);
  const auto per_plane = [&] {
    return torch::stable::new_empty(content, {content_shape.batch, content_shape.channels}, ScalarType::Float);
  };
  Tensor content_mean = per_plane(), content_variance = per_plane();
  Tensor style_mean = per_plane(), style_variance = per_plane();
  Tensor scratch =
      scratch_of(content, depthsr::cuda::adain_statistics_scratch(content_shape, style_shape), ScalarType::Float);
  with_storage_type(content.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::cuda::adain_statistics(data<T>(content), content_shape, data<T>(style), style_shape, correction,
                                    mutable_data<float>(scratch),
                                    {mutable_data<float>(content_mean), mutable_data<float>(content_variance)},
                                    {mutable_data<float>(style_mean), mutable_data<float>(style_variance)},
                                    current_stream(content));
  });
  return {content_mean, content_variance, style_mean, style_variance};
}

// --- sobel_l1_loss ------------------------------------------------------------------------------------------------

// (loss, slopes, scales): slopes is empty unless the gradient is wanted.
std::tuple<Tensor, Tensor, Tensor> loss_of(const Pair& pair, double l1_weight, double gradient_weight, bool wanted) {
  const Tensor& pred = pair.pred;
  check_same_device(pred, pair.target, "pred and target");
  if (pair.valid) check_same_device(pred, *pair.valid, "pred and valid");
  const std::int64_t doubles = depthsr::cuda::sobel_l1_loss_scratch(pred.size(0), pred.size(2), pred.size(3));
  Tensor scratch = scratch_of(pred, doubles, ScalarType::Double);
  Tensor loss = torch::stable::new_empty(pred, {}, ScalarType::Float);
  Tensor slopes = torch::stable::new_empty(pred, {wanted ? pred.numel() : 0}, ScalarType::Byte);
  Tensor scales = torch::stable::new_empty(pred, {2}, ScalarType::Float);
  with_storage_type(pred.scalar_type(), [&](auto zero) {
    depthsr::cuda::sobel_l1_loss(pair.pointers<decltype(zero)>(), l1_weight, gradient_weight,
                                 mutable_data<double>(scratch), mutable_data<float>(loss),
                                 wanted ? mutable_data<std::uint8_t>(slopes) : nullptr, mutable_data<float>(scales),
                                 current_stream(pred));
  });
  return {loss, slopes, scales};
}

Tensor gradient_of(const Tensor& grad, const Tensor& slopes, const Tensor& scales, const Tensor& pred) {
  STD_TORCH_CHECK(grad.numel() == 1 && grad.scalar_type() == ScalarType::Float,
                  "depthsr: the loss's grad must be one float32 value");
  check_same_device(grad, pred, "the loss's grad and pred");
  Tensor grad_pred = torch::stable::new_empty(pred, pred.sizes(), pred.scalar_type());
  with_storage_type(pred.scalar_type(), [&](auto zero) {
    depthsr::cuda::sobel_l1_loss_gradient(data<float>(grad), data<std::uint8_t>(slopes), data<float>(scales),
                                          pred.numel(), mutable_data<decltype(zero)>(grad_pred), current_stream(pred));
  });
  return grad_pred;
}

Tensor sobel_l1_loss(const Tensor& pred, const Tensor& target, const std::optional<Tensor>& valid, double l1_weight,
                     double gradient_weight) {
  const DeviceGuard device(pred.get_device_index());
  return std::get<0>(loss_of(Pair(pred, target, valid), l1_weight, gradient_weight, false));
}

Tensor sobel_l1_loss_backward(const Tensor& grad, const Tensor& pred, const Tensor& target,
                              const std::optional<Tensor>& valid, double l1_weight, double gradient_weight) {
  const DeviceGuard device(pred.get_device_index());
  const Pair pair(pred, target, valid);
  const auto [loss, slopes, scales] = loss_of(pair, l1_weight, gradient_weight, true);
  return gradient_of(grad, slopes, scales, pair.pred);
}

std::tuple<Tensor, Tensor, Tensor> sobel_l1_loss_with_slopes(const Tensor& pred, const Tensor& target,
                                                             const std::optional<Tensor>& valid, double l1_weight,
                                                             double gradient_weight) {
  const DeviceGuard device(pred.get_device_index());
  return loss_of(Pair(pred, target, valid), l1_weight, gradient_weight, true);
}

// pred gives shape and type; its values are not read.
Tensor sobel_l1_loss_from_slopes(const Tensor& grad, const Tensor& slopes, const Tensor& scales, const Tensor& pred) {
  STD_TORCH_CHECK(slopes.numel() == pred.numel() && slopes.scalar_type() == ScalarType::Byte,
                  "depthsr: slopes must be a byte for each of pred's pixels");
  const DeviceGuard device(pred.get_device_index());
  return gradient_of(grad, slopes, scales, pred);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(depthsr, CUDA, library) {
  library.impl("gated_depthwise", TORCH_BOX(&gated_depthwise));
  library.impl("gated_depthwise_backward", TORCH_BOX(&gated_depthwise_backward));
  library.impl("adain_statistics", TORCH_BOX(&adain_statistics));
  library.impl("sobel_l1_loss", TORCH_BOX(&sobel_l1_loss));
  library.impl("sobel_l1_loss_backward", TORCH_BOX(&sobel_l1_loss_backward));
  library.impl("sobel_l1_loss_with_slopes", TORCH_BOX(&sobel_l1_loss_with_slopes));
  library.impl("sobel_l1_loss_from_slopes", TORCH_BOX(&sobel_l1_loss_from_slopes));
}

// Importing the module loads the library above; it has no Python functions of its own.
PyMODINIT_FUNC PyInit__C_cuda(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
