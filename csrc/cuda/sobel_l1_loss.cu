#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "../sobel.h"

namespace depthsr::cuda {
namespace {

constexpr int kTileX = 32;  // a warp reads a row of neighbouring pixels
constexpr int kTileY = 8;
constexpr int kThreads = kTileX * kTileY;
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
    for (int i = threadIdx.y * kTileX + threadIdx.x; i < kWidth * kHeight; i += kThreads) {
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

// One row of kSums partial sums a block. No atomics: the loss is the same every time.
template <typename T>
__global__ void partial_sums(DepthPair<T> pair, double* partial) {
  __shared__ Tile<1> tile;
  __shared__ float warps[kSums][kWarps];
  tile.load(pair);
  __syncthreads();
  const int y = threadIdx.y + 1;
  const int x = threadIdx.x + 1;
  float sums[kSums] = {fabsf(tile.d[y][x]), tile.valid[y][x] ? 1.0f : 0.0f, 0.0f, 0.0f};
  if (tile.interior(y, x)) {
    sums[2] = fabsf(gradient_x(&tile.d[y][x], tile.kWidth)) + fabsf(gradient_y(&tile.d[y][x], tile.kWidth));
    sums[3] = 1.0f;
  }
  for (int sum = 0; sum < kSums; ++sum) {
    for (int offset = 16; offset > 0; offset /= 2) sums[sum] += __shfl_down_sync(0xffffffffu, sums[sum], offset);
    if (threadIdx.x == 0) warps[sum][threadIdx.y] = sums[sum];
  }
  __syncthreads();
  if (threadIdx.y == 0 && threadIdx.x < kSums) {
    const std::int64_t block = (static_cast<std::int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    double total = 0;
    for (int warp = 0; warp < kWarps; ++warp) total += warps[threadIdx.x][warp];
    partial[block * kSums + threadIdx.x] = total;
  }
}

// One block: the partial sums of all blocks, in a fixed order, into `totals`; and the loss, where wanted.
__global__ void finish(const double* partial, std::int64_t blocks, double l1_weight, double gradient_weight,
                       double* totals, float* loss) {
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
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int sum = 0; sum < kSums; ++sum) totals[sum] = sums[sum][0];
  if (loss != nullptr)
    *loss = static_cast<float>(l1_weight * totals[0] / fmax(totals[1], 1.0) +
                               gradient_weight * totals[2] / fmax(totals[3], 1.0));
}

// The loss is linear in the signs s of d, Gx d and Gy d, so its gradient is s plus Gxᵀ sx + Gyᵀ sy. Sobel kernels are
// odd: their transposes are their negatives.
template <typename T>
__global__ void gradient(const float* grad_out, DepthPair<T> pair, double l1_weight, double gradient_weight,
                         const double* totals, T* grad_pred) {
  __shared__ Tile<2> tile;
  __shared__ float sign_x[kTileY + 2][kTileX + 2], sign_y[kTileY + 2][kTileX + 2];
  tile.load(pair);
  __syncthreads();
  for (int i = threadIdx.y * kTileX + threadIdx.x; i < (kTileX + 2) * (kTileY + 2); i += kThreads) {
    const int y = i / (kTileX + 2);
    const int x = i % (kTileX + 2);
    const bool interior = tile.interior(y + 1, x + 1);
    const float* d = &tile.d[y + 1][x + 1];
    sign_x[y][x] = interior ? sign(gradient_x(d, tile.kWidth)) : 0.0f;
    sign_y[y][x] = interior ? sign(gradient_y(d, tile.kWidth)) : 0.0f;
  }
  __syncthreads();
  const std::int64_t y = static_cast<std::int64_t>(blockIdx.y) * kTileY + threadIdx.y;
  const std::int64_t x = static_cast<std::int64_t>(blockIdx.x) * kTileX + threadIdx.x;
  if (y >= pair.height || x >= pair.width) return;
  const float l1_scale = static_cast<float>(*grad_out * l1_weight / fmax(totals[1], 1.0));
  const float gradient_scale = static_cast<float>(*grad_out * gradient_weight / fmax(totals[3], 1.0));
  const float transposed = -gradient_x(&sign_x[threadIdx.y + 1][threadIdx.x + 1], kTileX + 2) -
                           gradient_y(&sign_y[threadIdx.y + 1][threadIdx.x + 1], kTileX + 2);
  const bool valid = tile.valid[threadIdx.y + 2][threadIdx.x + 2];
  const float grad = l1_scale * sign(tile.d[threadIdx.y + 2][threadIdx.x + 2]) + gradient_scale * transposed;
  store(valid ? grad : 0.0f, grad_pred[(blockIdx.z * pair.height + y) * pair.width + x]);
}

dim3 grid_of(std::int64_t batch, std::int64_t height, std::int64_t width) {
  return dim3(static_cast<unsigned>((width + kTileX - 1) / kTileX), static_cast<unsigned>((height + kTileY - 1) / kTileY),
              static_cast<unsigned>(batch));
}

std::int64_t blocks_of(dim3 grid) { return static_cast<std::int64_t>(grid.x) * grid.y * grid.z; }

void check_launch() {
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess)
    throw std::runtime_error(std::string("depthsr: a CUDA kernel could not be launched: ") + cudaGetErrorString(error));
}

// Scratch memory: the totals, then the partial sums.
template <typename T>
void sums(DepthPair<T> pair, double l1_weight, double gradient_weight, double* scratch, float* loss,
          cudaStream_t stream) {
  const dim3 grid = grid_of(pair.batch, pair.height, pair.width);
  const std::int64_t blocks = blocks_of(grid);
  if (blocks > 0) partial_sums<T><<<grid, dim3(kTileX, kTileY), 0, stream>>>(pair, scratch + kSums);
  check_launch();
  finish<<<1, kThreads, 0, stream>>>(scratch + kSums, blocks, l1_weight, gradient_weight, scratch, loss);
  check_launch();
}

}  // namespace

std::int64_t sobel_l1_loss_scratch(std::int64_t batch, std::int64_t height, std::int64_t width) {
  return kSums * (1 + blocks_of(grid_of(batch, height, width)));
}

template <typename T>
void sobel_l1_loss(DepthPair<T> pair, double l1_weight, double gradient_weight, double* scratch, float* loss,
                   void* stream) {
  sums(pair, l1_weight, gradient_weight, scratch, loss, static_cast<cudaStream_t>(stream));
}

template <typename T>
void sobel_l1_loss_backward(const float* grad_out, DepthPair<T> pair, double l1_weight, double gradient_weight,
                            double* scratch, T* grad_pred, void* stream) {
  const dim3 grid = grid_of(pair.batch, pair.height, pair.width);
  if (blocks_of(grid) == 0) return;
  const auto queue = static_cast<cudaStream_t>(stream);
  sums(pair, l1_weight, gradient_weight, scratch, nullptr, queue);
  gradient<T><<<grid, dim3(kTileX, kTileY), 0, queue>>>(grad_out, pair, l1_weight, gradient_weight, scratch, grad_pred);
  check_launch();
}

#define DEPTHSR_INSTANTIATE(T)                                                             \
  template void sobel_l1_loss<T>(DepthPair<T>, double, double, double*, float*, void*);    \
  template void sobel_l1_loss_backward<T>(const float*, DepthPair<T>, double, double, double*, T*, void*);
DEPTHSR_INSTANTIATE(float)
DEPTHSR_INSTANTIATE(Half)
DEPTHSR_INSTANTIATE(BFloat16)
#undef DEPTHSR_INSTANTIATE

}  // namespace depthsr::cuda
