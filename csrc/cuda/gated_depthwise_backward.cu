// Gradients of the depthwise 3×3 with gate and pooling (gated_depthwise.cu) in one pass over memory.
//
// Moves 5 units of B·H·W·C elements (x twice C, the gradient, the gradient for x twice C) for 61 multiply-adds an element:
// with 2-byte elements it is bound by memory on every GPU since sm_80.

#include "depthwise_tile.h"

namespace depthsr::cuda {
namespace {

// With ua, ub the halves of u = x * w + bias, and g the gradient for ua ub: the gradients for u are (g ub, g ua), needed one
// pixel around the tile for the gradient for x, and so x is needed two pixels around it. 14 + 2 columns: threads come in
// powers of two. 12 rows: what fits into 48 KiB of shared memory.
constexpr int kGradRows = 12;
constexpr int kGradColumns = 14;
constexpr int kOuterRows = kGradRows + 2;
constexpr int kOuterColumns = kGradColumns + 2;

std::int64_t backward_tiles(const Frames& frames) {
  return ceil_div(frames.height, kGradRows) * ceil_div(frames.width, kGradColumns);
}

// Sums of a filter's gradient over more tiles mean fewer partial sums to write and read; fewer blocks than this leave
// parts of a GPU idle. A count, not a measurement: an H200 runs 264 of these blocks at a time.
constexpr std::int64_t kBackwardBlocks = 1024;

template <typename T>
std::int64_t tiles_a_block(const Frames& frames) {
  const std::int64_t tiles = backward_tiles(frames) * ceil_div(frames.channels, Group<T>::kChannels) * frames.batch;
  return std::clamp<std::int64_t>(tiles / kBackwardBlocks, 1, 32);
}

template <typename T>
std::int64_t backward_blocks(const Frames& frames) {  // of one frame and one group
  return ceil_div(backward_tiles(frames), tiles_a_block<T>(frames));
}

// partial_weight: [half][channel][tap][frame and block], partial_bias: [half][channel][frame and block].
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    backward(const T* __restrict__ grad_out, const float* __restrict__ grad_mean, const T* __restrict__ x,
             const float* __restrict__ weight, const float* __restrict__ bias, Frames frames, int tiles,
             int tiles_a_block, bool vectors, T* __restrict__ grad_x, float* __restrict__ partial_weight,
             float* __restrict__ partial_bias) {
  constexpr int kPairs = Group<T>::kPairs;
  constexpr int kChannels = Group<T>::kChannels;
  constexpr int kPieces = Group<T>::kLanes / kOuterColumns;  // of a column
  constexpr int kRows = kGradRows / kPieces;                 // of a thread
  constexpr int kOuterPiece = (kOuterRows + kPieces - 1) / kPieces;
  static_assert(kRows * kPieces == kGradRows);
  __shared__ Tile<T, kOuterRows + 2, kOuterColumns + 2> tile;
  __shared__ Filters<T> filters;
  __shared__ float grad_u[2][kOuterRows * kOuterColumns][kChannels];
  __shared__ float mean_part[kChannels];  // what the mean's gradient adds to each pixel's
  const Place here = place<T>(frames);  // `tile` counts runs of tiles_a_block tiles here
  const int tiles_across = (frames.width + kGradColumns - 1) / kGradColumns;
  const int pair = threadIdx.x % kPairs;
  const int column = threadIdx.x / kPairs % kOuterColumns;
  const int piece = threadIdx.x / (kPairs * kOuterColumns);
  const int channel = here.channel + 2 * pair;
  const auto read_grad_u = [&](int row, int column) {
    Values values;
    for (int half = 0; half < 2; ++half)
      for (int c = 0; c < 2; ++c) values.at[half][c] = grad_u[half][row * kOuterColumns + column][2 * pair + c];
    return values;
  };
  filters.load(weight, bias, frames.channels, here);
  if (threadIdx.x < kChannels) {
    const int c = here.channel + threadIdx.x;
    const float pixels = static_cast<float>(frames.height) * static_cast<float>(frames.width);
    mean_part[threadIdx.x] = c < frames.channels ? grad_mean[here.batch * frames.channels + c] / pixels : 0.0f;
  }
  Values grad_taps[kTaps + 1] = {};

  for (int t = here.tile * tiles_a_block; t < tiles && t < (here.tile + 1) * tiles_a_block; ++t) {
    const int top = t / tiles_across * kGradRows;
    const int left = t % tiles_across * kGradColumns;
    tile.load(x, frames, here, top - 2, left - 2, vectors);
    __syncthreads();

    correlate_column<kOuterPiece, false>(
        filters, pair,
        [&](int row, int x) {
          // The last piece may reach beyond the tile; what it computes there is not kept.
          return tile.read(min(piece * kOuterPiece + row, kOuterRows + 1), column + x, pair);
        },
        [&](int row, const Values& u) {
          const int outer = piece * kOuterPiece + row;
          if (outer >= kOuterRows) return;
          const int y = top - 1 + outer;
          const int x = left - 1 + column;
          float g[2] = {0.0f, 0.0f};
          if (y >= 0 && y < frames.height && x >= 0 && x < frames.width) {
            load_pair(grad_out + pixel_index(frames, here.batch, y, x) * frames.channels + channel,
                      frames.channels - channel, vectors, g);
            for (int c = 0; c < 2; ++c) g[c] += mean_part[2 * pair + c];
          }
          const Values own_bias = filters.read(kBias, pair);
          for (int c = 0; c < 2; ++c) {
            grad_u[0][outer * kOuterColumns + column][2 * pair + c] = g[c] * (u.at[1][c] + own_bias.at[1][c]);
            grad_u[1][outer * kOuterColumns + column][2 * pair + c] = g[c] * (u.at[0][c] + own_bias.at[0][c]);
          }
        });
    __syncthreads();

    if (column < kGradColumns) {
      const int first_row = piece * kRows;
      correlate_column<kRows, true>(
          filters, pair, [&](int row, int x) { return read_grad_u(first_row + row, column + x); },
          [&](int row, const Values& grad) {
            const int y = top + first_row + row;
            const int x = left + column;
            if (y >= frames.height || x >= frames.width) return;
            const std::int64_t pixel = pixel_index(frames, here.batch, y, x);
            for (int half = 0; half < 2; ++half)
              store_pair(grad.at[half], grad_x + (pixel * 2 + half) * frames.channels + channel,
                         frames.channels - channel, vectors);
          });

      // Each row of x meets the gradients of three rows of u.
      Values grad[3];
#pragma unroll
      for (int input = 0; input < kRows + 2; ++input) {
        if (input < kRows) {
          grad[input % 3] = read_grad_u(first_row + input + 1, column + 1);
          for (int half = 0; half < 2; ++half)
            for (int c = 0; c < 2; ++c) grad_taps[kBias].at[half][c] += grad[input % 3].at[half][c];
        }
#pragma unroll
        for (int x = 0; x < 3; ++x) {
          const Values in = tile.read(first_row + input + 1, column + x + 1, pair);
#pragma unroll
          for (int y = 0; y < 3; ++y) {
            const int row = input - y;
            if (row < 0 || row >= kRows) continue;
            for (int half = 0; half < 2; ++half)
              for (int c = 0; c < 2; ++c)
                grad_taps[y * 3 + x].at[half][c] += grad[row % 3].at[half][c] * in.at[half][c];
          }
        }
      }
    }
    __syncthreads();  // before the next tile takes this one's place
  }

  // One sum a warp, then over the warps, in the memory of grad_u.
  float(&warps)[kWarps][2][kTaps + 1][kChannels] = *reinterpret_cast<float(*)[kWarps][2][kTaps + 1][kChannels]>(&grad_u);
  static_assert(sizeof(warps) <= sizeof(grad_u));
#pragma unroll
  for (int tap = 0; tap <= kTaps; ++tap)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float sum = sum_of_warp<T>(grad_taps[tap].at[half][c]);
        if (threadIdx.x % 32 < kPairs) warps[threadIdx.x / 32][half][tap][2 * pair + c] = sum;
      }
  __syncthreads();
  const int blocks = (tiles + tiles_a_block - 1) / tiles_a_block;  // of this frame and group
  for (int i = threadIdx.x; i < 2 * (kTaps + 1) * kChannels; i += kThreads) {
    const int c = i % kChannels;
    const int tap = i / kChannels % (kTaps + 1);
    const int half = i / (kChannels * (kTaps + 1));
    if (here.channel + c >= frames.channels) continue;
    float total = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) total += warps[warp][half][tap][c];
    const int filter = half * frames.channels + here.channel + c;
    const int column = here.batch * blocks + here.tile;
    const std::int64_t columns = static_cast<std::int64_t>(frames.batch) * blocks;
    if (tap == kBias)
      partial_bias[filter * columns + column] = total;
    else
      partial_weight[(filter * kTaps + tap) * columns + column] = total;
  }
}

template <typename T>
std::int64_t backward_scratch(const Frames& frames) {
  return backward_blocks<T>(frames) * frames.batch * 2 * frames.channels * (kTaps + 1);
}

}  // namespace

std::int64_t gated_depthwise_backward_scratch(Frames frames, std::size_t element_size) {
  return element_size == sizeof(float) ? backward_scratch<float>(frames) : backward_scratch<Half>(frames);
}

template <typename T>
void gated_depthwise_backward(const T* grad_out, const float* grad_mean, const T* x, const float* weight,
                              const float* bias, Frames frames, float* scratch, T* grad_x, float* grad_weight,
                              float* grad_bias, void* stream) {
  const std::int64_t blocks = backward_blocks<T>(frames);
  const std::int64_t columns = frames.batch * blocks;
  float* partial_weight = scratch;
  float* partial_bias = scratch + 2 * frames.channels * kTaps * columns;
  launch(backward<T>, grid_of<T>(frames, blocks), dim3(kThreads), stream, grad_out, grad_mean, x, weight, bias, frames,
         static_cast<int>(backward_tiles(frames)), static_cast<int>(tiles_a_block<T>(frames)),
         allow_vectors<T>(frames, {grad_out, x, grad_x}), grad_x, partial_weight, partial_bias);
  sum_rows(partial_weight, std::int64_t{2} * frames.channels * kTaps, columns, 1.0, grad_weight, stream);
  sum_rows(partial_bias, std::int64_t{2} * frames.channels, columns, 1.0, grad_bias, stream);
}

#define DEPTHSR_INSTANTIATE(T)                                                                                    \
  template void gated_depthwise_backward<T>(const T*, const float*, const T*, const float*, const float*, Frames, \
                                            float*, T*, float*, float*, void*);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr::cuda
