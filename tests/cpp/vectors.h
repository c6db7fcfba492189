// Test vectors as vectors.py writes them: for each case an op, its inputs and what the reference makes of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "depthsr/kernels.h"

// Letters of the types in the file.
template <typename T>
constexpr char TYPE = '?';
template <>
inline constexpr char TYPE<float> = 'f';
template <>
inline constexpr char TYPE<depthsr::Half> = 'h';
template <>
inline constexpr char TYPE<depthsr::BFloat16> = 'b';
template <>
inline constexpr char TYPE<bool> = 'B';
template <>
inline constexpr char TYPE<std::int64_t> = 'i';
template <>
inline constexpr char TYPE<double> = 'd';

// The elements lie at an address that is a multiple of their size and of no more, and end where the allocation ends:
// what a kernel may ask of its caller, and what lets AddressSanitizer see the first byte that is read too far.
class Array {
 public:
  Array() = default;
  Array(char type, std::int64_t count, std::size_t size) : type_(type), count_(count), size_(size), bytes_((count + 1) * size) {}

  char* bytes() { return bytes_.data() + size_; }
  std::int64_t count() const { return count_; }
  char type() const { return type_; }

  template <typename T>
  const T* data() const {
    if (type_ != TYPE<T>) throw std::runtime_error(std::string("an array is of type ") + type_ + ", not " + TYPE<T>);
    return reinterpret_cast<const T*>(bytes_.data() + size_);
  }

 private:
  char type_ = '?';
  std::int64_t count_ = 0;
  std::size_t size_ = 0;
  std::vector<char> bytes_;
};

struct Case {
  std::string op;
  std::string name;  // op, sizes and types, for a person
  std::map<std::string, Array> inputs;
  std::map<std::string, Array> expected;  // double

  const Array& input(const std::string& key) const {
    const auto found = inputs.find(key);
    if (found == inputs.end()) throw std::runtime_error("the vectors of " + name + " have no " + key);
    return found->second;
  }
  bool has(const std::string& key) const { return inputs.count(key) != 0; }
  template <typename T>
  const T* data(const std::string& key) const {
    return input(key).data<T>();
  }
  std::int64_t integer(const std::string& key) const { return *data<std::int64_t>(key); }
  double real(const std::string& key) const { return *data<double>(key); }
};

class VectorsFile {
 public:
  explicit VectorsFile(const std::string& path) : in_(path, std::ios::binary) {
    if (!in_) throw std::runtime_error("cannot open " + path);
  }

  bool next(Case& out) {
    if (in_.peek() == std::ifstream::traits_type::eof()) return false;
    out = {text(), text(), arrays(), arrays()};
    return true;
  }

 private:
  void read(void* to, std::size_t size) {
    if (!in_.read(static_cast<char*>(to), static_cast<std::streamsize>(size)))
      throw std::runtime_error("the vectors end in the middle of a case");
  }

  std::int64_t integer() {
    std::int64_t value = 0;
    read(&value, sizeof value);
    return value;
  }

  std::string text() {
    std::string value(integer(), ' ');
    read(value.data(), value.size());
    return value;
  }

  std::map<std::string, Array> arrays() {
    std::map<std::string, Array> out;
    for (std::int64_t left = integer(); left > 0; --left) {
      const std::string key = text();
      const char type = text().at(0);
      const std::int64_t size = integer(), count = integer();
      Array array(type, count, size);
      read(array.bytes(), count * size);
      out.emplace(key, std::move(array));
    }
    return out;
  }

  std::ifstream in_;
};
