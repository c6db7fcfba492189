#include "ops.h"

#include "depthsr/network.h"
#include "depthsr/prior.h"

namespace {

using namespace depthsr;

// Calls function(T{}) with the storage type of the case's tensors.
template <typename Function>
void with_storage_type(const Case& given, const char* key, Function function) {
  switch (given.input(key).type()) {
    case 'f': return function(float{});
    case 'h': return function(Half{});
    case 'b': return function(BFloat16{});
    default: throw std::runtime_error(given.name + ": no kernel for this type");
  }
}

Shape shape_of(const Case& given, const std::string& prefix = "") {
  return {given.integer("batch"), given.integer("channels"), given.integer(prefix + "pixels"),
          given.integer("channels_last") != 0};
}

void layer_norm_2d(Run& run) {
  with_storage_type(run.given, "x", [&](auto zero) {
    using T = decltype(zero);
    const Case& given = run.given;
    const float eps = static_cast<float>(given.real("eps"));
    const T* x = given.data<T>("x");
    const float* weight = given.data<float>("weight");
    depthsr::layer_norm_2d(x, weight, given.data<float>("bias"), eps, shape_of(given), run.output<T>("out"),
                           run.parallel_for);
    layer_norm_2d_backward(given.data<T>("grad_out"), x, weight, eps, shape_of(given), run.output<T>("grad_x"),
                           run.output<float>("grad_weight"), run.output<float>("grad_bias"), run.parallel_for);
  });
}

void simple_gate(Run& run) {
  with_storage_type(run.given, "x", [&](auto zero) {
    using T = decltype(zero);
    const Case& given = run.given;
    depthsr::simple_gate(given.data<T>("x"), shape_of(given), run.output<T>("out"), run.parallel_for);
    simple_gate_backward(given.data<T>("grad_out"), given.data<T>("x"), shape_of(given), run.output<T>("grad_x"),
                         run.parallel_for);
  });
}

void adain(Run& run) {
  with_storage_type(run.given, "content", [&](auto zero) {
    using T = decltype(zero);
    const Case& given = run.given;
    const float eps = static_cast<float>(given.real("eps"));
    const std::int64_t correction = given.integer("correction");
    const T *content = given.data<T>("content"), *style = given.data<T>("style");
    const Shape shape = shape_of(given), style_shape = shape_of(given, "style_");
    depthsr::adain(content, shape, style, style_shape, eps, correction, run.output<T>("out"), run.parallel_for);
    adain_backward(given.data<T>("grad_out"), content, shape, style, style_shape, eps, correction,
                   run.output<T>("grad_content"), run.output<T>("grad_style"), run.parallel_for);
  });
}

void sobel_l1_loss(Run& run) {
  with_storage_type(run.given, "pred", [&](auto zero) {
    using T = decltype(zero);
    const Case& given = run.given;
    const DepthPair<T> pair{given.data<T>("pred"),     given.data<T>("target"),
                            given.has("valid") ? given.data<bool>("valid") : nullptr,
                            given.integer("batch"),    given.integer("height"),
                            given.integer("width")};
    const double l1_weight = given.real("l1_weight"), gradient_weight = given.real("gradient_weight");
    *run.output<float>("loss") = depthsr::sobel_l1_loss(pair, l1_weight, gradient_weight, run.parallel_for);
    sobel_l1_loss_backward(static_cast<float>(given.real("grad_out")), pair, l1_weight, gradient_weight,
                           run.output<T>("grad_pred"), run.parallel_for);
  });
}

Image image_of(const Case& given) {
  return {given.integer("batch"), given.integer("height"), given.integer("width"), given.integer("channels")};
}

// NafBlockWeights or NafBlockGradients, each parameter from get(its name).
template <typename Parameters, typename Get>
Parameters by_name(Get get) {
  return {
      .norm1_weight = get("norm1_weight"),
      .norm1_bias = get("norm1_bias"),
      .conv1_weight = get("conv1_weight"),
      .conv1_bias = get("conv1_bias"),
      .conv2_weight = get("conv2_weight"),
      .conv2_bias = get("conv2_bias"),
      .attention_weight = get("attention_weight"),
      .attention_bias = get("attention_bias"),
      .conv3_weight = get("conv3_weight"),
      .conv3_bias = get("conv3_bias"),
      .norm2_weight = get("norm2_weight"),
      .norm2_bias = get("norm2_bias"),
      .conv4_weight = get("conv4_weight"),
      .conv4_bias = get("conv4_bias"),
      .conv5_weight = get("conv5_weight"),
      .conv5_bias = get("conv5_bias"),
      .beta = get("beta"),
      .gamma = get("gamma"),
  };
}

NafBlockWeights naf_block_weights(const Case& given) {
  return by_name<NafBlockWeights>([&](const char* key) { return given.data<float>(key); });
}

// "out" from x into memory of its own, "in_place" onto x.
template <typename T>
void naf_block_of_type(Run& run) {
  const Case& given = run.given;
  const auto compute = [&] {
    if constexpr (std::is_same_v<T, float>) return run.kernels.naf_block;
    else return run.kernels.naf_block_bf16;
  }();
  const NafBlockWeights weights = naf_block_weights(given);
  const float eps = static_cast<float>(given.real("eps"));
  compute(given.data<T>("x"), weights, eps, image_of(given), run.output<T>("out"), run.parallel_for);
  T* in_place = run.output<T>("in_place");
  const std::int64_t bytes = given.input("x").count() * sizeof(T);
  if (bytes > 0) std::memcpy(in_place, given.data<T>("x"), bytes);
  compute(in_place, weights, eps, image_of(given), in_place, run.parallel_for);
}

void naf_block(Run& run) {
  if (run.given.input("x").type() == 'f') naf_block_of_type<float>(run);
  else naf_block_of_type<BFloat16>(run);
}

// Gradients of all parameters, under the parameters' names, and of x.
template <typename T>
void naf_block_backward_of_type(Run& run) {
  const Case& given = run.given;
  const auto gradients = by_name<NafBlockGradients>([&](const char* key) { return run.output<float>(key); });
  const auto compute = [&] {
    if constexpr (std::is_same_v<T, float>) return run.kernels.naf_block_backward;
    else return run.kernels.naf_block_backward_bf16;
  }();
  compute(given.data<T>("grad_out"), given.data<T>("x"), naf_block_weights(given),
          static_cast<float>(given.real("eps")), image_of(given), run.output<T>("grad_x"), gradients, run.parallel_for);
}

void naf_block_backward(Run& run) {
  if (run.given.input("x").type() == 'f') naf_block_backward_of_type<float>(run);
  else naf_block_backward_of_type<BFloat16>(run);
}

Frame frame_of(const Case& given) {
  return {
      .rgb_HW3 = given.data<float>("rgb"),
      .height = given.integer("height"),
      .width = given.integer("width"),
      .depth_m = given.data<float>("depth_m"),
      .valid = given.data<bool>("valid"),
      .low_height = given.integer("low_height"),
      .low_width = given.integer("low_width"),
      .quantisation_step_m = static_cast<float>(given.real("quantisation_step_m")),
      .max_depth_m = static_cast<float>(given.real("max_depth_m")),
      .filling_m = given.has("filling_m") ? given.data<float>("filling_m") : nullptr,
  };
}

void fill_holes(Run& run) {
  const Case& given = run.given;
  depthsr::fill_holes(given.data<float>("x"), given.data<bool>("valid"), given.integer("batch"),
                      given.integer("height"), given.integer("width"), run.output<float>("out"), run.parallel_for);
}

void fit_lines(Run& run) {
  const Case& given = run.given;
  depthsr::fit_lines(given.data<float>("relative"), given.data<float>("inverse"), given.data<float>("deviation"),
                     given.data<bool>("open_end"), given.integer("batch"), given.integer("height"),
                     given.integer("width"),
                     {given.integer("window"), given.integer("rounds"), static_cast<float>(given.real("frame_share")),
                      static_cast<float>(given.real("trust_in_bound")),
                      static_cast<float>(given.real("least_variance"))},
                     run.output<float>("scale"), run.output<float>("offset"), run.parallel_for);
}

Upsampling upsampling_of(const Case& given) {
  return {
      .batch = given.integer("batch"),
      .coarse_height = given.integer("coarse_height"),
      .coarse_width = given.integer("coarse_width"),
      .height = given.integer("height"),
      .width = given.integer("width"),
      .channels_last = given.has("channels_last") && given.integer("channels_last") != 0,
  };
}

void surrounding_measurements(Run& run) {
  const Case& given = run.given;
  depthsr::surrounding_measurements(given.data<float>("x"), given.data<bool>("valid"), upsampling_of(given),
                                    run.output<float>("out"), run.parallel_for);
}

void joint_bilateral_upsample(Run& run) {
  const Case& given = run.given;
  depthsr::joint_bilateral_upsample(given.data<float>("x"), given.data<float>("confidence"),
                                    given.data<float>("guide"), given.data<float>("coarse_guide"), upsampling_of(given),
                                    run.output<float>("out"), run.parallel_for);
}

void spread_residuals(Run& run) {
  const Case& given = run.given;
  const auto real = [&](const char* key) { return static_cast<float>(given.real(key)); };
  const Residuals residuals{
      .height = given.integer("cells_down"),
      .width = given.integer("cells_across"),
      .reach = given.integer("reach"),
      .residual = given.data<float>("residual"),
      .log_m = given.data<float>("cell_log_m"),
      .sigma_down = real("sigma_down"),
      .sigma_across = real("sigma_across"),
      .sigma_log = real("sigma_log"),
      .prior_weight = real("prior_weight"),
  };
  depthsr::spread_residuals(given.data<float>("log_m"), given.integer("height"), given.integer("width"), residuals,
                            given.integer("own") != 0, run.output<float>("out"), run.parallel_for);
}

void bilateral_sum(Run& run) {
  const Case& given = run.given;
  const Frames shape{
      .batch = given.integer("batch"),
      .channels = given.integer("channels"),
      .height = given.integer("height"),
      .width = given.integer("width"),
      .guide_channels_last = given.integer("channels_last") != 0,
  };
  depthsr::bilateral_sum(given.data<float>("x"), given.data<float>("guide"), shape, run.output<float>("out"),
                         run.parallel_for);
}

void mix_candidates(Run& run) {
  const Case& given = run.given;
  const Mixture shape{
      .batch = given.integer("batch"),
      .candidates = given.integer("count"),
      .height = given.integer("height"),
      .width = given.integer("width"),
      .half_height = given.integer("half_height"),
      .half_width = given.integer("half_width"),
      .channels_last = given.integer("channels_last") != 0,
  };
  depthsr::mix_candidates(given.data<float>("logits"), given.data<float>("correction"), given.data<float>("error"),
                          given.data<float>("candidates"), given.data<float>("ambiguity"), shape,
                          run.output<float>("depth"), run.output<float>("expected"), run.parallel_for);
}

void make_prior(Run& run) {
  const Frame frame = frame_of(run.given);
  const Prior prior = depthsr::make_prior(frame.rgb_HW3, frame.height, frame.width, frame.depth_m, frame.valid,
                                          frame.low_height, frame.low_width, frame.quantisation_step_m,
                                          frame.max_depth_m, frame.filling_m, run.parallel_for);
  const auto result = [&](const char* key, const auto& values) {
    std::copy(std::begin(values), std::end(values), run.output<float>(key));
  };
  result("upsampled", prior.upsampled);
  result("ambiguity", prior.ambiguity);
  result("valid", prior.valid);
  result("condition", prior.condition);
  *run.output<float>("scale_m") = prior.scale_m;
  // The nine coarse pixels around each fine one, as a reader of the prior finds them.
  float* out = run.output<float>("neighbours");
  for (int k = 0; k < 9; ++k)
    for (const std::int32_t row : prior.nearest_row)
      for (const std::int32_t column : prior.nearest_column) {
        const std::int64_t y = std::clamp<std::int64_t>(row + (k / 3 - 1) * prior.row_spacing, 0, prior.low_height - 1);
        const std::int64_t x =
            std::clamp<std::int64_t>(column + (k % 3 - 1) * prior.column_spacing, 0, prior.low_width - 1);
        *out++ = prior.around(k)[y * prior.low_width + x];
      }
}

// Tensors are the inputs whose names begin with "unet.".
void network(Run& run) {
  const Case& given = run.given;
  const auto integers = [&](const char* key, auto& to) {
    std::copy_n(given.data<std::int64_t>(key), to.size(), to.begin());
  };
  NetworkConfig config{};
  integers("widths", config.widths);
  integers("relative_blocks", config.relative_blocks);
  integers("depth_blocks", config.depth_blocks);
  config.middle_blocks = given.integer("middle_blocks");
  integers("decoder_blocks", config.decoder_blocks);
  std::map<std::string, std::vector<float>> tensors;
  for (const auto& [key, array] : given.inputs)
    if (key.starts_with("unet.")) tensors[key].assign(array.data<float>(), array.data<float>() + array.count());
  Network net(config, std::move(tensors));
  net.infer(frame_of(given), given.integer("bfloat16") != 0, run.output<float>("depth_m"), run.output<float>("error_m"),
            run.parallel_for);
}

}  // namespace

const std::map<std::string, Op>& ops() {
  static const std::map<std::string, Op> all{
      {"layer_norm_2d", layer_norm_2d}, {"simple_gate", simple_gate}, {"adain", adain},
      {"sobel_l1_loss", sobel_l1_loss}, {"naf_block", naf_block},     {"naf_block_backward", naf_block_backward},
      {"fill_holes", fill_holes},       {"surrounding_measurements", surrounding_measurements},
      {"joint_bilateral_upsample", joint_bilateral_upsample}, {"mix_candidates", mix_candidates},
      {"fit_lines", fit_lines},         {"spread_residuals", spread_residuals}, {"bilateral_sum", bilateral_sum},
      {"make_prior", make_prior},       {"network", network},
  };
  return all;
}
