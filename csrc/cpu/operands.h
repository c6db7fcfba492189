// What matrix products multiply: floats, or, on processors with instructions for it, pairs of BFloat16 whose two products
// are added to one float. One step of a product takes STEP neighbouring inputs of a row.
#pragma once

#include "simd.h"

namespace depthsr::DEPTHSR_ISA {

template <typename O>
struct Operands;

template <>
struct Operands<float> {
  static constexpr int STEP = 1;
  using Vector = V;

  static DEPTHSR_MEMBER V broadcast(const float* input) { return splat(*input); }
  static DEPTHSR_MEMBER V weights(const float* from) { return load(from); }
  static DEPTHSR_MEMBER V multiply_add(V inputs, V weights, V sum) { return sum + inputs * weights; }
};

// A pair lies in 32 bits, its first element in the lower half.
template <>
struct Operands<BFloat16> {
  static constexpr int STEP = 2;
  using Vector = Bits;

  static DEPTHSR_MEMBER Bits broadcast(const BFloat16* inputs) {
    std::uint32_t pair;
    std::memcpy(&pair, inputs, sizeof pair);
    return pair - Bits{};
  }

  static DEPTHSR_MEMBER Bits weights(const BFloat16* from) {
    Bits pairs;
    std::memcpy(&pairs, from, sizeof pairs);
    return pairs;
  }

  static DEPTHSR_MEMBER V multiply_add(Bits inputs, Bits weights, V sum) {
#if defined(DEPTHSR_BF16_AVX512)
    return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)inputs, (__m512bh)weights);
#elif defined(DEPTHSR_BF16_NEON)
    return (V)vbfdotq_f32((float32x4_t)sum, vreinterpretq_bf16_u32((uint32x4_t)inputs),
                          vreinterpretq_bf16_u32((uint32x4_t)weights));
#else
    const Bits upper = Bits{} + 0xffff0000u;
    return sum + (V)(inputs << 16) * (V)(weights << 16) + (V)(inputs & upper) * (V)(weights & upper);
#endif
  }
};

// What products of activations stored as T multiply: T itself where that is fast.
template <typename T>
struct OperandOf {
  using Type = float;
};

#if defined(DEPTHSR_BF16_AVX512) || defined(DEPTHSR_BF16_NEON) || defined(DEPTHSR_BF16_EMULATED)
template <>
struct OperandOf<BFloat16> {
  using Type = BFloat16;
};
#endif

template <typename T>
using Operand = typename OperandOf<T>::Type;

// Floats of memory that `count` operands take; `count` is even.
template <typename O>
constexpr std::int64_t floats_of(std::int64_t count) {
  return count * static_cast<std::int64_t>(sizeof(O)) / static_cast<std::int64_t>(sizeof(float));
}

// `count` activations as operands: where they are already, or converted into `memory`.
template <typename O>
DEPTHSR_INLINE const O* as_operands(const O* from, std::int64_t, void*) {
  return from;
}

template <typename O>
DEPTHSR_INLINE const O* as_operands(const BFloat16* from, std::int64_t count, void* memory)
  requires(sizeof(O) == sizeof(float))
{
  float* to = static_cast<float*>(memory);
  for (std::int64_t i = 0; i < count; i += LANES) store(to + i, load(from + i, count - i), count - i);
  return to;
}

}  // namespace depthsr::DEPTHSR_ISA
