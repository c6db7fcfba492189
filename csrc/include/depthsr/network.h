// The whole of `edge`, from a frame and a measurement to metres, on the CPU; specified by DepthSR.infer
// (depthsr/models/network.py).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "depthsr/kernels.h"

namespace depthsr {

// As depthsr.config.ModelConfig. Widths: multiples of 8. Models with Depth Anything are not for this runtime.
struct NetworkConfig {
  std::array<std::int64_t, 4> widths;
  std::array<std::int64_t, 4> relative_blocks;
  std::array<std::int64_t, 4> depth_blocks;
  std::int64_t middle_blocks;
  std::array<std::int64_t, 3> decoder_blocks;
};

// A frame: RGB interleaved in [0, 1], and the measurement in metres with what is known of it. See make_prior.
struct Frame {
  const float* rgb_HW3;
  std::int64_t height, width;
  const float* depth_m;
  const bool* valid;
  std::int64_t low_height, low_width;
  float quantisation_step_m;
  float max_depth_m;       // known range; 0: unknown
  const float* filling_m;  // as depth_m: what holes are filled with where it is finite; nullptr: nowhere
};

class Network {
 public:
  // Contiguous float32 tensors by their names in the model's safetensors file. Throws std::invalid_argument, naming
  // the tensor, when one is missing or has another number of elements than the configuration asks for.
  Network(const NetworkConfig& config, std::map<std::string, std::vector<float>> tensors);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // height * width metres each: the depth, and its expected absolute error. bfloat16: activations are stored in it,
  // arithmetic stays float. Not for two threads at the same time: they would share the activations' memory.
  void infer(const Frame& frame, bool bfloat16, float* depth_m, float* error_m, ParallelFor parallel_for);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace depthsr
