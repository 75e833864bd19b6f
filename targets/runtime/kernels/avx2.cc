// AVX2 and FMA: VPSHUFB looks up what four bits of a pixel and of each of 32 filters have in common (nibbles.h).
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"
#include "target.h"

BNNCC_TARGET_BEGIN("avx2,fma")

namespace bnncc {
namespace avx2 {
namespace {

constexpr int kLanes = 8;
constexpr int64_t kNibbleScale = 4;  // 32 bytes of a table

using Bits = __m256i;

inline Bits load(const uint32_t* words) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)); }

inline Bits shuffle(Bits table, Bits indices) { return _mm256_shuffle_epi8(table, indices); }

inline Bits accumulate(Bits counters, Bits x) {
  // Written out, so that it stays behind its shuffle: GCC 12 puts all additions at the end, and runs out of registers.
  asm("vpaddb %1, %0, %0" : "+x"(counters) : "x"(x));
  return counters;
}

template <int kWords>
inline void expand(const uint32_t* words, uint8_t* nibbles) {
  __m128i packed;
  if constexpr (kWords == 4) {
    packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words));
  } else if constexpr (kWords == 2) {
    packed = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(words));
  } else {
    packed = _mm_cvtsi32_si128(static_cast<int>(*words));
  }
  // Byte b becomes two: its lower half and its upper half, each times 4.
  const __m256i pairs = _mm256_cvtepu8_epi16(packed);
  const __m256i halves = _mm256_or_si256(_mm256_slli_epi16(pairs, 2), _mm256_slli_epi16(pairs, 6));
  const __m256i scaled = _mm256_and_si256(halves, _mm256_set1_epi8(0x3c));
  if constexpr (kWords == 4) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(nibbles), scaled);
  } else if constexpr (kWords == 2) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(nibbles), _mm256_castsi256_si128(scaled));
  } else {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(nibbles), _mm256_castsi256_si128(scaled));
  }
}

#include "nibbles.h"

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
constexpr int32_t kIntegerOffset = 0;

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

inline Ints widen_bytes(const int8_t* x) {
  return reinterpret_cast<Ints>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
}
inline void store_narrow(Ints x, int8_t* y) {
  const Bits all = reinterpret_cast<Bits>(x);
  const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(y), _mm_packs_epi16(pairs, pairs));
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
