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

typedef int32_t SignedBits __attribute__((vector_size(16)));

inline SignedBits widen(Bits counters) {
  const Bits pairs = (counters & 0x00ff00ffu) + ((counters >> 8) & 0x00ff00ffu);
  return reinterpret_cast<SignedBits>((pairs & 0xffffu) + (pairs >> 16));
}

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

constexpr int kIntegerRows = 1;
using Run = const int8_t*;
using RunSums = int32_t;
inline Run load_run(const int8_t* bytes) { return bytes; }
inline RunSums add_run(RunSums sums, Run w, Run x) {
  for (int i = 0; i < 16; ++i) sums += w[i] * x[i];
  return sums;
}
inline Ints add_up(const RunSums (&sums)[kLanes]) { return Ints{sums[0], sums[1], sums[2], sums[3]}; }

inline Ints high_products(Ints a, Ints b, Ints rounds) {
  const Ints half = rounds & (1 << 30);
  for (int i = 0; i < kLanes; ++i) a[i] = static_cast<int32_t>((int64_t{a[i]} * b[i] + half[i]) >> 31);
  return a;
}

#include "divide_by_powers.h"

#include "integer_runs.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("portable");

}  // namespace portable
}  // namespace bnncc
