// Memory without the C++ library: an owning array on malloc, and sizes that cannot overflow unnoticed.
#pragma once

#include "libc.h"

namespace bnncc {

// The largest vector, and a cache line: blocks that different threads write never share one.
constexpr size_t kAlignment = 64;

// The largest size, in bytes, of anything the delegate allocates or addresses: offsets then fit ptrdiff_t everywhere.
constexpr int64_t kLargestSize = INT64_C(0x7fffffff);

// a * b, or -1 if that exceeds kLargestSize or a factor is negative: -1 carries through further products.
constexpr int64_t checked_product(int64_t a, int64_t b) {
  if (a < 0 || b < 0) return -1;
  if (a == 0 || b == 0) return 0;
  return a > kLargestSize / b ? -1 : a * b;
}

// a + b, or -1 as above.
constexpr int64_t checked_sum(int64_t a, int64_t b) { return a < 0 || b < 0 || a > kLargestSize - b ? -1 : a + b; }

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

// An owning array of trivial objects, zeroed, aligned to kAlignment.
template <typename T>
class Array {
 public:
  Array() = default;
  ~Array() { free(block_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  // Replaces the content by `size` zeroed objects; false where there is no memory for them.
  [[nodiscard]] bool allocate(int64_t size) {
    free(block_);
    block_ = nullptr;
    data_ = nullptr;
    size_ = 0;
    const int64_t bytes = checked_sum(checked_product(size, sizeof(T)), kAlignment);
    if (bytes < 0) return false;
    block_ = malloc(static_cast<size_t>(bytes));
    if (block_ == nullptr) return false;
    const uintptr_t aligned = (reinterpret_cast<uintptr_t>(block_) + kAlignment - 1) & ~uintptr_t{kAlignment - 1};
    data_ = reinterpret_cast<T*>(aligned);
    size_ = size;
    memset(static_cast<void*>(data_), 0, static_cast<size_t>(size) * sizeof(T));
    return true;
  }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t index) const { return data_[index]; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }

 private:
  void* block_ = nullptr;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

// operator new and delete live in the C++ library; these construct in memory from malloc.
struct InPlace {};

}  // namespace bnncc

inline void* operator new(size_t, bnncc::InPlace, void* place) noexcept { return place; }

namespace bnncc {

// A default-constructed T, or null where there is no memory.
template <typename T>
T* create() {
  void* place = malloc(sizeof(T));
  return place == nullptr ? nullptr : new (InPlace{}, place) T();
}

template <typename T>
void destroy(T* object) {
  if (object == nullptr) return;
  object->~T();
  free(object);
}

}  // namespace bnncc
