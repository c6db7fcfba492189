// Between torch's tensors and the kernels' pointers: what the CPU's and the GPU's bindings share.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "depthsr/kernels.h"

namespace depthsr::torch_tensors {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Calls function(T{}) with the storage type T of `dtype`.
template <typename Function>
void with_storage_type(ScalarType dtype, Function function) {
  switch (dtype) {
    case ScalarType::Float: return function(float{});
    case ScalarType::Half: return function(depthsr::Half{});
    case ScalarType::BFloat16: return function(depthsr::BFloat16{});
    default: STD_TORCH_CHECK(false, "depthsr: the kernels take float32, float16 and bfloat16 tensors");
  }
}

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* mutable_data(Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

inline void check_image(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 4, "depthsr: ", name, " must be B×C×H×W, but has ", tensor.dim(), " dimensions");
}

inline void check_same(const Tensor& a, const Tensor& b, const char* names) {
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type(), "depthsr: ", names, " must have the same dtype");
  STD_TORCH_CHECK(a.dim() == b.dim(), "depthsr: ", names, " must have the same number of dimensions");
}

inline void check_same_shape(const Tensor& a, const Tensor& b, const char* names) {
  check_same(a, b, names);
  for (std::int64_t dim = 0; dim < a.dim(); ++dim)
    STD_TORCH_CHECK(a.size(dim) == b.size(dim), "depthsr: ", names, " must have the same shape");
}

// As Tensor.is_contiguous(memory_format=torch.channels_last), which the stable ABI does not have.
inline bool is_channels_last(const Tensor& tensor) {
  std::int64_t expected = 1;
  for (int dim : {1, 3, 2, 0}) {
    if (tensor.size(dim) == 1) continue;
    if (tensor.stride(dim) != expected) return false;
    expected *= tensor.size(dim);
  }
  return true;
}

// The layout a kernel works in; registration.py's fakes promise the same. Anything else is copied to contiguous.
inline MemoryFormat layout_of(const Tensor& tensor) {
  return !tensor.is_contiguous() && is_channels_last(tensor) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

inline Tensor dense(const Tensor& tensor, MemoryFormat layout) { return torch::stable::contiguous(tensor, layout); }

inline Tensor empty(torch::headeronly::IntHeaderOnlyArrayRef sizes, const Tensor& like, MemoryFormat layout) {
  return torch::stable::empty(sizes, like.scalar_type(), std::nullopt, like.device(), std::nullopt, layout);
}

inline depthsr::Shape shape_of(const Tensor& tensor, MemoryFormat layout) {
  return {tensor.size(0), tensor.size(1), tensor.size(2) * tensor.size(3), layout == MemoryFormat::ChannelsLast};
}

// Contiguous copies of what is not contiguous, kept alive beside the pointers into them.
struct Pair {
  Tensor pred, target;
  std::optional<Tensor> valid;

  Pair(const Tensor& pred_any, const Tensor& target_any, const std::optional<Tensor>& valid_any)
      : pred(torch::stable::contiguous(pred_any)), target(torch::stable::contiguous(target_any)) {
    check_image(pred, "pred");
    STD_TORCH_CHECK(pred.size(1) == 1, "depthsr: pred must have one channel");
    check_same_shape(pred, target, "pred and target");
    if (!valid_any) return;
    valid = torch::stable::contiguous(*valid_any);
    STD_TORCH_CHECK(valid->scalar_type() == ScalarType::Bool, "depthsr: valid must be bool");
    STD_TORCH_CHECK(valid->numel() == pred.numel(), "depthsr: valid must have pred's shape");
  }

  template <typename T>
  depthsr::DepthPair<T> pointers() const {
    return {data<T>(pred), data<T>(target), valid ? data<bool>(*valid) : nullptr, pred.size(0), pred.size(2),
            pred.size(3)};
  }
};

}  // namespace depthsr::torch_tensors
