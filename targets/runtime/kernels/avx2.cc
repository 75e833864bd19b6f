// AVX2 and FMA: bytes look their set bits up by halves (Muła, Kurz and Lemire, Faster Population Counts Using AVX2
// Instructions, section 3.1), and up to 31 words are added up bytewise: 31 · 8 = 248.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"
#include "target.h"

BNNCC_TARGET_BEGIN("avx2,fma")

namespace bnncc {
namespace avx2 {
namespace {

constexpr int kLanes = 8;
constexpr int kVectors = 2;
constexpr bool kInterleaves = false;
constexpr int kPixels = 4;
constexpr int64_t kRun = 31;
constexpr int64_t kShortWords = 0;
constexpr bool kUsesTables = true;

using Bits = __m256i;

inline Bits load(const uint32_t* words) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)); }

inline void broadcast(const uint32_t* words, int64_t stride, Bits* vectors) {
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) vectors[p] = _mm256_set1_epi32(static_cast<int>(words[p * stride]));
}

inline Bits popcount(Bits x) {
  const __m256i bits_of_half = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i half = _mm256_set1_epi8(0x0f);
  const __m256i low = _mm256_shuffle_epi8(bits_of_half, _mm256_and_si256(x, half));
  const __m256i high = _mm256_shuffle_epi8(bits_of_half, _mm256_and_si256(_mm256_srli_epi16(x, 4), half));
  return _mm256_add_epi8(low, high);
}

inline Bits accumulate(Bits counters, Bits x) { return _mm256_add_epi8(counters, x); }

#include "compiler_schedule.h"

inline auto widen(Bits counters) {
  typedef int32_t Ints __attribute__((vector_size(32)));
  const __m256i pairs = _mm256_maddubs_epi16(counters, _mm256_set1_epi8(1));
  return reinterpret_cast<Ints>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

inline uint32_t sign_word(const float* x) {
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) {
    const __m256 below = _mm256_cmp_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(kLargestNegative), _CMP_LE_OQ);
    word |= static_cast<uint32_t>(_mm256_movemask_ps(below)) << (8 * i);
  }
  return word;
}

inline uint32_t greater_word(const int32_t* a, const int32_t* b) {
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) {
    const __m256i above = _mm256_cmpgt_epi32(load(reinterpret_cast<const uint32_t*>(a) + 8 * i),
                                             load(reinterpret_cast<const uint32_t*>(b) + 8 * i));
    word |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(above))) << (8 * i);
  }
  return word;
}

constexpr int kFloatVectors = 2;  // 12 sums of 16 registers
constexpr int kFloatRows = 6;
inline __m256 add_product(__m256 sums, __m256 w, __m256 x) { return _mm256_fmadd_ps(w, x, sums); }
inline __m256 larger(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
inline __m256 smaller(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }

#include "one_factor.h"

using Number = int16_t;
constexpr int kIntegerVectors = 2;
constexpr int kIntegerRows = 4;
constexpr int64_t kIntegerStep = 2, kIntegerMultiple = 2;

#include "vectors.h"

inline Ints add_pairs(Ints sums, Bits w, Bits x) { return sums + reinterpret_cast<Ints>(_mm256_madd_epi16(w, x)); }

#include "integer_pairs.h"

typedef unsigned long long Products __attribute__((vector_size(32)));

// The product of each second lane, from the first on.
inline Products products_of_pairs(Products a, Products b) {
  return reinterpret_cast<Products>(_mm256_mul_epi32(reinterpret_cast<Bits>(a), reinterpret_cast<Bits>(b)));
}

inline Ints high_products(Ints a, Ints b, Ints rounds) {
  const Products left = reinterpret_cast<Products>(a), right = reinterpret_cast<Products>(b);
  const Products half = reinterpret_cast<Products>(rounds & (1 << 30));
  const Products even = (products_of_pairs(left, right) + (half & 0xffffffffull)) >> 31;
  const Products odd = (products_of_pairs(left >> 32, right >> 32) + (half >> 32)) << 1;
  return reinterpret_cast<Ints>(
      _mm256_blend_epi32(reinterpret_cast<Bits>(even), reinterpret_cast<Bits>(odd), 0xaa));
}

#include "rounding_shift.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("avx2");

}  // namespace avx2
}  // namespace bnncc

BNNCC_TARGET_END

#endif
