// The U-Net on one frame: stems, stages, AdaIN fusion, decoder, head. Activations are NHWC and never leave native code.
// Specified by UNet and DepthSR.forward in depthsr/models/network.py, up to the refinement.
#pragma once

#include "convolutions.h"
#include "fusion.h"
#include "head.h"
#include "naf_block.h"
#include "stems.h"

namespace depthsr::DEPTHSR_ISA {

// O: what the products between the stems and the heads multiply. Those two stay in float: depth goes in and out there.
template <typename O>
struct PackedUNet {
  PackedConv<> relative_stem, depth_stem, heads, error_head, refinement_head;
  PackedConv<O> relative_downs[3], depth_downs[3], ups[3];
  PackedNafBlock<O> blocks[MOST_BLOCKS];
};

// Packs everything into the arena and returns how many floats that took; with a null arena only the latter.
template <typename O>
DEPTHSR_INLINE std::int64_t lay_out_unet(const UNetWeights& w, float* memory, PackedUNet<O>& packed) {
  Arena arena{memory};
  packed.relative_stem = pack_stem(w.relative_stem, GUIDE_FEATURES, w.widths[0], arena);
  packed.depth_stem = pack_stem(w.depth_stem, DEPTH_FEATURES, w.widths[0], arena);
  packed.heads = pack_heads(w, arena);
  packed.error_head = pack_second_layer<1>(w.error_head, arena);
  packed.refinement_head = pack_second_layer<REFINEMENT_MAPS>(w.refinement_head, arena);
  for (int i = 0; i < 3; ++i) {
    packed.relative_downs[i] = pack_conv<O>(w.relative_downs[i], w.widths[i], w.widths[i + 1], 2, arena);
    packed.depth_downs[i] = pack_conv<O>(w.depth_downs[i], w.widths[i], w.widths[i + 1], 2, arena);
    packed.ups[i] = pack_up<O>(w.ups[i], w.widths[3 - i], w.widths[2 - i], arena);
  }
  for (std::int64_t i = 0; i < w.block_count; ++i) {
    float* here = arena.take(packed_naf_block_size<O>(w.block_channels[i]));
    if (memory) packed.blocks[i] = pack_naf_block<O>(w.blocks[i], w.block_channels[i], here);
  }
  return arena.used;
}

// Where the packed weights begin, after the PackedUNet that points into them.
template <typename O>
constexpr std::int64_t PACKED_HEADER = (sizeof(PackedUNet<O>) / sizeof(float) + 16) / 16 * 16;

// For activations stored as T.
template <typename T>
float* pack_unet(const UNetWeights& w) {
  using O = Operand<T>;
  PackedUNet<O> counted;
  float* memory = allocate(PACKED_HEADER<O> + lay_out_unet(w, nullptr, counted));
  PackedUNet<O> packed{};
  lay_out_unet(w, memory + PACKED_HEADER<O>, packed);
  std::memcpy(memory, &packed, sizeof packed);
  return memory;
}

// Frames are padded to a multiple of this: four halvings.
constexpr std::int64_t SIZE_MULTIPLE = 16;

template <typename T>
struct UNetMemory {
  T *relative[4], *depth[4];
  float *block, *fusion, *depth_bias, *heads_bias;

  // Returns how many floats it all takes.
  std::int64_t lay_out(const UNetWeights& w, std::int64_t height, std::int64_t width, float* memory) {
    Arena arena{memory};
    std::int64_t block_floats = 0, fusion_floats = 0;
    for (int s = 0; s < 4; ++s) {
      const Image image{1, height >> (s + 1), width >> (s + 1), w.widths[s]};
      const std::int64_t floats = (image.elements() * sizeof(T) + 3) / sizeof(float);
      relative[s] = reinterpret_cast<T*>(arena.take(floats));
      depth[s] = reinterpret_cast<T*>(arena.take(floats));
      block_floats = max(block_floats, naf_block_scratch<T>(image));
      fusion_floats = max(fusion_floats, fusion_scratch(image.height * image.width, image.channels));
    }
    block = arena.take(block_floats);
    fusion = arena.take(fusion_floats);
    depth_bias = arena.take(round_up(w.widths[0], PANEL));
    heads_bias = arena.take(computed_outputs(HEAD_OUTPUTS));
    return arena.used;
  }
};

template <typename T>
void unet(const UNetWeights& w, const float* packed_floats, const UNetInput& in, const UNetOutput& out,
          ParallelFor parallel_for) {
  constexpr float NORM_EPS = 1e-6f;
  using O = Operand<T>;
  PackedUNet<O> packed;
  std::memcpy(&packed, packed_floats, sizeof packed);
  const std::int64_t padded_height = round_up(in.height, SIZE_MULTIPLE);
  const std::int64_t padded_width = round_up(in.width, SIZE_MULTIPLE);
  UNetMemory<T> memory;
  memory.lay_out(w, padded_height, padded_width,
                 scratch(Scratch::FRAME, memory.lay_out(w, padded_height, padded_width, nullptr)));
  for (std::int64_t c = 0; c < w.widths[0]; ++c)
    memory.depth_bias[c] = packed.depth_stem.bias[c] + w.condition.bias[c] + of_condition(w.condition, c, in.condition);
  bias_of_heads(w, packed.heads, in.condition, memory.heads_bias);

  std::int64_t next = 0;  // blocks lie in the order in which they run
  const auto blocks = [&](T* x, std::int64_t count, int stage) {
    const Image image{1, padded_height >> (stage + 1), padded_width >> (stage + 1), w.widths[stage]};
    for (std::int64_t i = 0; i < count; ++i, ++next)
      naf_block_packed(x, w.blocks[next], packed.blocks[next], NORM_EPS, image, memory.block, x, parallel_for);
  };
  stems(in, packed.relative_stem, packed.depth_stem, memory.depth_bias, padded_height, padded_width,
        memory.relative[0], memory.depth[0], parallel_for);
  for (int stage = 0; stage < 4; ++stage) {
    const std::int64_t height = padded_height >> (stage + 1), width = padded_width >> (stage + 1);
    if (stage > 0) {
      down(memory.relative[stage - 1], packed.relative_downs[stage - 1], 2 * height, 2 * width, memory.relative[stage],
           parallel_for);
      down(memory.depth[stage - 1], packed.depth_downs[stage - 1], 2 * height, 2 * width, memory.depth[stage],
           parallel_for);
    }
    blocks(memory.relative[stage], w.relative_blocks[stage], stage);
    blocks(memory.depth[stage], w.depth_blocks[stage], stage);
    fuse<O>(memory.relative[stage], w.fusions[stage], height * width, w.widths[stage], memory.fusion, memory.depth[stage],
         parallel_for);
  }
  blocks(memory.depth[3], w.middle_blocks, 3);
  for (int i = 0; i < 3; ++i) {
    const int stage = 2 - i;
    up(memory.depth[stage + 1], packed.ups[i], padded_height >> (stage + 2), padded_width >> (stage + 2),
       memory.depth[stage], parallel_for);
    blocks(memory.depth[stage], w.decoder_blocks[i], stage);
  }
  const Heads heads{packed.heads, memory.heads_bias, packed.error_head, packed.refinement_head};
  head(memory.depth[0], in, heads, padded_height / 2, padded_width / 2, out, parallel_for);
}

}  // namespace depthsr::DEPTHSR_ISA
