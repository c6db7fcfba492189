// What the U-Net of one frame reads: its parameters as stored, and the frame with its prior. Plain pointers.
#pragma once

#include <cstdint>

#include "depthsr/kernels.h"

namespace depthsr {

// Of Prior.candidates_BKHW in depthsr/models/prior.py: upsamplings, then the 3×3 coarse pixels around.
constexpr int UPSAMPLINGS = 3;
constexpr int CANDIDATES = UPSAMPLINGS + 9;

// Channels of the depth path's stem: upsamplings, logarithm of the first, ambiguity, validity, RGB.
constexpr int DEPTH_FEATURES = UPSAMPLINGS + 6;

// Channels between the two layers of the error and the refinement head.
constexpr int HEAD_CHANNELS = 16;

constexpr int MOST_BLOCKS = 64;

struct ConvWeights {
  const float* weight;
  const float* bias;  // null where the layer has none
};

struct UNetWeights {
  std::int64_t widths[4], relative_blocks[4], depth_blocks[4], middle_blocks, decoder_blocks[3];
  ConvWeights relative_stem, depth_stem, condition, relative_downs[3], depth_downs[3], fusions[4], ups[3];
  ConvWeights choice_head, residual_head, error_hidden, error_condition, error_head;
  ConvWeights refinement_hidden, refinement_condition, refinement_head;
  NafBlockWeights blocks[MOST_BLOCKS];  // in the order in which they run
  std::int64_t block_channels[MOST_BLOCKS];
  std::int64_t block_count;
};

struct UNetInput {
  const float* rgb_HW3;
  std::int64_t height, width, low_height, low_width;
  const float *upsampled, *ambiguity, *valid, *around[9];  // of Prior
  const std::int32_t *nearest_row, *nearest_column;
  std::int64_t row_spacing, column_spacing;
  float condition[2];
  float scale_m;
};

// What it makes of it: full-size maps. Depth is in units of UNetInput::scale_m, and may be anything.
struct UNetOutput {
  float *depth, *error_m;
  float *confidence, *weighted;  // how much a pixel counts in its surroundings' refinement; the same times its depth
  float* share;                  // of its surroundings in a pixel
};

// What a layer of the condition's two values adds to output c, its bias aside.
inline float of_condition(const ConvWeights& layer, std::int64_t c, const float* condition) {
  return layer.weight[2 * c] * condition[0] + layer.weight[2 * c + 1] * condition[1];
}

}  // namespace depthsr
