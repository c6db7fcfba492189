// How much a pixel of another colour counts in a joint bilateral filter; specified by depthsr/ops/reference.py.
#pragma once

#include "simd.h"

namespace depthsr::DEPTHSR_ISA {

// red, green, blue: differences, times 1/4 sigma.
DEPTHSR_INLINE V colour_weight(V red, V green, V blue, float floor) {
  const V alike = max(1.0f - red * red - green * green - blue * blue, V{});
  const V squared = alike * alike, fourth = squared * squared;
  return fourth * fourth + floor;
}

}  // namespace depthsr::DEPTHSR_ISA
