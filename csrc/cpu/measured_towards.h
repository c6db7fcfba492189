// What lies beyond a hole; specified by depthsr/ops/reference.py.
#pragma once

#include <cstdint>
#include <vector>

namespace depthsr {

// `filled`, but in holes the next valid value `down` and `right` of it (each -1, 0 or 1), where one is near enough.
// height * width.
std::vector<float> measured_towards(const float* filled, const bool* valid, std::int64_t height, std::int64_t width,
                                    std::int64_t down, std::int64_t right);

// Along one axis, coarse pixels from a fine pixel's nearest one to the others that are taken around it.
std::int64_t coarse_spacing(std::int64_t coarse, std::int64_t fine);

}  // namespace depthsr
