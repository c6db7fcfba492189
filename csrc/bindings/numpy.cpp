// depthsr._native: the same CPU kernels for numpy arrays (float32 and float16), forward only, without torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../cpu/isa.h"
#include "depthsr/kernels.h"
#include "depthsr/network.h"
#include "depthsr/prior.h"
#include "thread_pool.h"

namespace py = pybind11;

namespace {

constexpr depthsr::ParallelFor on_our_threads = depthsr::ProcessPool::run;

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Booleans = py::array_t<bool, py::array::c_style | py::array::forcecast>;

// A float32 or float16 B×C×H×W array, made contiguous.
py::array image(const py::array& array, const char* name) {
  const char kind = array.dtype().kind();
  if (kind != 'f' || array.itemsize() > 4)
    throw py::type_error(std::string(name) + " must be a float32 or float16 array");
  if (array.ndim() != 4)
    throw py::value_error(std::string(name) + " must be B×C×H×W, but has " + std::to_string(array.ndim()) +
                          " dimensions");
  return py::array::ensure(array, py::array::c_style);
}

depthsr::Shape shape_of(const py::array& array) {
  return {array.shape(0), array.shape(1), array.shape(2) * array.shape(3), false};
}

py::array empty_like(const py::array& array) {
  return py::array(array.dtype(), std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
}

// Calls function(T{}) with the array's storage type, without Python's lock.
template <typename Function>
void with_storage_type(const py::array& array, Function function) {
  const bool is_half = array.itemsize() == 2;
  py::gil_scoped_release release;
  if (is_half) function(depthsr::Half{});
  else function(float{});
}

template <typename T>
const T* data(const py::array& array) {
  return static_cast<const T*>(array.data());
}

void check_same_dtype(const py::array& a, const py::array& b) {
  if (a.itemsize() != b.itemsize()) throw py::type_error("both arrays must have the same dtype");
}

py::array layer_norm_2d(const py::array& x_any, const Floats& weight, const Floats& bias, float eps) {
  const py::array x = image(x_any, "x");
  if (weight.size() != x.shape(1) || bias.size() != x.shape(1))
    throw py::value_error("weight and bias must have one value for each of x's channels");
  py::array out = empty_like(x);
  void* out_data = out.mutable_data();
  with_storage_type(x, [&](auto zero) {
    using T = decltype(zero);
    depthsr::layer_norm_2d(data<T>(x), weight.data(), bias.data(), eps, shape_of(x), static_cast<T*>(out_data),
                           on_our_threads);
  });
  return out;
}

py::array simple_gate(const py::array& x_any) {
  const py::array x = image(x_any, "x");
  if (x.shape(1) % 2 != 0) throw py::value_error("x must have an even number of channels");
  py::array out(x.dtype(), std::vector<py::ssize_t>{x.shape(0), x.shape(1) / 2, x.shape(2), x.shape(3)});
  void* out_data = out.mutable_data();
  with_storage_type(x, [&](auto zero) {
    using T = decltype(zero);
    depthsr::simple_gate(data<T>(x), shape_of(out), static_cast<T*>(out_data), on_our_threads);
  });
  return out;
}

py::array adain(const py::array& content_any, const py::array& style_any, float eps, std::int64_t correction) {
  const py::array content = image(content_any, "content");
  const py::array style = image(style_any, "style");
  check_same_dtype(content, style);
  if (content.shape(0) != style.shape(0) || content.shape(1) != style.shape(1))
    throw py::value_error("content and style must have the same batch and channels");
  py::array out = empty_like(content);
  void* out_data = out.mutable_data();
  with_storage_type(content, [&](auto zero) {
    using T = decltype(zero);
    depthsr::adain(data<T>(content), shape_of(content), data<T>(style), shape_of(style), eps, correction,
                   static_cast<T*>(out_data), on_our_threads);
  });
  return out;
}

float sobel_l1_loss(const py::array& pred_any, const py::array& target_any, const std::optional<Booleans>& valid,
                    double l1_weight, double gradient_weight) {
  const py::array pred = image(pred_any, "pred");
  const py::array target = image(target_any, "target");
  check_same_dtype(pred, target);
  if (pred.shape(1) != 1 || pred.size() != target.size() || pred.shape(2) != target.shape(2))
    throw py::value_error("pred and target must both be B×1×H×W of the same size");
  if (valid && valid->size() != pred.size()) throw py::value_error("valid must have pred's shape");
  float loss = 0;
  with_storage_type(pred, [&](auto zero) {
    using T = decltype(zero);
    const depthsr::DepthPair<T> pair{data<T>(pred),  data<T>(target), valid ? valid->data() : nullptr,
                                     pred.shape(0), pred.shape(2),   pred.shape(3)};
    loss = depthsr::sobel_l1_loss(pair, l1_weight, gradient_weight, on_our_threads);
  });
  return loss;
}

// A vector's memory as an array of this shape, without a copy.
template <typename T>
py::array as_array(std::vector<T>&& values, std::vector<py::ssize_t> shape) {
  auto* kept = new std::vector<T>(std::move(values));
  const py::capsule owner(kept, [](void* memory) { delete static_cast<std::vector<T>*>(memory); });
  return py::array_t<T>(std::move(shape), kept->data(), owner);
}

void check_frame(const Floats& rgb, const Floats& depth_m) {
  if (rgb.ndim() != 3 || rgb.shape(2) != 3) throw py::value_error("rgb must be H×W×3");
  if (depth_m.ndim() != 2) throw py::value_error("depth_m must be h×w");
  if (rgb.size() == 0 || depth_m.size() == 0) throw py::value_error("rgb and depth_m must not be empty");
}

void check_same_shape(const py::array& map, const char* name, const Floats& other, const char* other_name = "depth_m") {
  if (map.ndim() != 2 || map.shape(0) != other.shape(0) || map.shape(1) != other.shape(1))
    throw py::value_error(std::string(name) + " must have " + other_name + "'s shape");
}

// What to fill holes with, or nullptr.
const float* filling(const std::optional<Floats>& filling_m, const Floats& depth_m) {
  if (!filling_m) return nullptr;
  check_same_shape(*filling_m, "filling_m", depth_m);
  return filling_m->data();
}

py::dict make_prior(const Floats& rgb, const Floats& depth_m, const Booleans& valid, float quantisation_step_m,
                    float max_depth_m, const std::optional<Floats>& filling_m) {
  check_frame(rgb, depth_m);
  check_same_shape(valid, "valid", depth_m);
  depthsr::Prior prior;
  {
    const float* rgb_data = rgb.data();
    const float* depth_data = depth_m.data();
    const bool* valid_data = valid.data();
    const float* filling_data = filling(filling_m, depth_m);
    const py::gil_scoped_release release;
    prior = depthsr::make_prior(rgb_data, rgb.shape(0), rgb.shape(1), depth_data, valid_data, depth_m.shape(0),
                                depth_m.shape(1), quantisation_step_m, max_depth_m, filling_data, on_our_threads);
  }
  const py::ssize_t height = prior.height, width = prior.width;
  py::dict out;
  out["upsampled"] = as_array(std::move(prior.upsampled), {3, height, width});
  out["ambiguity"] = as_array(std::move(prior.ambiguity), {height, width});
  out["valid"] = as_array(std::move(prior.valid), {height, width});
  std::vector<float> around;
  for (int i = 0; i < 9; ++i) around.insert(around.end(), prior.around(i), prior.around(i) + prior.filled.size());
  out["around"] = as_array(std::move(around), {9, prior.low_height, prior.low_width});
  out["nearest_row"] = as_array(std::move(prior.nearest_row), {height});
  out["nearest_column"] = as_array(std::move(prior.nearest_column), {width});
  out["spacing"] = py::make_tuple(prior.row_spacing, prior.column_spacing);
  out["condition"] = py::make_tuple(prior.condition[0], prior.condition[1]);
  out["scale_m"] = prior.scale_m;
  return out;
}

py::array_t<float> spread_residuals(const Floats& log_m, const Floats& residual, const Floats& cell_log_m,
                                    std::int64_t reach, std::pair<float, float> sigma_cells, float sigma_log,
                                    float prior_weight, bool own) {
  if (log_m.ndim() != 2 || residual.ndim() != 2) throw py::value_error("log_m must be H×W, residual h×w");
  check_same_shape(cell_log_m, "cell_log_m", residual, "residual");
  const depthsr::Residuals residuals{
      residual.shape(0) - 2 * reach, residual.shape(1) - 2 * reach, reach,     residual.data(), cell_log_m.data(),
      sigma_cells.first,             sigma_cells.second,            sigma_log, prior_weight};
  if (reach < 0 || residuals.height < 1 || residuals.width < 1)
    throw py::value_error("residual must have cells beside the reach empty ones on each side");
  py::array_t<float> out({log_m.shape(0), log_m.shape(1)});
  float* out_data = out.mutable_data();
  const float* log_data = log_m.data();
  const std::int64_t height = log_m.shape(0), width = log_m.shape(1);
  const py::gil_scoped_release release;
  depthsr::spread_residuals(log_data, height, width, residuals, own, out_data, on_our_threads);
  return out;
}

// The whole network for numpy arrays. Calls from several threads take their turns.
class Network {
 public:
  Network(const std::string& config_json, const std::map<std::string, Floats>& weights)
      : network_(parsed(config_json), copied(weights)) {}

  py::tuple infer(const Floats& rgb, const Floats& depth_m, float quantisation_step_m, float max_depth_m, bool bf16,
                  const std::optional<Floats>& filling_m) {
    check_frame(rgb, depth_m);
    const auto valid = std::make_unique<bool[]>(depth_m.size());
    bool any = false;
    for (py::ssize_t i = 0; i < depth_m.size(); ++i) any |= valid[i] = std::isfinite(depth_m.data()[i]);
    if (!any) throw py::value_error("depth_m has no value");
    py::array_t<float> result({rgb.shape(0), rgb.shape(1)}), error({rgb.shape(0), rgb.shape(1)});
    const depthsr::Frame frame{rgb.data(),       rgb.shape(0),     rgb.shape(1),        depth_m.data(), valid.get(),
                               depth_m.shape(0), depth_m.shape(1), quantisation_step_m, max_depth_m,
                               filling(filling_m, depth_m)};
    float* result_data = result.mutable_data();
    float* error_data = error.mutable_data();
    {
      const py::gil_scoped_release release;
      const std::lock_guard turn(mutex_);
      network_.infer(frame, bf16, result_data, error_data, on_our_threads);
    }
    return py::make_tuple(result, error);
  }

 private:
  static depthsr::NetworkConfig parsed(const std::string& config_json) {
    const py::dict config = py::module_::import("json").attr("loads")(config_json);
    const auto get = [&]<typename T>(const char* name, T& field) { field = config[name].cast<T>(); };
    depthsr::NetworkConfig out{};
    get("widths", out.widths);
    get("relative_blocks", out.relative_blocks);
    get("depth_blocks", out.depth_blocks);
    get("middle_blocks", out.middle_blocks);
    get("decoder_blocks", out.decoder_blocks);
    return out;
  }

  static std::map<std::string, std::vector<float>> copied(const std::map<std::string, Floats>& weights) {
    std::map<std::string, std::vector<float>> out;
    for (const auto& [name, values] : weights) out.emplace(name, std::vector(values.data(), values.data() + values.size()));
    return out;
  }

  std::mutex mutex_;
  depthsr::Network network_;
};

void set_threads(int threads) {
  if (threads < 1) throw py::value_error("threads must be at least 1");
  const py::gil_scoped_release release;
  depthsr::ProcessPool::set_threads(threads);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "depthsr's CPU kernels for numpy arrays: the operations of depthsr.ops, forward only.";
  module.def("layer_norm_2d", &layer_norm_2d, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("eps") = 1e-6f);
  module.def("simple_gate", &simple_gate, py::arg("x"));
  module.def("adain", &adain, py::arg("content"), py::arg("style"), py::arg("eps") = 1e-5f,
             py::arg("correction") = 0);
  module.def("sobel_l1_loss", &sobel_l1_loss, py::arg("pred"), py::arg("target"), py::arg("valid") = py::none(),
             py::arg("l1_weight") = 1.0, py::arg("gradient_weight") = 1.0);
  module.def("make_prior", &make_prior, py::arg("rgb"), py::arg("depth_m"), py::arg("valid"),
             py::arg("quantisation_step_m") = 0.0f, py::arg("max_depth_m") = 0.0f, py::arg("filling_m") = py::none(),
             "As depthsr.models.prior.make_prior for one frame: rgb H×W×3 in [0, 1], the maps h×w; 0: unknown. "
             "Gives a dict of the fields of csrc/include/depthsr/prior.h.");
  module.def("spread_residuals", &spread_residuals, py::arg("log_m"), py::arg("residual"), py::arg("cell_log_m"),
             py::arg("reach"), py::arg("sigma_cells"), py::arg("sigma_log"), py::arg("prior_weight"), py::arg("own"),
             "As depthsr.anchoring.spread_residuals; residual and cell_log_m h×w with `reach` empty cells around them.");
  py::class_<Network>(module, "Network", "DepthSR.infer (depthsr/models/network.py) in C++, for models without Depth Anything.")
      .def(py::init<const std::string&, const std::map<std::string, Floats>&>(), py::arg("config_json"),
           py::arg("weights"),
           "config_json: a model's config.json. weights: its tensors by name. Raises ValueError where they do not fit.")
      .def("infer", &Network::infer, py::arg("rgb"), py::arg("depth_m"), py::arg("quantisation_step_m") = 0.0f,
           py::arg("max_depth_m") = 0.0f, py::arg("bf16") = false, py::arg("filling_m") = py::none(),
           "Depth and its expected error, H×W float32 metres, from rgb H×W×3 in [0, 1] and depth_m h×w (NaN: no value); "
           "0: unknown. bf16: activations are stored in bfloat16. filling_m h×w: what holes are filled with (NaN: as "
           "without).");
  module.def("isa", [] { return depthsr::fused_kernels().name; }, "The instruction set whose kernels run here.");
  module.def("threads", &depthsr::ProcessPool::threads, "Threads that the kernels use: by default one a core.");
  module.def("set_threads", &set_threads, py::arg("threads"));
}
