// Depthwise 3×3, gate and pooling in one pass over memory: the middle of a NAFNet block. Channels last.
//
// A block computes a tile of pixels for a group of channels, 32 bytes of memory (one sector) in either half of x. The
// tile and its halo are loaded whole before the arithmetic, by loads that are all in flight together: one thread's
// sliding window alone would wait for memory row by row. A thread computes two neighbouring channels, and their gates,
// down a piece of a column.
//
// Forward moves 3 units of B·H·W·C elements (x twice C, the result once) for 19 multiply-adds an element; backward 5 (x,
// the gradient, the gradient for x) for 61: with 2-byte elements both are bound by memory on every GPU since sm_80.

#include <algorithm>
#include <initializer_list>

#include "../storage.h"
#include "depthsr/cuda_kernels.h"
#include "launch.h"

namespace depthsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTaps = 9;
constexpr int kBias = kTaps;  // a filter's bias is kept behind its taps

template <typename T>
struct Group {
  static constexpr int kChannels = 32 / sizeof(T);
  static constexpr int kPairs = kChannels / 2;  // neighbouring threads take neighbouring pairs of channels
  static constexpr int kLanes = kThreads / kPairs;
};

template <typename T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(T);
  T values[kSize];
};

template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T values[2];
};

// Two neighbouring channels [channel] of both halves of x [half].
struct Values {
  float at[2][2];
};

// Where a block is: its frame, its group's first channel, its tile.
struct Place {
  int batch;
  int channel;
  int tile;
};

template <typename T>
__device__ Place place(const Frames& frames) {
  const int groups = (frames.channels + Group<T>::kChannels - 1) / Group<T>::kChannels;
  // Groups of the same pixels run side by side: their sectors are neighbours in memory.
  return {static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) % groups * Group<T>::kChannels,
          static_cast<int>(blockIdx.x) / groups};
}

__device__ std::int64_t pixel_index(const Frames& frames, int batch, int y, int x) {
  return (static_cast<std::int64_t>(batch) * frames.height + y) * frames.width + x;
}

// A block's pixels of x, zeros outside the frame and beyond its channels.
template <typename T, int kRows, int kColumns>
struct Tile {
  // Two pixels more where the second half would otherwise begin in the banks in which the first does.
  static constexpr int kPixels = (kRows * kColumns + 1) / 4 * 4 + 2;
  alignas(16) T values[2][kPixels][Group<T>::kChannels];

  // (top, left): the frame's pixel in the tile's first place. vectors: x allows 16-byte loads.
  __device__ void load(const T* x, const Frames& frames, const Place& place, int top, int left, bool vectors) {
    constexpr int kVector = Vector<T>::kSize;
    constexpr int kParts = 2 * Group<T>::kChannels / kVector;
    for (int i = threadIdx.x; i < kRows * kColumns * kParts; i += kThreads) {
      const int pixel = i / kParts;
      const int half = i % kParts / (kParts / 2);
      const int offset = i % (kParts / 2) * kVector;
      const int row = top + pixel / kColumns;
      const int column = left + pixel % kColumns;
      const int channel = place.channel + offset;
      Vector<T> vector{};
      if (row >= 0 && row < frames.height && column >= 0 && column < frames.width) {
        const T* source =
            x + (pixel_index(frames, place.batch, row, column) * 2 + half) * frames.channels + channel;
        if (vectors && channel < frames.channels) {
          vector = *reinterpret_cast<const Vector<T>*>(source);
        } else {
          for (int c = 0; c < kVector && channel + c < frames.channels; ++c) vector.values[c] = source[c];
        }
      }
      *reinterpret_cast<Vector<T>*>(&values[half][pixel][offset]) = vector;
    }
  }

  __device__ Values read(int row, int column, int pair) const {
    Values result;
    for (int half = 0; half < 2; ++half) {
      const auto both = *reinterpret_cast<const Pair<T>*>(&values[half][row * kColumns + column][2 * pair]);
      for (int c = 0; c < 2; ++c) result.at[half][c] = depthsr::load(both.values[c]);
    }
    return result;
  }
};

// The group's filters, in shared memory, zeros beyond its channels.
template <typename T>
struct Filters {
  float taps[2][kTaps + 1][Group<T>::kChannels];

  __device__ void load(const float* weight, const float* bias, int channels, const Place& place) {
    for (int i = threadIdx.x; i < 2 * (kTaps + 1) * Group<T>::kChannels; i += kThreads) {
      const int channel = i % Group<T>::kChannels;
      const int tap = i / Group<T>::kChannels % (kTaps + 1);
      const int half = i / (Group<T>::kChannels * (kTaps + 1));
      const int filter = half * channels + place.channel + channel;
      const bool exists = place.channel + channel < channels;
      taps[half][tap][channel] = !exists ? 0.0f : tap == kBias ? bias[filter] : weight[filter * kTaps + tap];
    }
  }

  __device__ Values read(int tap, int pair) const {
    Values result;
    for (int half = 0; half < 2; ++half)
      for (int c = 0; c < 2; ++c) result.at[half][c] = taps[half][tap][2 * pair + c];
    return result;
  }
};

// Correlates kRows pixels of a column with a pair of filters, or with the filters turned by 180°. read(row, column) gives
// the input, from one row and one column before the first pixel on; emit(row, sum) takes the result, without the bias.
// Each input is read once.
template <int kRows, bool kTurned, typename T, typename Read, typename Emit>
__device__ void correlate_column(const Filters<T>& filters, int pair, Read read, Emit emit) {
  Values taps[kTaps];
#pragma unroll
  for (int tap = 0; tap < kTaps; ++tap) taps[tap] = filters.read(kTurned ? kTaps - 1 - tap : tap, pair);
  Values sums[3];  // of the rows that are not complete yet
#pragma unroll
  for (int input = 0; input < kRows + 2; ++input) {
    if (input < kRows) sums[input % 3] = Values{};
#pragma unroll
    for (int x = 0; x < 3; ++x) {
      const Values in = read(input, x);
#pragma unroll
      for (int y = 0; y < 3; ++y) {
        const int row = input - y;
        if (row < 0 || row >= kRows) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int c = 0; c < 2; ++c) sums[row % 3].at[half][c] += taps[y * 3 + x].at[half][c] * in.at[half][c];
      }
    }
    if (input >= 2) emit(input - 2, sums[(input - 2) % 3]);
  }
}

// The sum over the warp's threads with the same pair of channels, in the first kPairs of them.
template <typename T>
__device__ float sum_of_warp(float value) {
#pragma unroll
  for (int offset = 16; offset >= Group<T>::kPairs; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  return value;
}

template <typename T>
__device__ void load_pair(const T* in, int remaining_channels, bool vectors, float (&values)[2]) {
  Pair<T> both{};
  if (vectors && remaining_channels >= 2) {
    both = *reinterpret_cast<const Pair<T>*>(in);
  } else {
    for (int c = 0; c < 2 && c < remaining_channels; ++c) both.values[c] = in[c];
  }
  for (int c = 0; c < 2; ++c) values[c] = load(both.values[c]);
}

template <typename T>
__device__ void store_pair(const float (&values)[2], T* out, int remaining_channels, bool vectors) {
  Pair<T> both;
  for (int c = 0; c < 2; ++c) store(values[c], both.values[c]);
  if (vectors && remaining_channels >= 2) {
    *reinterpret_cast<Pair<T>*>(out) = both;
  } else {
    for (int c = 0; c < 2 && c < remaining_channels; ++c) out[c] = both.values[c];
  }
}

// --- forward --------------------------------------------------------------------------------------------------------

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

// A block a row: out[row] = scale * the sum of its `count` values, always in the same order.
__global__ void __launch_bounds__(kThreads)
    sum_rows(const float* __restrict__ values, std::int64_t count, double scale, float* __restrict__ out) {
  __shared__ double sums[kThreads];
  const float* row = values + static_cast<std::int64_t>(blockIdx.x) * count;
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += row[i];
  sums[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<float>(scale * sums[0]);
}

void sum_rows(const float* values, std::int64_t rows, std::int64_t count, double scale, float* out, void* stream) {
  void (*kernel)(const float*, std::int64_t, double, float*) = sum_rows;
  launch(kernel, dim3(static_cast<unsigned>(rows)), dim3(kThreads), stream, values, count, scale, out);
}

// --- backward -------------------------------------------------------------------------------------------------------

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

// Whether all of these can be read and written 16 bytes at a time.
template <typename T>
bool allow_vectors(const Frames& frames, std::initializer_list<const void*> pointers) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; };
  return frames.channels % Vector<T>::kSize == 0 && std::all_of(pointers.begin(), pointers.end(), aligned);
}

template <typename T>
dim3 grid_of(const Frames& frames, std::int64_t tiles) {
  return dim3(static_cast<unsigned>(tiles * ceil_div(frames.channels, Group<T>::kChannels)),
              static_cast<unsigned>(frames.batch));
}

template <typename T>
std::int64_t backward_scratch(const Frames& frames) {
  return backward_blocks<T>(frames) * frames.batch * 2 * frames.channels * (kTaps + 1);
}

}  // namespace

std::int64_t gated_depthwise_scratch(Frames frames) { return forward_tiles(frames) * frames.channels * frames.batch; }

std::int64_t gated_depthwise_backward_scratch(Frames frames, std::size_t element_size) {
  return element_size == sizeof(float) ? backward_scratch<float>(frames) : backward_scratch<Half>(frames);
}

template <typename T>
void gated_depthwise(const T* x, const float* weight, const float* bias, Frames frames, float* scratch, T* out,
                     float* mean, void* stream) {
  const std::int64_t tiles = forward_tiles(frames);
  launch(forward<T>, grid_of<T>(frames, tiles), dim3(kThreads), stream, x, weight, bias, frames,
         allow_vectors<T>(frames, {x, out}), out, scratch);
  const double pixels = static_cast<double>(frames.height) * frames.width;
  sum_rows(scratch, std::int64_t{frames.batch} * frames.channels, tiles, 1.0 / pixels, mean, stream);
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

#define DEPTHSR_INSTANTIATE(T)                                                                                      \
  template void gated_depthwise<T>(const T*, const float*, const float*, Frames, float*, T*, float*, void*);        \
  template void gated_depthwise_backward<T>(const T*, const float*, const T*, const float*, const float*, Frames,   \
                                            float*, T*, float*, float*, void*);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr::cuda
