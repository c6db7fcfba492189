#include "depthsr/network.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <utility>

#include "bilateral_sum.h"
#include "depthsr/prior.h"
#include "isa.h"
#include "unet_weights.h"

namespace depthsr {

namespace {

// Looks tensors up by name and checks their sizes.
class Reader {
 public:
  explicit Reader(const std::map<std::string, std::vector<float>>& tensors) : tensors_(tensors) {}

  const float* tensor(const std::string& name, std::int64_t elements) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::invalid_argument("the weights have no tensor " + name);
    if (static_cast<std::int64_t>(found->second.size()) != elements)
      throw std::invalid_argument("the tensor " + name + " has " + std::to_string(found->second.size()) +
                                  " elements, not " + std::to_string(elements) +
                                  ": the weights do not belong to the configuration");
    return found->second.data();
  }

  ConvWeights conv(const std::string& name, std::int64_t weights, std::int64_t outputs) const {
    return {tensor(name + ".weight", weights), tensor(name + ".bias", outputs)};
  }

  NafBlockWeights block(const std::string& name, std::int64_t c) const {
    const auto get = [&](const char* parameter, std::int64_t elements) {
      return tensor(name + "." + parameter, elements);
    };
    return {get("norm1.weight", c),          get("norm1.bias", c),      get("conv1.weight", 2 * c * c),
            get("conv1.bias", 2 * c),        get("conv2.weight", 18 * c), get("conv2.bias", 2 * c),
            get("attention.weight", c * c),  get("attention.bias", c),  get("conv3.weight", c * c),
            get("conv3.bias", c),            get("norm2.weight", c),    get("norm2.bias", c),
            get("conv4.weight", 2 * c * c),  get("conv4.bias", 2 * c),  get("conv5.weight", c * c),
            get("conv5.bias", c),            get("beta", c),            get("gamma", c)};
  }

 private:
  const std::map<std::string, std::vector<float>>& tensors_;
};

UNetWeights unet_weights(const NetworkConfig& config, const Reader& read) {
  UNetWeights w{};
  const auto& widths = config.widths;
  for (int i = 0; i < 4; ++i) {
    if (widths[i] < 8 || widths[i] % 8 != 0)
      throw std::invalid_argument("the runtime without torch takes widths that are multiples of 8, not " +
                                  std::to_string(widths[i]));
    w.widths[i] = widths[i];
    w.relative_blocks[i] = config.relative_blocks[i];
    w.depth_blocks[i] = config.depth_blocks[i];
  }
  w.middle_blocks = config.middle_blocks;
  std::copy(config.decoder_blocks.begin(), config.decoder_blocks.end(), w.decoder_blocks);

  const auto blocks = [&](const std::string& name, std::int64_t count, std::int64_t channels) {
    for (std::int64_t i = 0; i < count; ++i) {
      if (w.block_count == MOST_BLOCKS)
        throw std::invalid_argument("the runtime without torch takes at most " + std::to_string(MOST_BLOCKS) +
                                    " blocks");
      w.blocks[w.block_count] = read.block(name + "." + std::to_string(i), channels);
      w.block_channels[w.block_count++] = channels;
    }
  };
  const std::int64_t first = widths[0];
  w.relative_stem = read.conv("unet.relative_stem", first * 3 * 16, first);
  w.depth_stem = read.conv("unet.depth_stem", first * DEPTH_FEATURES * 16, first);
  w.condition = read.conv("unet.condition", first * 2, first);
  for (int i = 0; i < 4; ++i) {
    const std::string number = std::to_string(i);
    if (i > 0) {
      const std::string before = std::to_string(i - 1);
      w.relative_downs[i - 1] = read.conv("unet.relative_downs." + before, widths[i] * widths[i - 1] * 4, widths[i]);
      w.depth_downs[i - 1] = read.conv("unet.depth_downs." + before, widths[i] * widths[i - 1] * 4, widths[i]);
    }
    blocks("unet.relative_stages." + number, config.relative_blocks[i], widths[i]);
    blocks("unet.depth_stages." + number, config.depth_blocks[i], widths[i]);
    w.fusions[i] = read.conv("unet.fusions." + number + ".project", widths[i] * widths[i], widths[i]);
  }
  blocks("unet.middle", config.middle_blocks, widths[3]);
  for (int i = 0; i < 3; ++i) {
    const std::string number = std::to_string(i);
    w.ups[i] = {read.tensor("unet.ups." + number + ".0.weight", 4 * widths[2 - i] * widths[3 - i]), nullptr};
    blocks("unet.decoder_stages." + number, config.decoder_blocks[i], widths[2 - i]);
  }
  w.choice_head = read.conv("unet.choice_head", 4 * CANDIDATES * first, 4 * CANDIDATES);
  w.residual_head = read.conv("unet.residual_head", 4 * first, 4);
  w.error_hidden = read.conv("unet.error_head.hidden", HEAD_CHANNELS * first, HEAD_CHANNELS);
  w.error_condition = {read.tensor("unet.error_head.condition.weight", 2 * HEAD_CHANNELS), nullptr};
  w.error_head = read.conv("unet.error_head.head", 4 * HEAD_CHANNELS, 4);
  w.refinement_hidden = read.conv("unet.refinement_head.hidden", HEAD_CHANNELS * first, HEAD_CHANNELS);
  w.refinement_condition = {read.tensor("unet.refinement_head.condition.weight", 2 * HEAD_CHANNELS), nullptr};
  w.refinement_head = read.conv("unet.refinement_head.head", 8 * HEAD_CHANNELS, 8);
  return w;
}

// As in depthsr/models/network.py.
float largest_result_m(const Frame& frame) {
  float most = 0.0f;
  for (std::int64_t i = 0; i < frame.low_height * frame.low_width; ++i)
    if (frame.valid[i]) most = std::max(most, frame.depth_m[i]);
  const float limit_m = 1.05f * most + 0.5f * frame.quantisation_step_m;
  return frame.max_depth_m > 0 ? std::min(limit_m, frame.max_depth_m) : limit_m;
}

// As in depthsr/models/refinement.py, in place onto maps.depth, which becomes metres within [0, limit_m].
void refine(const Frame& frame, const UNetOutput& maps, float scale_m, float limit_m, ParallelFor parallel_for) {
  const std::int64_t width = frame.width;
  const GuidedMaps guided{frame.height, width, frame.rgb_HW3, 3 * width, 3, 1, {maps.weighted, maps.confidence}};
  parallel_for(frame.height, 2 * BILATERAL_WINDOW, [&](std::int64_t begin, std::int64_t end) {
    BilateralRows sums(guided);
    std::vector<float> depths(width), weights(width);
    for (std::int64_t row = begin; row < end; ++row) {
      sums(row, depths.data(), weights.data());
      float* depth = maps.depth + row * width;
      const float* share = maps.share + row * width;
      for (std::int64_t i = 0; i < width; ++i) {
        const float refined = depth[i] + share[i] * (depths[i] / weights[i] - depth[i]);
        depth[i] = std::min(std::max(refined * scale_m, 0.0f), limit_m);
      }
    }
  });
}

}  // namespace

struct Network::Parts {
  std::map<std::string, std::vector<float>> tensors;
  UNetWeights weights;
  std::unique_ptr<float, decltype(&release)> packed{nullptr, &release}, packed_bf16{nullptr, &release};
};

Network::Network(const NetworkConfig& config, std::map<std::string, std::vector<float>> tensors)
    : parts_(std::make_unique<Parts>()) {
  parts_->tensors = std::move(tensors);
  parts_->weights = unet_weights(config, Reader(parts_->tensors));
}

Network::~Network() = default;

void Network::infer(const Frame& frame, bool bfloat16, float* depth_m, float* error_m, ParallelFor parallel_for) {
  const Prior prior = make_prior(frame.rgb_HW3, frame.height, frame.width, frame.depth_m, frame.valid,
                                 frame.low_height, frame.low_width, frame.quantisation_step_m, frame.max_depth_m,
                                 frame.filling_m, parallel_for);
  UNetInput input{
      .rgb_HW3 = frame.rgb_HW3,
      .height = frame.height,
      .width = frame.width,
      .low_height = frame.low_height,
      .low_width = frame.low_width,
      .upsampled = prior.upsampled.data(),
      .ambiguity = prior.ambiguity.data(),
      .valid = prior.valid.data(),
      .around = {},
      .nearest_row = prior.nearest_row.data(),
      .nearest_column = prior.nearest_column.data(),
      .row_spacing = prior.row_spacing,
      .column_spacing = prior.column_spacing,
      .condition = {prior.condition[0], prior.condition[1]},
      .scale_m = prior.scale_m,
  };
  for (int i = 0; i < 9; ++i) input.around[i] = prior.around(i);
  const FusedKernels& kernels = fused_kernels();
  auto& packed = bfloat16 ? parts_->packed_bf16 : parts_->packed;
  if (packed == nullptr) packed.reset((bfloat16 ? kernels.pack_unet_bf16 : kernels.pack_unet)(parts_->weights));
  const std::int64_t pixels = frame.height * frame.width;
  float* between = scratch(Scratch::MAPS, 3 * pixels);
  const UNetOutput maps{depth_m, error_m, between, between + pixels, between + 2 * pixels};
  (bfloat16 ? kernels.unet_bf16 : kernels.unet)(parts_->weights, packed.get(), input, maps, parallel_for);
  refine(frame, maps, prior.scale_m, largest_result_m(frame), parallel_for);
}

}  // namespace depthsr
