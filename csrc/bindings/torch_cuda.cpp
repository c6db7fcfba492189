// depthsr._C_cuda: the CUDA kernels as the CUDA implementation of torch.ops.depthsr.*, on torch's stable ABI. Apart
// from _C_cpu, so that this one's failing to load (another CUDA release, say) leaves the CPU kernels alone.
#include <Python.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include "torch_tensors.h"

namespace {

using namespace depthsr::torch_tensors;

void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

Tensor scratch_for(const Pair& pair) {
  const std::int64_t doubles =
      depthsr::cuda::sobel_l1_loss_scratch(pair.pred.size(0), pair.pred.size(2), pair.pred.size(3));
  return torch::stable::new_empty(pair.pred, {doubles}, ScalarType::Double);
}

Tensor sobel_l1_loss(const Tensor& pred, const Tensor& target, const std::optional<Tensor>& valid, double l1_weight,
                     double gradient_weight) {
  const torch::stable::accelerator::DeviceGuard device(pred.get_device_index());
  const Pair pair(pred, target, valid);
  Tensor scratch = scratch_for(pair);
  Tensor loss = torch::stable::new_empty(pair.pred, {}, ScalarType::Float);
  with_storage_type(pair.pred.scalar_type(), [&](auto zero) {
    depthsr::cuda::sobel_l1_loss(pair.pointers<decltype(zero)>(), l1_weight, gradient_weight,
                                 mutable_data<double>(scratch), mutable_data<float>(loss), current_stream(pred));
  });
  return loss;
}

Tensor sobel_l1_loss_backward(const Tensor& grad, const Tensor& pred, const Tensor& target,
                              const std::optional<Tensor>& valid, double l1_weight, double gradient_weight) {
  STD_TORCH_CHECK(grad.numel() == 1 && grad.scalar_type() == ScalarType::Float && grad.is_cuda(),
                  "depthsr: the loss's grad must be one float32 value on the GPU");
  const torch::stable::accelerator::DeviceGuard device(pred.get_device_index());
  const Pair pair(pred, target, valid);
  Tensor scratch = scratch_for(pair);
  Tensor grad_pred = torch::stable::empty_like(pair.pred);
  with_storage_type(pair.pred.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::cuda::sobel_l1_loss_backward(data<float>(grad), pair.pointers<T>(), l1_weight, gradient_weight,
                                          mutable_data<double>(scratch), mutable_data<T>(grad_pred),
                                          current_stream(pred));
  });
  return grad_pred;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(depthsr, CUDA, library) {
  library.impl("sobel_l1_loss", TORCH_BOX(&sobel_l1_loss));
  library.impl("sobel_l1_loss_backward", TORCH_BOX(&sobel_l1_loss_backward));
}

// Importing the module loads the library above; it has no Python functions of its own.
PyMODINIT_FUNC PyInit__C_cuda(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
