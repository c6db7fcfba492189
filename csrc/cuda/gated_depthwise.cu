// Depthwise 3×3, gate and pooling in one pass over memory: the middle of a NAFNet block. Channels last.
//
// Moves 3 units of B·H·W·C elements (x twice C, the result once) for 19 multiply-adds an element: with 2-byte elements it
// is bound by memory on every GPU since sm_80.

#include "depthwise_tile.h"

namespace depthsr::cuda {
namespace {

constexpr int kTileRows = 16;
constexpr int kTileColumns = 16;

std::int64_t forward_tiles(const Frames& frames) {
  return ceil_div(frames.height, kTileRows) * ceil_div(frames.width, kTileColumns);
}

// partial: one sum a tile, [batch][channel][tile].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    forward(const T* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias, Frames frames,
            bool vectors, T* __restrict__ out, float* __restrict__ partial) {
  constexpr int kPairs = Group<T>::kPairs;
  constexpr int kRows = kTileRows * kTileColumns / Group<T>::kLanes;  // of a thread
  __shared__ Tile<T, kTileRows + 2, kTileColumns + 2> tile;
  __shared__ Filters<T> filters;
  __shared__ float pool[kWarps][Group<T>::kChannels];
  const Place here = place<T>(frames);
  const int tiles_across = (frames.width + kTileColumns - 1) / kTileColumns;
  const int top = here.tile / tiles_across * kTileRows;
  const int left = here.tile % tiles_across * kTileColumns;
  filters.load(weight, bias, frames.channels, here);
  tile.load(x, frames, here, top - 1, left - 1, vectors);
  __syncthreads();

  const int pair = threadIdx.x % kPairs;
  const int column = threadIdx.x / kPairs % kTileColumns;
  const int first_row = threadIdx.x / (kPairs * kTileColumns) * kRows;
  const int channel = here.channel + 2 * pair;
  const Values own_bias = filters.read(kBias, pair);
  float sums[2] = {0.0f, 0.0f};
  correlate_column<kRows, false>(
      filters, pair, [&](int row, int x) { return tile.read(first_row + row, column + x, pair); },
      [&](int row, const Values& u) {
        const int y = top + first_row + row;
        if (y >= frames.height || left + column >= frames.width) return;
        float gated[2];
        for (int c = 0; c < 2; ++c) {
          gated[c] = (u.at[0][c] + own_bias.at[0][c]) * (u.at[1][c] + own_bias.at[1][c]);
          sums[c] += gated[c];
        }
        const std::int64_t pixel = pixel_index(frames, here.batch, y, left + column);
        store_pair(gated, out + pixel * frames.channels + channel, frames.channels - channel, vectors);
      });

  for (int c = 0; c < 2; ++c) {
    const float sum = sum_of_warp<T>(sums[c]);
    if (threadIdx.x % 32 < kPairs) pool[threadIdx.x / 32][2 * pair + c] = sum;
  }
  __syncthreads();
  const int c = threadIdx.x;
  if (c >= Group<T>::kChannels || here.channel + c >= frames.channels) return;
  float total = 0.0f;
  for (int warp = 0; warp < kWarps; ++warp) total += pool[warp][c];
  const int tiles = tiles_across * ((frames.height + kTileRows - 1) / kTileRows);
  partial[(static_cast<std::int64_t>(here.batch) * frames.channels + here.channel + c) * tiles + here.tile] = total;
}

}  // namespace

std::int64_t gated_depthwise_scratch(Frames frames) { return forward_tiles(frames) * frames.channels * frames.batch; }

template <typename T>
void gated_depthwise(const T* x, const float* weight, const float* bias, Frames frames, float* scratch, T* out,
                     float* mean, void* stream) {
  const std::int64_t tiles = forward_tiles(frames);
  launch(forward<T>, grid_of<T>(frames, tiles), dim3(kThreads), stream, x, weight, bias, frames,
         allow_vectors<T>(frames, {x, out}), out, scratch);
  const double pixels = static_cast<double>(frames.height) * frames.width;
  sum_rows(scratch, std::int64_t{frames.batch} * frames.channels, tiles, 1.0 / pixels, mean, stream);
}

#define DEPTHSR_INSTANTIATE(T) \
  template void gated_depthwise<T>(const T*, const float*, const float*, Frames, float*, T*, float*, void*);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr::cuda
