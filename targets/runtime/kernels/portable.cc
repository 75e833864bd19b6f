// Plain C++ on vectors of four words, which every compiler lowers to what the machine has.
//
// The bits of a word are added up in place, first to pairs, then to fours, then to bytes (Warren, Hacker's Delight,
// section 5-1); the bytes of up to 31 words fit one byte each: 31 · 8 = 248.
#include "kernels.h"

namespace bnncc {
namespace portable {
namespace {

constexpr int kLanes = 4;
constexpr int kVectors = 2;
constexpr bool kInterleaves = false;
constexpr int kPixels = 2;
constexpr int64_t kRun = 31;
constexpr int64_t kShortWords = 0;
constexpr int64_t kMostWords = INT64_MAX;
constexpr bool kUsesTables = true;

typedef uint32_t Bits __attribute__((vector_size(16)));
typedef uint32_t UnalignedBits __attribute__((vector_size(16), aligned(4), may_alias));

inline Bits load(const uint32_t* words) { return *reinterpret_cast<const UnalignedBits*>(words); }
inline void broadcast(const uint32_t* words, int64_t stride, Bits* vectors) {
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) vectors[p] = words[p * stride] - Bits{};
}

inline Bits popcount(Bits x) {
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  return (x + (x >> 4)) & 0x0f0f0f0fu;
}

inline Bits accumulate(Bits counters, Bits x) { return counters + x; }

#include "compiler_schedule.h"

typedef int32_t Wide __attribute__((vector_size(16)));

inline Wide widen(Bits counters) {
  const Bits pairs = (counters & 0x00ff00ffu) + ((counters >> 8) & 0x00ff00ffu);
  return reinterpret_cast<Wide>((pairs & 0xffffu) + (pairs >> 16));
}
inline Wide widen_onto(Wide sums, Bits counters) { return sums + widen(counters); }
inline Wide finish(Wide sums) { return sums; }

inline uint32_t sign_word(const float* x) {
  uint32_t word = 0;
  for (int i = 0; i < 32; ++i) word |= uint32_t{x[i] <= kLargestNegative} << i;
  return word;
}

inline uint32_t greater_word(const int32_t* a, const int32_t* b) {
  uint32_t word = 0;
  for (int i = 0; i < 32; ++i) word |= uint32_t{a[i] > b[i]} << i;
  return word;
}

#include "vectors.h"

constexpr int kFloatVectors = 2;
constexpr int kFloatRows = 4;
inline Floats add_product(Floats sums, Floats w, Floats x) { return sums + w * x; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

#include "one_factor.h"

using Number = int8_t;
constexpr int kIntegerVectors = 1;
constexpr int kIntegerRows = 1;
constexpr int64_t kIntegerStep = 16, kIntegerMultiple = 16;
constexpr int32_t kIntegerOffset = 0;

template <int kRows>
inline void add_products(const Number* x, int64_t, int64_t depth, const Number* panel, Ints (&sums)[1][1]) {
  static_assert(kRows == 1, "a row at a time");
  for (int64_t k = 0; k < depth; k += kIntegerStep) {
    for (int o = 0; o < kLanes; ++o, panel += kIntegerStep) {
      uint32_t sum = static_cast<uint32_t>(sums[0][0][o]);
      for (int i = 0; i < kIntegerStep; ++i) sum += static_cast<uint32_t>(x[k + i] * panel[i]);
      sums[0][0][o] = static_cast<int32_t>(sum);
    }
  }
}

inline Ints high_products(Ints a, Ints b, Ints rounds) {
  const Ints half = rounds & (1 << 30);
  for (int i = 0; i < kLanes; ++i) a[i] = static_cast<int32_t>((int64_t{a[i]} * b[i] + half[i]) >> 31);
  return a;
}

inline Ints widen_bytes(const int8_t* x) {
  Ints y{};
  for (int i = 0; i < kLanes; ++i) y[i] = x[i];
  return y;
}
inline void store_narrow(Ints x, int8_t* y) {
  for (int i = 0; i < kLanes; ++i) y[i] = static_cast<int8_t>(x[i]);
}

#include "rounding_shift.h"

#include "panels.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("portable");

}  // namespace portable
}  // namespace bnncc
