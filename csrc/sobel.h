// The Sobel kernels, divided by 8 so that a ramp of 1 a pixel has gradient 1. For the CPU and for CUDA kernels.
#pragma once

#include <cstdint>

#include "storage.h"

namespace depthsr {

// d points at the centre of a 3×3 neighbourhood in rows `width` apart.
DEPTHSR_HOST_DEVICE inline float gradient_x(const float* d, std::int64_t width) {
  return ((d[1 - width] - d[-1 - width]) + 2 * (d[1] - d[-1]) + (d[1 + width] - d[-1 + width])) / 8;
}

DEPTHSR_HOST_DEVICE inline float gradient_y(const float* d, std::int64_t width) {
  return ((d[width - 1] - d[-width - 1]) + 2 * (d[width] - d[-width]) + (d[width + 1] - d[-width + 1])) / 8;
}

DEPTHSR_HOST_DEVICE inline float sign(float value) { return static_cast<float>((value > 0) - (value < 0)); }

}  // namespace depthsr
