// Mean and variance of every plane (one channel of one frame) of two tensors, in one pass over memory, in either layout.
//
// Sums are never of squares: a thread takes the mean and the squared deviations of a few values in registers and merges
// such pairs (Chan, Golub & LeVeque 1979), a block merges its threads', and a second kernel the blocks', in double. Each
// merge has its fixed place, so results are the same every time.

#include <algorithm>

#include "../storage.h"
#include "depthsr/cuda_kernels.h"
#include "launch.h"

namespace depthsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kValues = 8;  // of a thread at a time: loads in flight

// Of one plane: how many partial results at most, so that merging them stays cheap. Not measured.
constexpr std::int64_t kMostChunks = 512;

template <typename Float>
struct Moments {
  Float mean;
  Float m2;  // sum of squared deviations from the mean
  Float count;

  __device__ void merge(const Moments& other) {
    if (other.count == 0) return;
    const Float total = count + other.count;
    const Float delta = other.mean - mean;
    const Float share = other.count / total;
    mean += delta * share;
    m2 += other.m2 + delta * delta * count * share;
    count = total;
  }
};

struct MeanAndM2 {
  float mean, m2;
};

// How one tensor's planes are divided among blocks. A block has `lanes` channels side by side (channels last) or one,
// and takes `chunk` pixels of them.
struct Division {
  Shape shape;
  int lanes;     // a power of two
  int groups;    // of channels
  int chunk;     // pixels
  int chunks;    // of a plane
};

Division divide(Shape shape) {
  // 32 channels of 2 bytes are two sectors; fewer channels: more pixels.
  const int lanes = !shape.channels_last ? 1 : shape.channels > 16 ? 32 : shape.channels > 8 ? 16 : 8;
  const std::int64_t step = kThreads / lanes * kValues;
  const std::int64_t steps = ceil_div(ceil_div(shape.pixels, step), kMostChunks);
  const std::int64_t chunk = std::max<std::int64_t>(steps, 1) * step;
  return {shape, lanes, static_cast<int>(ceil_div(shape.channels, lanes)), static_cast<int>(chunk),
          static_cast<int>(ceil_div(shape.pixels, chunk))};
}

DEPTHSR_HOST_DEVICE std::int64_t blocks_of(const Division& division) {
  return division.shape.batch * division.groups * division.chunks;
}

std::int64_t partials_of(const Division& division) {
  return division.shape.batch * division.shape.channels * division.chunks;
}

template <typename T>
struct Side {
  const T* x;
  Division division;
  MeanAndM2* partial;  // [plane][chunk]
  MeanAndVariance out;
};

template <typename T>
struct Sides {
  Side<T> content, style;
};

template <typename T>
__device__ void moments_of_chunk(const Side<T>& side, std::int64_t block, Moments<float> (&merged)[kThreads]) {
  const Division& division = side.division;
  const Shape& shape = division.shape;
  const int lane = threadIdx.x % division.lanes;
  const int chunk = static_cast<int>(block % division.chunks);
  const int group = static_cast<int>(block / division.chunks % division.groups);
  const std::int64_t batch = block / division.chunks / division.groups;
  const std::int64_t channel = group * division.lanes + lane;
  const std::int64_t first = static_cast<std::int64_t>(chunk) * division.chunk + threadIdx.x / division.lanes;
  const std::int64_t last = min(static_cast<std::int64_t>(chunk + 1) * division.chunk, shape.pixels);
  const std::int64_t stride = shape.channels_last ? shape.channels : 1;  // from pixel to pixel
  const T* plane = side.x + (shape.channels_last ? batch * shape.pixels * shape.channels + channel
                                                 : (batch * shape.channels + channel) * shape.pixels);
  const int step = kThreads / division.lanes;

  Moments<float> own = {0.0f, 0.0f, 0.0f};
  for (std::int64_t pixel = first; channel < shape.channels && pixel < last; pixel += kValues * step) {
    float values[kValues];
    float sum = 0.0f;
    int count = 0;
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const bool exists = pixel + i * step < last;
      values[i] = exists ? load(plane[(pixel + i * step) * stride]) : 0.0f;
      sum += values[i];
      count += exists;
    }
    Moments<float> next = {sum / static_cast<float>(count), 0.0f, static_cast<float>(count)};
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const float deviation = i < count ? values[i] - next.mean : 0.0f;
      next.m2 += deviation * deviation;
    }
    own.merge(next);
  }

  merged[threadIdx.x] = own;
  for (int half = kThreads / 2; half >= division.lanes; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) merged[threadIdx.x].merge(merged[threadIdx.x + half]);
  }
  if (threadIdx.x < division.lanes && channel < shape.channels)
    side.partial[(batch * shape.channels + channel) * division.chunks + chunk] = {merged[threadIdx.x].mean,
                                                                                  merged[threadIdx.x].m2};
}

// The first blocks are the content's, the others the style's.
template <typename T>
__global__ void __launch_bounds__(kThreads) partial_moments(const __grid_constant__ Sides<T> sides) {
  __shared__ Moments<float> merged[kThreads];
  const std::int64_t content_blocks = blocks_of(sides.content.division);
  if (blockIdx.x < content_blocks)
    moments_of_chunk(sides.content, blockIdx.x, merged);
  else
    moments_of_chunk(sides.style, blockIdx.x - content_blocks, merged);
}

// A block a plane.
template <typename T>
__device__ void merge_chunks(const Side<T>& side, std::int64_t plane, std::int64_t correction,
                             Moments<double> (&merged)[kThreads]) {
  const Division& division = side.division;
  const std::int64_t pixels = division.shape.pixels;
  Moments<double> own = {0.0, 0.0, 0.0};
  for (int chunk = threadIdx.x; chunk < division.chunks; chunk += kThreads) {
    const MeanAndM2 partial = side.partial[plane * division.chunks + chunk];
    const std::int64_t rest = pixels - static_cast<std::int64_t>(chunk) * division.chunk;
    own.merge({partial.mean, partial.m2, static_cast<double>(rest < division.chunk ? rest : division.chunk)});
  }
  merged[threadIdx.x] = own;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) merged[threadIdx.x].merge(merged[threadIdx.x + half]);
  }
  if (threadIdx.x != 0) return;
  const std::int64_t degrees = pixels - correction > 1 ? pixels - correction : 1;
  // The mean of no pixels is not a number, as torch has it.
  side.out.mean[plane] = pixels > 0 ? static_cast<float>(merged[0].mean) : NAN;
  side.out.variance[plane] = static_cast<float>(merged[0].m2 / static_cast<double>(degrees));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    finish(const __grid_constant__ Sides<T> sides, std::int64_t correction) {
  __shared__ Moments<double> merged[kThreads];
  const std::int64_t planes = gridDim.x / 2;
  if (blockIdx.x < planes)
    merge_chunks(sides.content, blockIdx.x, correction, merged);
  else
    merge_chunks(sides.style, blockIdx.x - planes, correction, merged);
}

}  // namespace

std::int64_t adain_statistics_scratch(Shape content, Shape style) {
  return 2 * (partials_of(divide(content)) + partials_of(divide(style)));
}

template <typename T>
void adain_statistics(const T* content, Shape content_shape, const T* style, Shape style_shape,
                      std::int64_t correction, float* scratch, MeanAndVariance content_out, MeanAndVariance style_out,
                      void* stream) {
  Sides<T> sides{{content, divide(content_shape), reinterpret_cast<MeanAndM2*>(scratch), content_out},
                 {style, divide(style_shape), nullptr, style_out}};
  sides.style.partial = sides.content.partial + partials_of(sides.content.division);
  const std::int64_t blocks = blocks_of(sides.content.division) + blocks_of(sides.style.division);
  launch(partial_moments<T>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), stream, sides);
  const std::int64_t planes = content_shape.batch * content_shape.channels;
  launch(finish<T>, dim3(static_cast<unsigned>(2 * planes)), dim3(kThreads), stream, sides, correction);
}

#define DEPTHSR_INSTANTIATE(T)                                                                               \
  template void adain_statistics<T>(const T*, Shape, const T*, Shape, std::int64_t, float*, MeanAndVariance, \
                                    MeanAndVariance, void*);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr::cuda
