// L1 of the difference and of its Sobel gradients, and what the gradient needs, in one pass over memory.
//
// The loss is linear in the signs s of d, Gx d and Gy d, so its gradient is s plus Gxᵀ sx + Gyᵀ sy, each times a factor
// that is known only when all pixels are counted. Both are small integers: forward writes them as one byte a pixel, and
// backward reads nothing else. For float32 frames that is 9 bytes a pixel forward (8 without gradient) and 5 backward.

#include "../sobel.h"
#include "depthsr/cuda_kernels.h"
#include "launch.h"

namespace depthsr::cuda {
namespace {

constexpr int kTileX = 64;
constexpr int kTileY = 16;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kSums = 4;  // Σ|d|, valid pixels, Σ(|Gx d| + |Gy d|), interior pixels

// A block's pixels and kHalo around them: d = pred - target where valid, 0 elsewhere, outside the frame included.
template <int kHalo>
struct Tile {
  static constexpr int kWidth = kTileX + 2 * kHalo;
  static constexpr int kHeight = kTileY + 2 * kHalo;
  float d[kHeight][kWidth];
  bool valid[kHeight][kWidth];

  template <typename T>
  __device__ void load(const DepthPair<T>& pair) {
    const std::int64_t frame = blockIdx.z * pair.height * pair.width;
    for (int i = threadIdx.x; i < kWidth * kHeight; i += kThreads) {
      const std::int64_t y = static_cast<std::int64_t>(blockIdx.y) * kTileY + i / kWidth - kHalo;
      const std::int64_t x = static_cast<std::int64_t>(blockIdx.x) * kTileX + i % kWidth - kHalo;
      const bool inside = y >= 0 && y < pair.height && x >= 0 && x < pair.width;
      const std::int64_t pixel = frame + y * pair.width + x;
      const bool is_valid = inside && (pair.valid == nullptr || pair.valid[pixel]);
      valid[i / kWidth][i % kWidth] = is_valid;
      d[i / kWidth][i % kWidth] = is_valid ? depthsr::load(pair.pred[pixel]) - depthsr::load(pair.target[pixel]) : 0.0f;
    }
  }

  __device__ bool interior(int y, int x) const {
    bool whole = true;
    for (int row = y - 1; row <= y + 1; ++row)
      for (int column = x - 1; column <= x + 1; ++column) whole = whole && valid[row][column];
    return whole;
  }
};

// A pixel's slope: the sign of d and 8 (Gxᵀ sx + Gyᵀ sy), which is whole and at most 16 either way.
constexpr int kMost = 16;
constexpr int kValues = 2 * kMost + 1;

__device__ std::uint8_t pack(float sign_d, float transposed) {
  return static_cast<std::uint8_t>((static_cast<int>(sign_d) + 1) * kValues + static_cast<int>(8 * transposed) + kMost);
}

__device__ float sign_d(std::uint8_t slope) { return static_cast<float>(slope / kValues - 1); }

__device__ float eight_transposed(std::uint8_t slope) { return static_cast<float>(slope % kValues - kMost); }

// One row of kSums partial sums a block. Signs of the gradients are needed one pixel around the tile, d two pixels.
template <typename T, bool kSlopes>
__global__ void __launch_bounds__(kThreads) partial_sums(DepthPair<T> pair, double* partial, std::uint8_t* slopes) {
  constexpr int kRing = kSlopes ? 1 : 0;
  constexpr int kSignsWidth = kTileX + 2 * kRing;
  constexpr int kSignsHeight = kTileY + 2 * kRing;
  __shared__ Tile<1 + kRing> tile;
  __shared__ float signs[2][kSlopes ? kSignsHeight : 1][kSlopes ? kSignsWidth : 1];
  __shared__ float warps[kSums][kWarps];
  tile.load(pair);
  __syncthreads();

  float sums[kSums] = {};
  for (int i = threadIdx.x; i < kSignsWidth * kSignsHeight; i += kThreads) {
    const int y = i / kSignsWidth;
    const int x = i % kSignsWidth;
    const bool interior = tile.interior(y + 1, x + 1);
    const float* d = &tile.d[y + 1][x + 1];
    const float along_x = interior ? gradient_x(d, tile.kWidth) : 0.0f;
    const float along_y = interior ? gradient_y(d, tile.kWidth) : 0.0f;
    if constexpr (kSlopes) {
      signs[0][y][x] = sign(along_x);
      signs[1][y][x] = sign(along_y);
    }
    if (y < kRing || y >= kTileY + kRing || x < kRing || x >= kTileX + kRing) continue;  // another block's
    sums[0] += fabsf(*d);
    sums[1] += tile.valid[y + 1][x + 1] ? 1.0f : 0.0f;
    sums[2] += fabsf(along_x) + fabsf(along_y);
    sums[3] += interior ? 1.0f : 0.0f;
  }

  for (int sum = 0; sum < kSums; ++sum) {
    for (int offset = 16; offset > 0; offset /= 2) sums[sum] += __shfl_down_sync(0xffffffffu, sums[sum], offset);
    if (threadIdx.x % 32 == 0) warps[sum][threadIdx.x / 32] = sums[sum];
  }
  __syncthreads();
  if (threadIdx.x < kSums) {
    const std::int64_t block = (static_cast<std::int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    double total = 0;
    for (int warp = 0; warp < kWarps; ++warp) total += warps[threadIdx.x][warp];
    partial[block * kSums + threadIdx.x] = total;
  }

  if constexpr (kSlopes) {
    for (int i = threadIdx.x; i < kTileX * kTileY; i += kThreads) {
      const std::int64_t y = static_cast<std::int64_t>(blockIdx.y) * kTileY + i / kTileX;
      const std::int64_t x = static_cast<std::int64_t>(blockIdx.x) * kTileX + i % kTileX;
      if (y >= pair.height || x >= pair.width) continue;
      const int row = i / kTileX + 1;
      const int column = i % kTileX + 1;
      // Sobel kernels are odd: their transposes are their negatives. What is invalid has no interior neighbour: 0.
      const float transposed =
          -gradient_x(&signs[0][row][column], kSignsWidth) - gradient_y(&signs[1][row][column], kSignsWidth);
      slopes[(blockIdx.z * pair.height + y) * pair.width + x] = pack(sign(tile.d[row + 1][column + 1]), transposed);
    }
  }
}

// One block: the partial sums of all blocks, in a fixed order, the loss and the factors of its gradient.
__global__ void __launch_bounds__(kThreads)
    finish(const double* partial, std::int64_t blocks, double l1_weight, double gradient_weight, float* loss,
           float* scales) {
  __shared__ double sums[kSums][kThreads];
  double own[kSums] = {};
  for (std::int64_t block = threadIdx.x; block < blocks; block += kThreads)
    for (int sum = 0; sum < kSums; ++sum) own[sum] += partial[block * kSums + sum];
  for (int sum = 0; sum < kSums; ++sum) sums[sum][threadIdx.x] = own[sum];
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
      for (int sum = 0; sum < kSums; ++sum) sums[sum][threadIdx.x] += sums[sum][threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  const double l1_scale = l1_weight / fmax(sums[1][0], 1.0);
  const double gradient_scale = gradient_weight / fmax(sums[3][0], 1.0);
  *loss = static_cast<float>(l1_scale * sums[0][0] + gradient_scale * sums[2][0]);
  scales[0] = static_cast<float>(l1_scale);
  scales[1] = static_cast<float>(gradient_scale / 8);
}

constexpr int kPixels = 4;  // of a thread, read and written together

template <typename T>
struct alignas(kPixels * sizeof(T)) Run {
  T values[kPixels];
};

template <typename T>
__global__ void __launch_bounds__(kThreads) gradient(const float* grad_out, const std::uint8_t* slopes,
                                                     const float* scales, std::int64_t pixels, T* grad_pred) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPixels;
  if (first >= pixels) return;
  const float l1_scale = *grad_out * scales[0];
  const float gradient_scale = *grad_out * scales[1];
  const auto grad = [=](std::uint8_t slope) {
    return l1_scale * sign_d(slope) + gradient_scale * eight_transposed(slope);
  };
  if (first + kPixels <= pixels) {
    const auto run = *reinterpret_cast<const Run<std::uint8_t>*>(slopes + first);
    Run<T> out;
    for (int i = 0; i < kPixels; ++i) store(grad(run.values[i]), out.values[i]);
    *reinterpret_cast<Run<T>*>(grad_pred + first) = out;
  } else {
    for (std::int64_t i = first; i < pixels; ++i) store(grad(slopes[i]), grad_pred[i]);
  }
}

dim3 grid_of(std::int64_t batch, std::int64_t height, std::int64_t width) {
  return dim3(static_cast<unsigned>(ceil_div(width, kTileX)), static_cast<unsigned>(ceil_div(height, kTileY)),
              static_cast<unsigned>(batch));
}

std::int64_t blocks_of(dim3 grid) { return static_cast<std::int64_t>(grid.x) * grid.y * grid.z; }

}  // namespace

std::int64_t sobel_l1_loss_scratch(std::int64_t batch, std::int64_t height, std::int64_t width) {
  return kSums * blocks_of(grid_of(batch, height, width));
}

template <typename T>
void sobel_l1_loss(DepthPair<T> pair, double l1_weight, double gradient_weight, double* scratch, float* loss,
                   std::uint8_t* slopes, float* scales, void* stream) {
  const dim3 grid = grid_of(pair.batch, pair.height, pair.width);
  launch(slopes != nullptr ? partial_sums<T, true> : partial_sums<T, false>, grid, dim3(kThreads), stream, pair, scratch,
         slopes);
  launch(finish, dim3(1), dim3(kThreads), stream, scratch, blocks_of(grid), l1_weight, gradient_weight, loss, scales);
}

template <typename T>
void sobel_l1_loss_gradient(const float* grad_out, const std::uint8_t* slopes, const float* scales,
                            std::int64_t pixels, T* grad_pred, void* stream) {
  const std::int64_t blocks = ceil_div(pixels, kThreads * kPixels);
  launch(gradient<T>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), stream, grad_out, slopes, scales, pixels,
         grad_pred);
}

#define DEPTHSR_INSTANTIATE(T)                                                                                    \
  template void sobel_l1_loss<T>(DepthPair<T>, double, double, double*, float*, std::uint8_t*, float*, void*);    \
  template void sobel_l1_loss_gradient<T>(const float*, const std::uint8_t*, const float*, std::int64_t, T*, void*);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr::cuda
