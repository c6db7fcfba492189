// depthsr._C_cpu: the CPU kernels as the CPU implementation of torch.ops.depthsr.*, on torch's stable ABI: one binary
// for every torch from 2.10 on. Schemas, fakes and autograd are in depthsr/ops/registration.py.
#include <Python.h>
#include <torch/csrc/stable/library.h>

#include <array>
#include <exception>
#include <mutex>
#include <tuple>
#include <utility>

#include "torch_tensors.h"

namespace {

using namespace depthsr::torch_tensors;

// torch's loop is behind a C interface: an exception that goes through it arrives without its message.
void on_torch_threads(std::int64_t count, std::int64_t grain, const depthsr::Body& body) {
  std::once_flag first;
  std::exception_ptr failure;
  torch::stable::parallel_for(0, count, grain, [&](std::int64_t begin, std::int64_t end) {
    try {
      body(begin, end);
    } catch (...) {
      std::call_once(first, [&] { failure = std::current_exception(); });
    }
  });
  if (failure) std::rethrow_exception(failure);
}

Tensor in_float(const Tensor& tensor, MemoryFormat layout) {
  return dense(torch::stable::to(tensor, ScalarType::Float), layout);
}

// One value a channel, as contiguous float32.
Tensor per_channel(const Tensor& tensor, const Tensor& x, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == x.size(1), "depthsr: ", name, " must have one value for each of ",
                  x.size(1), " channels");
  return torch::stable::contiguous(torch::stable::to(tensor, ScalarType::Float));
}

// --- layer_norm_2d ------------------------------------------------------------------------------------------------

Tensor layer_norm_2d(const Tensor& x_any, const Tensor& weight_any, const Tensor& bias_any, double eps) {
  check_image(x_any, "x");
  const MemoryFormat layout = layout_of(x_any);
  const Tensor x = dense(x_any, layout);
  const Tensor weight = per_channel(weight_any, x, "weight");
  const Tensor bias = per_channel(bias_any, x, "bias");
  Tensor out = empty(x.sizes(), x, layout);
  with_storage_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::layer_norm_2d(data<T>(x), data<float>(weight), data<float>(bias), static_cast<float>(eps),
                           shape_of(x, layout), mutable_data<T>(out), on_torch_threads);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> layer_norm_2d_backward(const Tensor& grad_any, const Tensor& x_any,
                                                          const Tensor& weight_any, double eps) {
  check_image(x_any, "x");
  check_same_shape(grad_any, x_any, "grad and x");
  const MemoryFormat layout = layout_of(x_any);
  const Tensor x = dense(x_any, layout);
  const Tensor grad = dense(grad_any, layout);
  const Tensor weight = per_channel(weight_any, x, "weight");
  Tensor grad_x = empty(x.sizes(), x, layout);
  Tensor grad_weight = torch::stable::empty_like(weight);
  Tensor grad_bias = torch::stable::empty_like(weight);
  with_storage_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::layer_norm_2d_backward(data<T>(grad), data<T>(x), data<float>(weight), static_cast<float>(eps),
                                    shape_of(x, layout), mutable_data<T>(grad_x), mutable_data<float>(grad_weight),
                                    mutable_data<float>(grad_bias), on_torch_threads);
  });
  return {grad_x, grad_weight, grad_bias};
}

// --- simple_gate --------------------------------------------------------------------------------------------------

Tensor simple_gate(const Tensor& x_any) {
  check_image(x_any, "x");
  STD_TORCH_CHECK(x_any.size(1) % 2 == 0, "depthsr: x must have an even number of channels");
  const MemoryFormat layout = layout_of(x_any);
  const Tensor x = dense(x_any, layout);
  const std::array<std::int64_t, 4> sizes{x.size(0), x.size(1) / 2, x.size(2), x.size(3)};
  Tensor out = empty(sizes, x, layout);
  with_storage_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::simple_gate(data<T>(x), shape_of(out, layout), mutable_data<T>(out), on_torch_threads);
  });
  return out;
}

Tensor simple_gate_backward(const Tensor& grad_any, const Tensor& x_any) {
  check_image(x_any, "x");
  check_same(grad_any, x_any, "grad and x");
  STD_TORCH_CHECK(grad_any.numel() * 2 == x_any.numel(), "depthsr: grad must have half of x's channels");
  const MemoryFormat layout = layout_of(x_any);
  const Tensor x = dense(x_any, layout);
  const Tensor grad = dense(grad_any, layout);
  Tensor grad_x = empty(x.sizes(), x, layout);
  with_storage_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::simple_gate_backward(data<T>(grad), data<T>(x), shape_of(grad, layout), mutable_data<T>(grad_x),
                                  on_torch_threads);
  });
  return grad_x;
}

// --- adain --------------------------------------------------------------------------------------------------------

void check_adain(const Tensor& content, const Tensor& style) {
  check_image(content, "content");
  check_image(style, "style");
  check_same(content, style, "content and style");
  STD_TORCH_CHECK(content.size(0) == style.size(0) && content.size(1) == style.size(1),
                  "depthsr: content and style must have the same batch and channels");
}

Tensor adain(const Tensor& content_any, const Tensor& style_any, double eps, std::int64_t correction) {
  check_adain(content_any, style_any);
  const MemoryFormat layout = layout_of(content_any);
  const MemoryFormat style_layout = layout_of(style_any);
  const Tensor content = dense(content_any, layout);
  const Tensor style = dense(style_any, style_layout);
  Tensor out = empty(content.sizes(), content, layout);
  with_storage_type(content.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::adain(data<T>(content), shape_of(content, layout), data<T>(style), shape_of(style, style_layout),
                   static_cast<float>(eps), correction, mutable_data<T>(out), on_torch_threads);
  });
  return out;
}

std::tuple<Tensor, Tensor> adain_backward(const Tensor& grad_any, const Tensor& content_any, const Tensor& style_any,
                                          double eps, std::int64_t correction) {
  check_adain(content_any, style_any);
  check_same_shape(grad_any, content_any, "grad and content");
  const MemoryFormat layout = layout_of(content_any);
  const MemoryFormat style_layout = layout_of(style_any);
  const Tensor grad = dense(grad_any, layout);
  const Tensor content = dense(content_any, layout);
  const Tensor style = dense(style_any, style_layout);
  Tensor grad_content = empty(content.sizes(), content, layout);
  Tensor grad_style = empty(style.sizes(), style, style_layout);
  with_storage_type(content.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::adain_backward(data<T>(grad), data<T>(content), shape_of(content, layout), data<T>(style),
                            shape_of(style, style_layout), static_cast<float>(eps), correction,
                            mutable_data<T>(grad_content), mutable_data<T>(grad_style), on_torch_threads);
  });
  return {grad_content, grad_style};
}

// --- sobel_l1_loss ------------------------------------------------------------------------------------------------

Tensor sobel_l1_loss(const Tensor& pred, const Tensor& target, const std::optional<Tensor>& valid, double l1_weight,
                     double gradient_weight) {
  const Pair pair(pred, target, valid);
  Tensor loss = torch::stable::new_empty(pair.pred, {}, ScalarType::Float);
  with_storage_type(pair.pred.scalar_type(), [&](auto zero) {
    *mutable_data<float>(loss) =
        depthsr::sobel_l1_loss(pair.pointers<decltype(zero)>(), l1_weight, gradient_weight, on_torch_threads);
  });
  return loss;
}

Tensor sobel_l1_loss_backward(const Tensor& grad, const Tensor& pred, const Tensor& target,
                              const std::optional<Tensor>& valid, double l1_weight, double gradient_weight) {
  STD_TORCH_CHECK(grad.numel() == 1 && grad.scalar_type() == ScalarType::Float,
                  "depthsr: the loss's grad must be one float32 value");
  const Pair pair(pred, target, valid);
  Tensor grad_pred = torch::stable::empty_like(pair.pred);
  with_storage_type(pair.pred.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    depthsr::sobel_l1_loss_backward(*data<float>(grad), pair.pointers<T>(), l1_weight, gradient_weight,
                                    mutable_data<T>(grad_pred), on_torch_threads);
  });
  return grad_pred;
}

// --- fill_holes, surrounding_measurements -------------------------------------------------------------------------

// A map of one channel as contiguous float32, and which of it is valid.
std::pair<Tensor, Tensor> measurement(const Tensor& x, const Tensor& valid) {
  check_image(x, "x");
  check_image(valid, "valid");
  STD_TORCH_CHECK(x.size(1) == 1 && x.size(2) > 0 && x.size(3) > 0, "depthsr: x must have one channel, and pixels");
  STD_TORCH_CHECK(valid.scalar_type() == ScalarType::Bool, "depthsr: valid must be bool");
  for (const int dim : {0, 1, 2, 3})
    STD_TORCH_CHECK(valid.size(dim) == x.size(dim), "depthsr: valid must have x's shape");
  with_storage_type(x.scalar_type(), [](auto) {});
  return {in_float(x, MemoryFormat::Contiguous), dense(valid, MemoryFormat::Contiguous)};
}

Tensor fill_holes(const Tensor& x_any, const Tensor& valid_any) {
  const auto [x, valid] = measurement(x_any, valid_any);
  Tensor out = empty(x.sizes(), x, MemoryFormat::Contiguous);
  depthsr::fill_holes(data<float>(x), data<bool>(valid), x.size(0), x.size(2), x.size(3), mutable_data<float>(out),
                      on_torch_threads);
  return torch::stable::to(out, x_any.scalar_type());
}

Tensor surrounding_measurements(const Tensor& x_any, const Tensor& valid_any, std::int64_t height, std::int64_t width) {
  const auto [x, valid] = measurement(x_any, valid_any);
  STD_TORCH_CHECK(height > 0 && width > 0, "depthsr: height and width must be positive");
  const std::array<std::int64_t, 4> sizes{x.size(0), 9, height, width};
  Tensor out = empty(sizes, x, MemoryFormat::Contiguous);
  depthsr::surrounding_measurements(data<float>(x), data<bool>(valid),
                                    {x.size(0), x.size(2), x.size(3), height, width, false}, mutable_data<float>(out),
                                    on_torch_threads);
  return torch::stable::to(out, x_any.scalar_type());
}

// --- joint_bilateral_upsample -------------------------------------------------------------------------------------

Tensor joint_bilateral_upsample(const Tensor& x_any, const Tensor& confidence_any, const Tensor& guide_any,
                                const Tensor& coarse_guide_any) {
  for (const auto& [tensor, name, channels] : {std::tuple(&x_any, "x", 1),
                                               {&confidence_any, "confidence", 1},
                                               {&guide_any, "guide", 3},
                                               {&coarse_guide_any, "coarse_guide", 3}}) {
    check_image(*tensor, name);
    STD_TORCH_CHECK(tensor->size(0) == x_any.size(0) && tensor->size(1) == channels, "depthsr: ", name, " must have ",
                    channels, " channels and x's batch");
    STD_TORCH_CHECK(tensor->size(2) > 0 && tensor->size(3) > 0, "depthsr: ", name, " must have pixels");
    with_storage_type(tensor->scalar_type(), [](auto) {});
  }
  for (const auto& [tensor, name] : {std::pair(&confidence_any, "confidence"), {&coarse_guide_any, "coarse_guide"}})
    STD_TORCH_CHECK(tensor->size(2) == x_any.size(2) && tensor->size(3) == x_any.size(3), "depthsr: ", name,
                    " must have x's height and width");
  const MemoryFormat layout = layout_of(guide_any);
  const Tensor x = in_float(x_any, MemoryFormat::Contiguous);
  const Tensor confidence = in_float(confidence_any, MemoryFormat::Contiguous);
  const Tensor guide = in_float(guide_any, layout);
  const Tensor coarse_guide = in_float(coarse_guide_any, MemoryFormat::Contiguous);
  const depthsr::Upsampling shape{x.size(0),     x.size(2),     x.size(3),
                                  guide.size(2), guide.size(3), layout == MemoryFormat::ChannelsLast};
  const std::array<std::int64_t, 4> sizes{shape.batch, 1, shape.height, shape.width};
  Tensor out = empty(sizes, x, MemoryFormat::Contiguous);
  depthsr::joint_bilateral_upsample(data<float>(x), data<float>(confidence), data<float>(guide),
                                    data<float>(coarse_guide), shape, mutable_data<float>(out), on_torch_threads);
  return torch::stable::to(out, x_any.scalar_type());
}

// --- bilateral_sum ------------------------------------------------------------------------------------------------

Tensor bilateral_sum(const Tensor& x_any, const Tensor& guide_any) {
  check_image(x_any, "x");
  check_image(guide_any, "guide");
  STD_TORCH_CHECK(guide_any.size(0) == x_any.size(0) && guide_any.size(1) == 3 && guide_any.size(2) == x_any.size(2) &&
                      guide_any.size(3) == x_any.size(3),
                  "depthsr: guide must have 3 channels and x's batch, height and width");
  for (const Tensor* tensor : {&x_any, &guide_any}) with_storage_type(tensor->scalar_type(), [](auto) {});
  const MemoryFormat layout = layout_of(guide_any);
  const Tensor x = in_float(x_any, MemoryFormat::Contiguous), guide = in_float(guide_any, layout);
  Tensor out = empty(x.sizes(), x, MemoryFormat::Contiguous);
  depthsr::bilateral_sum(data<float>(x), data<float>(guide),
                         {x.size(0), x.size(1), x.size(2), x.size(3), layout == MemoryFormat::ChannelsLast},
                         mutable_data<float>(out), on_torch_threads);
  return torch::stable::to(out, x_any.scalar_type());
}

// --- fit_lines ----------------------------------------------------------------------------------------------------

// As in depthsr/ops/reference.py.
constexpr std::int64_t ROUNDS = 4;
constexpr float WHOLE_FRAME = 0.05f, TRUST_IN_BOUND = 0.02f, LEAST_VARIANCE = 1e-6f;

std::tuple<Tensor, Tensor> fit_lines(const Tensor& relative_any, const Tensor& inverse_any, const Tensor& deviation_any,
                                     const Tensor& open_end_any, std::int64_t window) {
  const auto [relative, open_end] = measurement(relative_any, open_end_any);
  const Tensor inverse = measurement(inverse_any, open_end_any).first;
  const Tensor deviation = measurement(deviation_any, open_end_any).first;
  STD_TORCH_CHECK(window > 0 && window % 2 == 1, "depthsr: window must be odd");
  Tensor scale = empty(relative.sizes(), relative, MemoryFormat::Contiguous);
  Tensor offset = empty(relative.sizes(), relative, MemoryFormat::Contiguous);
  depthsr::fit_lines(data<float>(relative), data<float>(inverse), data<float>(deviation), data<bool>(open_end),
                     relative.size(0), relative.size(2), relative.size(3),
                     {window, ROUNDS, WHOLE_FRAME, TRUST_IN_BOUND, LEAST_VARIANCE}, mutable_data<float>(scale),
                     mutable_data<float>(offset), on_torch_threads);
  return {scale, offset};
}

// --- mix_candidates -----------------------------------------------------------------------------------------------

std::tuple<Tensor, Tensor> mix_candidates(const Tensor& logits_any, const Tensor& correction_any,
                                          const Tensor& error_any, const Tensor& candidates_any,
                                          const Tensor& ambiguity_any) {
  const std::int64_t count = candidates_any.dim() == 4 ? candidates_any.size(1) : 0;
  for (const auto& [tensor, name, channels] : {std::tuple(&logits_any, "logits", 4 * count),
                                               {&correction_any, "correction", 4},
                                               {&error_any, "error", 4},
                                               {&candidates_any, "candidates", count},
                                               {&ambiguity_any, "ambiguity", 1}}) {
    check_image(*tensor, name);
    const bool at_half = channels % 4 == 0 && tensor != &candidates_any;
    const Tensor& alike = at_half ? logits_any : candidates_any;
    STD_TORCH_CHECK(tensor->size(0) == candidates_any.size(0) && tensor->size(1) == channels, "depthsr: ", name,
                    " must have ", channels, " channels and the candidates' batch");
    STD_TORCH_CHECK(tensor->size(2) == alike.size(2) && tensor->size(3) == alike.size(3), "depthsr: ", name,
                    " must have the height and width of the ", at_half ? "logits" : "candidates");
    with_storage_type(tensor->scalar_type(), [](auto) {});
  }
  const MemoryFormat layout = layout_of(logits_any);
  const depthsr::Mixture shape{
      .batch = candidates_any.size(0),
      .candidates = count,
      .height = candidates_any.size(2),
      .width = candidates_any.size(3),
      .half_height = logits_any.size(2),
      .half_width = logits_any.size(3),
      .channels_last = layout == MemoryFormat::ChannelsLast,
  };
  STD_TORCH_CHECK(count > 0 && 2 * shape.half_height >= shape.height && 2 * shape.half_width >= shape.width,
                  "depthsr: the logits must have half the candidates' height and width");
  const Tensor logits = in_float(logits_any, layout);
  const Tensor correction = in_float(correction_any, layout);
  const Tensor error = in_float(error_any, layout);
  const Tensor candidates = in_float(candidates_any, MemoryFormat::Contiguous);
  const Tensor ambiguity = in_float(ambiguity_any, MemoryFormat::Contiguous);
  const std::array<std::int64_t, 4> sizes{shape.batch, 1, shape.height, shape.width};
  Tensor depth = empty(sizes, candidates, MemoryFormat::Contiguous);
  Tensor expected = empty(sizes, candidates, MemoryFormat::Contiguous);
  depthsr::mix_candidates(data<float>(logits), data<float>(correction), data<float>(error), data<float>(candidates),
                          data<float>(ambiguity), shape, mutable_data<float>(depth), mutable_data<float>(expected),
                          on_torch_threads);
  return {torch::stable::to(depth, candidates_any.scalar_type()),
          torch::stable::to(expected, candidates_any.scalar_type())};
}

// --- naf_block ----------------------------------------------------------------------------------------------------

constexpr std::size_t NAF_BLOCK_WEIGHTS = sizeof(depthsr::NafBlockWeights) / sizeof(float*);
using BlockTensors = std::array<Tensor, NAF_BLOCK_WEIGHTS>;

depthsr::Image image_of(const Tensor& x) { return {x.size(0), x.size(2), x.size(3), x.size(1)}; }

// The parameters as contiguous float32, once their sizes are found to fit.
BlockTensors block_weights(const Tensor& x, const std::array<const Tensor*, NAF_BLOCK_WEIGHTS>& given) {
  check_image(x, "x");
  const std::int64_t channels = x.size(1);
  STD_TORCH_CHECK(channels % 8 == 0, "depthsr: naf_block's kernels take a multiple of 8 channels, but x has ", channels);
  const std::int64_t square = channels * channels;
  const std::array<std::int64_t, NAF_BLOCK_WEIGHTS> sizes{
      channels, channels, 2 * square, 2 * channels, 18 * channels, 2 * channels, square,   channels, square,
      channels, channels, channels,   2 * square,   2 * channels,  square,       channels, channels, channels};
  BlockTensors weights;
  for (std::size_t i = 0; i < NAF_BLOCK_WEIGHTS; ++i) {
    STD_TORCH_CHECK(given[i]->numel() == sizes[i], "depthsr: weight ", i, " of naf_block must have ", sizes[i],
                    " values, but has ", given[i]->numel());
    weights[i] = torch::stable::contiguous(torch::stable::to(*given[i], ScalarType::Float));
  }
  return weights;
}

template <std::size_t... I>
depthsr::NafBlockWeights pointers(const BlockTensors& weights, std::index_sequence<I...>) {
  return {data<float>(weights[I])...};
}

template <std::size_t... I>
depthsr::NafBlockGradients pointers(BlockTensors& gradients, std::index_sequence<I...>) {
  return {mutable_data<float>(gradients[I])...};
}

// Calls function(zero) with the type that the block computes in and x is to be given in: float16 is widened.
template <typename Function>
void with_block_type(ScalarType dtype, Function function) {
  if (dtype == ScalarType::BFloat16) return function(depthsr::BFloat16{});
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Half,
                  "depthsr: naf_block's kernels take float32, float16 and bfloat16 tensors");
  function(float{});
}

Tensor block_input(const Tensor& x) {
  const Tensor wide = x.scalar_type() == ScalarType::Half ? torch::stable::to(x, ScalarType::Float) : x;
  return dense(wide, MemoryFormat::ChannelsLast);
}

template <std::size_t>
using Weight = const Tensor&;

template <std::size_t>
using Gradient = Tensor;

template <typename Indices>
struct NafBlock;

template <std::size_t... I>
struct NafBlock<std::index_sequence<I...>> {
  static constexpr std::index_sequence<I...> ALL{};

  static Tensor forward(const Tensor& x_any, Weight<I>... weights_any, double eps) {
    const BlockTensors weights = block_weights(x_any, {&weights_any...});
    const Tensor x = block_input(x_any);
    Tensor out = empty(x.sizes(), x, MemoryFormat::ChannelsLast);
    with_block_type(x.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      depthsr::naf_block(data<T>(x), pointers(weights, ALL), static_cast<float>(eps), image_of(x),
                         mutable_data<T>(out), on_torch_threads);
    });
    return torch::stable::to(out, x_any.scalar_type());
  }

  static std::tuple<Tensor, Gradient<I>...> backward(const Tensor& grad_any, const Tensor& x_any,
                                                     Weight<I>... weights_any, double eps) {
    const BlockTensors weights = block_weights(x_any, {&weights_any...});
    check_same_shape(grad_any, x_any, "grad and x");
    const Tensor x = block_input(x_any);
    const Tensor grad = block_input(grad_any);
    Tensor grad_x = empty(x.sizes(), x, MemoryFormat::ChannelsLast);
    BlockTensors gradients{torch::stable::empty_like(weights[I])...};
    with_block_type(x.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      depthsr::naf_block_backward(data<T>(grad), data<T>(x), pointers(weights, ALL), static_cast<float>(eps),
                                  image_of(x), mutable_data<T>(grad_x), pointers(gradients, ALL), on_torch_threads);
    });
    return {torch::stable::to(grad_x, x_any.scalar_type()), gradients[I]...};
  }
};

using NafBlockOp = NafBlock<std::make_index_sequence<NAF_BLOCK_WEIGHTS>>;

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(depthsr, CPU, library) {
  library.impl("layer_norm_2d", TORCH_BOX(&layer_norm_2d));
  library.impl("layer_norm_2d_backward", TORCH_BOX(&layer_norm_2d_backward));
  library.impl("simple_gate", TORCH_BOX(&simple_gate));
  library.impl("simple_gate_backward", TORCH_BOX(&simple_gate_backward));
  library.impl("adain", TORCH_BOX(&adain));
  library.impl("adain_backward", TORCH_BOX(&adain_backward));
  library.impl("sobel_l1_loss", TORCH_BOX(&sobel_l1_loss));
  library.impl("sobel_l1_loss_backward", TORCH_BOX(&sobel_l1_loss_backward));
  library.impl("naf_block", TORCH_BOX(&NafBlockOp::forward));
  library.impl("naf_block_backward", TORCH_BOX(&NafBlockOp::backward));
  library.impl("fill_holes", TORCH_BOX(&fill_holes));
  library.impl("surrounding_measurements", TORCH_BOX(&surrounding_measurements));
  library.impl("joint_bilateral_upsample", TORCH_BOX(&joint_bilateral_upsample));
  library.impl("mix_candidates", TORCH_BOX(&mix_candidates));
  library.impl("fit_lines", TORCH_BOX(&fit_lines));
  library.impl("bilateral_sum", TORCH_BOX(&bilateral_sum));
}

// Importing the module loads the library above; it has no Python functions of its own.
PyMODINIT_FUNC PyInit__C_cpu(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C_cpu", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
