// Storage types to float and back, on the CPU and in CUDA kernels, without branches so that loops over them vectorise.
// Rounds to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

#include "depthsr/kernels.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DEPTHSR_HOST_DEVICE __host__ __device__
#else
#define DEPTHSR_HOST_DEVICE
#endif

namespace depthsr {

DEPTHSR_HOST_DEVICE inline float bits_to_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

DEPTHSR_HOST_DEVICE inline std::uint32_t float_to_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

DEPTHSR_HOST_DEVICE inline float load(float value) { return value; }

DEPTHSR_HOST_DEVICE inline float load(BFloat16 value) { return bits_to_float(static_cast<std::uint32_t>(value.bits) << 16); }

// The half's exponent and mantissa, moved to where a float keeps them, are off by 2^112, for subnormals too.
DEPTHSR_HOST_DEVICE inline float load(Half value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));  // GPUs convert in one instruction
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000) << 16;
  const float magnitude = bits_to_float(static_cast<std::uint32_t>(value.bits & 0x7fff) << 13) * 0x1p112f;
  const std::uint32_t infinity_or_nan = magnitude >= 65536.0f ? 0x7f800000u : 0u;
  return bits_to_float(sign | infinity_or_nan | float_to_bits(magnitude));
#endif
}

DEPTHSR_HOST_DEVICE inline void store(float value, float& out) { out = value; }

DEPTHSR_HOST_DEVICE inline void store(float value, BFloat16& out) {
#ifdef __CUDA_ARCH__
  out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
  const std::uint32_t bits = float_to_bits(value);
  const std::uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  out.bits = static_cast<std::uint16_t>((value != value ? 0x7fc00000u : rounded) >> 16);
#endif
}

DEPTHSR_HOST_DEVICE inline void store(float value, Half& out) {
#ifdef __CUDA_ARCH__
  out.bits = __half_as_ushort(__float2half_rn(value));
#else
  const std::uint32_t bits = float_to_bits(value);
  const std::uint32_t magnitude = bits & 0x7fffffff;
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Adding 0.5 lets the float adder shift and round a subnormal's mantissa into the lowest bits.
  const std::uint32_t subnormal = float_to_bits(bits_to_float(magnitude) + 0.5f) - (126u << 23);
  const std::uint32_t special = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;  // NaN, or infinity from 2^16 on
  const std::uint32_t half = magnitude >= (143u << 23) ? special : (magnitude < (113u << 23) ? subnormal : normal);
  out.bits = static_cast<std::uint16_t>(half | (bits >> 31) << 15);
#endif
}

template <typename T>
void load_row(const T* x, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = load(x[i]);
}

}  // namespace depthsr
