// Vectors of DEPTHSR_LANES floats, by the compiler's own vector types: one source for every instruction set. The file
// that includes this has told the compiler the instruction set and defined DEPTHSR_ISA, its namespace (isa_*.cpp).
//
// Nothing of the standard library is used from here on: an inline function of it, compiled for a newer processor than
// the one at hand, could be the copy that the linker keeps for everybody.
#pragma once

#if defined(DEPTHSR_BF16_AVX512)
#include <immintrin.h>
#elif defined(DEPTHSR_BF16_NEON)
#include <arm_neon.h>
#endif

#include <cstdint>
#include <cstring>

#include "depthsr/kernels.h"

#define DEPTHSR_INLINE static inline __attribute__((always_inline))
#define DEPTHSR_MEMBER inline __attribute__((always_inline))

namespace depthsr::DEPTHSR_ISA {

constexpr int LANES = DEPTHSR_LANES;

using V = float __attribute__((vector_size(LANES * 4)));
using Bits = std::uint32_t __attribute__((vector_size(LANES * 4)));
using HalfBits = std::uint16_t __attribute__((vector_size(LANES * 2)));

DEPTHSR_INLINE V splat(float value) { return value - V{}; }

DEPTHSR_INLINE V load(const float* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

DEPTHSR_INLINE void store(float* to, V value) { std::memcpy(to, &value, sizeof value); }

DEPTHSR_INLINE V load(const BFloat16* from) {
  HalfBits upper;
  std::memcpy(&upper, from, sizeof upper);
  return (V)(__builtin_convertvector(upper, Bits) << 16);
}

// Rounds to nearest, ties to even. A NaN stays one: its quiet bit is among the bits that are kept.
DEPTHSR_INLINE void store(BFloat16* to, V value) {
#if defined(DEPTHSR_BF16_AVX512)  // subnormal numbers become 0
  const __m256bh upper = _mm512_cvtneps_pbh((__m512)value);
#elif defined(DEPTHSR_BF16_NEON)
  const bfloat16x4_t upper = vcvt_bf16_f32((float32x4_t)value);
#else
  const Bits bits = (Bits)value;
  const Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const Bits kept = (Bits)(value == value) & rounded;
  const Bits quiet = (Bits)(value != value) & (bits | 0x400000);
  const HalfBits upper = __builtin_convertvector((kept | quiet) >> 16, HalfBits);
#endif
  std::memcpy(to, &upper, sizeof upper);
}

DEPTHSR_INLINE float as_float(float value) { return value; }
DEPTHSR_INLINE float as_float(BFloat16 value) { return __builtin_bit_cast(float, std::uint32_t{value.bits} << 16); }

// Numbers 0 … COUNT - 1 as template arguments: std::integer_sequence, which may not be used here.
template <int... LANE>
struct Numbers {};
template <int COUNT, int... LANE>
struct NumbersUpTo : NumbersUpTo<COUNT - 1, COUNT - 1, LANE...> {};
template <int... LANE>
struct NumbersUpTo<0, LANE...> : Numbers<LANE...> {};

// Half of the lanes: eight channels are half of the widest vectors. By way of the stack, a load would wait for two stores.
using HalfLanes = float __attribute__((vector_size(LANES * 2)));

template <int... LANE>
DEPTHSR_INLINE V lower_half(HalfLanes half, Numbers<LANE...>) {
  return __builtin_shufflevector(half, HalfLanes{}, LANE...);
}

template <int... LANE>
DEPTHSR_INLINE HalfLanes lower_half(V value, Numbers<LANE...>) {
  return __builtin_shufflevector(value, value, LANE...);
}

// The first `count` <= LANES elements; the other lanes are 0, and are not stored.
template <typename T>
DEPTHSR_INLINE V load(const T* from, std::int64_t count) {
  if (count >= LANES) return load(from);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (count == LANES / 2) {
      HalfLanes half;
      std::memcpy(&half, from, sizeof half);
      return lower_half(half, NumbersUpTo<LANES>{});
    }
  }
  T values[LANES] = {};
  for (int i = 0; i < LANES; ++i)
    if (i < count) values[i] = from[i];
  return load(values);
}

template <typename T>
DEPTHSR_INLINE void store(T* to, V value, std::int64_t count) {
  if (count >= LANES) return store(to, value);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (count == LANES / 2) {
      const HalfLanes half = lower_half(value, NumbersUpTo<LANES / 2>{});
      std::memcpy(to, &half, sizeof half);
      return;
    }
  }
  T values[LANES];
  store(values, value);
  for (int i = 0; i < LANES; ++i)
    if (i < count) to[i] = values[i];
}

DEPTHSR_INLINE V min(V a, V b) { return a < b ? a : b; }
DEPTHSR_INLINE V max(V a, V b) { return a > b ? a : b; }
DEPTHSR_INLINE std::int64_t min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
DEPTHSR_INLINE std::int64_t max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// Four floats, on every instruction set.
using Four = float __attribute__((vector_size(16)));

DEPTHSR_INLINE Four fold_to_four(V value) {
  Four parts[LANES / 4];
  std::memcpy(parts, &value, sizeof parts);
  if constexpr (LANES == 16) return (parts[0] + parts[2]) + (parts[1] + parts[3]);
  if constexpr (LANES == 8) return parts[0] + parts[1];
  return parts[0];
}

// The sum of all lanes, in a fixed order; of four vectors at once in about the time of two.
DEPTHSR_INLINE float sum(V value) {
  const Four four = fold_to_four(value);
  const Four pairs = four + __builtin_shufflevector(four, four, 2, 3, 2, 3);
  return pairs[0] + pairs[1];
}

DEPTHSR_INLINE Four sums(V a, V b, V c, V d) {
  const Four e = fold_to_four(a), f = fold_to_four(b), g = fold_to_four(c), h = fold_to_four(d);
  const Four ef = __builtin_shufflevector(e, f, 0, 4, 1, 5) + __builtin_shufflevector(e, f, 2, 6, 3, 7);
  const Four gh = __builtin_shufflevector(g, h, 0, 4, 1, 5) + __builtin_shufflevector(g, h, 2, 6, 3, 7);
  return __builtin_shufflevector(ef, gh, 0, 1, 4, 5) + __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}

// Of x < 88: 2^n · 2^r with a polynomial for |r| <= 1/2 (least largest error, 1.1e-7). Relative error below
// 2e-7 · (1 + |x|), so that what a softmax is off by stays near the last place. Saturates at e^-87.
DEPTHSR_INLINE V exponential(V x) {
  x = max(x, splat(-87.0f));
  const V shift = splat(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer, found in the low bits
  const V biased = x * 1.44269504088896341f + shift;
  const V r = x * 1.44269504088896341f - (biased - shift);
  V p = splat(1.3264727313e-3f);
  p = p * r + 9.6715129912e-3f;
  p = p * r + 5.5507335812e-2f;
  p = p * r + 2.4022242427e-1f;
  p = p * r + 6.9314700365e-1f;
  p = p * r + 1.0f;
  return (V)((Bits)p + ((Bits)biased << 23));  // the shift leaves n alone of those bits: it is added to p's exponent
}

// Natural logarithm of positive normal numbers (Cephes' coefficients for logf).
DEPTHSR_INLINE V log(V x) {
  const Bits bits = (Bits)x;
  using Integers = std::int32_t __attribute__((vector_size(LANES * 4)));
  V n = __builtin_convertvector((Integers)(bits >> 23) - 126, V);
  V m = (V)((bits & 0x007fffff) | 0x3f000000);  // in [0.5, 1)
  const auto small = m < splat(0.707106781186547524f);
  n = small ? n - 1.0f : n;
  m = (small ? m + m : m) - 1.0f;
  const V square = m * m;
  V p = splat(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  return m + (p * m * square - 0.5f * square - n * 2.12194440e-4f) + n * 0.693359375f;
}

// Swaps the lanes of `a` whose number has bit D with those of `b` that lie D before and have it not.
template <int D, int... LANE>
DEPTHSR_INLINE void swap_lanes(V& a, V& b, Numbers<LANE...>) {
  const V low = __builtin_shufflevector(a, b, (LANE & D ? LANES + LANE - D : LANE)...);
  b = __builtin_shufflevector(a, b, (LANE & D ? LANES + LANE : LANE + D)...);
  a = low;
}

// Lane j of vector i becomes lane i of vector j.
template <int D = 1>
DEPTHSR_INLINE void transpose(V* vectors) {
  if constexpr (D < LANES) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i)
      if (!(i & D)) swap_lanes<D>(vectors[i], vectors[i + D], NumbersUpTo<LANES>{});
    transpose<2 * D>(vectors);
  }
}

}  // namespace depthsr::DEPTHSR_ISA
