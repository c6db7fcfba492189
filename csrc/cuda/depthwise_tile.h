// What the forward and the backward pass of gated_depthwise share: tiles of pixels and groups of channels, filters, sums.
//
// A block computes a tile of pixels for a group of channels, 32 bytes of memory (one sector) in either half of x. The
// tile and its halo are loaded whole before the arithmetic, by loads that are all in flight together: one thread's
// sliding window alone would wait for memory row by row. A thread computes two neighbouring channels, and their gates,
// down a piece of a column.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "../storage.h"
#include "depthsr/cuda_kernels.h"
#include "launch.h"

namespace depthsr::cuda {
namespace {  // each file that includes this has kernels of its own

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

}  // namespace
}  // namespace depthsr::cuda
