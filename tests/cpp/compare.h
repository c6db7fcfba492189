// How far a result may lie from the reference; the same rule as tests/ops/conftest.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "storage.h"
#include "run.h"

inline double machine_epsilon(char type) {
  return type == 'f' ? 0x1p-23 : type == 'h' ? 0x1p-10 : 0x1p-7;
}

// Multiples of the storage type's machine epsilon, relative to the value and to the root mean square of all values.
inline double tolerance(char type) { return (type == 'f' ? 64.0 : 1.0) * machine_epsilon(type); }

inline double value(const Output& output, std::int64_t i) {
  switch (output.type()) {
    case 'f': return output.data<float>()[i];
    case 'h': return depthsr::load(output.data<depthsr::Half>()[i]);
    case 'b': return depthsr::load(output.data<depthsr::BFloat16>()[i]);
    default: throw std::runtime_error("no tolerance for a result of this type");
  }
}

// The largest error as a share of what is allowed: above 1 is wrong. NaN and infinities must be where the reference's are.
inline double error_share(const Output& output, const Array& expected, double allowed) {
  const double* want = expected.data<double>();
  double squares = 0;
  std::int64_t finite = 0;
  for (std::int64_t i = 0; i < expected.count(); ++i)
    if (std::isfinite(want[i])) squares += want[i] * want[i], ++finite;
  const double scale = finite > 0 ? std::sqrt(squares / static_cast<double>(finite)) : 0.0;
  double worst = 0;
  for (std::int64_t i = 0; i < expected.count(); ++i) {
    const double got = value(output, i);
    if (std::isnan(want[i]) ? std::isnan(got) : got == want[i]) continue;
    const double share = std::fabs(got - want[i]) / (allowed * (std::fabs(want[i]) + scale));
    if (std::isnan(share)) return INFINITY;
    worst = std::max(worst, share);
  }
  return worst;
}
