// One call of a kernel: where it writes, and how its loops run.
#pragma once

#include <cstddef>
#include <memory>
#include <stdexcept>

#include "bindings/thread_pool.h"
#include "cpu/isa.h"
#include "vectors.h"

// Memory for a result: every byte 0xff, which is NaN in every type, and after it a guard that must stay so. Under
// AddressSanitizer, which sees more than a guard would, it ends where the allocation ends. As Array, aligned to its
// elements and to no more.
class Output {
 public:
  Output(char type, std::int64_t count, std::size_t size)
      : type_(type), count_(count), size_(size), bytes_(new unsigned char[(1 + count + GUARD) * size]) {
    std::memset(bytes_.get(), 0xff, (1 + count + GUARD) * size);
  }

  template <typename T>
  T* data() {
    return reinterpret_cast<T*>(bytes_.get() + size_);
  }
  template <typename T>
  const T* data() const {
    return reinterpret_cast<const T*>(bytes_.get() + size_);
  }
  char type() const { return type_; }
  std::int64_t count() const { return count_; }

  bool guards_intact() const {
    for (std::size_t i = 0; i < (1 + GUARD) * size_; ++i)
      if (bytes_[i < size_ ? i : i + count_ * size_] != 0xff) return false;
    return true;
  }

  bool same_bits(const Output& other) const {
    return count_ == other.count_ && std::memcmp(bytes_.get() + size_, other.bytes_.get() + size_, count_ * size_) == 0;
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr std::size_t GUARD = 0;
#else
  static constexpr std::size_t GUARD = 64;
#endif
  char type_;
  std::int64_t count_;
  std::size_t size_;
  std::unique_ptr<unsigned char[]> bytes_;
};

// What an op is given, and the results it leaves.
struct Run {
  const Case& given;
  const depthsr::FusedKernels& kernels;
  depthsr::ParallelFor parallel_for;
  std::map<std::string, Output> results;

  // A new result with as many elements as the reference's.
  template <typename T>
  T* output(const std::string& key) {
    const auto found = given.expected.find(key);
    if (found == given.expected.end()) throw std::runtime_error("the vectors of " + given.name + " expect no " + key);
    return results.try_emplace(key, TYPE<T>, found->second.count(), sizeof(T)).first->second.template data<T>();
  }
};

// Ways of running a loop. Results must not depend on which.

inline void whole(std::int64_t count, std::int64_t /*grain*/, const depthsr::Body& body) {
  if (count > 0) body(0, count);
}

// The shortest pieces that are allowed, the last one first.
inline void backwards_in_pieces(std::int64_t count, std::int64_t grain, const depthsr::Body& body) {
  grain = std::max<std::int64_t>(grain, 1);
  for (std::int64_t piece = std::max<std::int64_t>(count / grain, 1) - 1, end = count; end > 0; --piece) {
    body(piece * grain, end);
    end = piece * grain;
  }
}

inline void on_threads(std::int64_t count, std::int64_t grain, const depthsr::Body& body) {
  depthsr::ProcessPool::run(count, grain, body);
}
