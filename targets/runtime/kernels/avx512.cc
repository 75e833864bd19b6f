// AVX-512 with VPOPCNTDQ, which counts the bits of sixteen words at once, and VNNI, which multiplies 64 pairs of bytes.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"
#include "target.h"

#if defined(__clang__) && __clang_major__ >= 18 && __clang_major__ <= 20
// These versions of clang count 512-bit registers as a feature of its own.
BNNCC_TARGET_BEGIN("avx512f,avx512bw,avx512vpopcntdq,avx512vnni,evex512")
#else
BNNCC_TARGET_BEGIN("avx512f,avx512bw,avx512vpopcntdq,avx512vnni")
#endif

namespace bnncc {
namespace avx512 {
namespace {

constexpr int kLanes = 16;
constexpr int kVectors = 4;
constexpr bool kInterleaves = false;
constexpr int kPixels = 5;
constexpr int64_t kRun = INT32_MAX;
constexpr int64_t kShortWords = 2;
constexpr int64_t kMostWords = INT64_MAX;
constexpr bool kUsesTables = false;

using Bits = __m512i;

inline Bits load(const uint32_t* words) { return _mm512_loadu_si512(words); }

inline void broadcast(const uint32_t* words, int64_t stride, Bits* vectors) {
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) vectors[p] = _mm512_set1_epi32(static_cast<int>(words[p * stride]));
}
inline Bits popcount(Bits x) { return _mm512_popcnt_epi32(x); }
inline Bits accumulate(Bits counters, Bits x) {
  // Written out, so that the sum stays in its register: GCC 12 puts it in another, and runs out of them.
  asm("vpaddd %1, %0, %0" : "+v"(counters) : "v"(x));
  return counters;
}

#include "compiler_schedule.h"

typedef int32_t Wide __attribute__((vector_size(64)));
inline Wide widen(Bits counters) { return reinterpret_cast<Wide>(counters); }
inline Wide widen_onto(Wide sums, Bits counters) { return sums + widen(counters); }
inline Wide finish(Wide sums) { return sums; }

inline uint32_t sign_word(const float* x) {
  const __m512 most = _mm512_set1_ps(kLargestNegative);
  const uint32_t low = _mm512_cmp_ps_mask(_mm512_loadu_ps(x), most, _CMP_LE_OQ);
  const uint32_t high = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + 16), most, _CMP_LE_OQ);
  return low | high << 16;
}

inline uint32_t greater_word(const int32_t* a, const int32_t* b) {
  const uint32_t low = _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(a), _mm512_loadu_si512(b));
  const uint32_t high = _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(a + 16), _mm512_loadu_si512(b + 16));
  return low | high << 16;
}

constexpr int kFloatVectors = 4;  // 24 sums of 32 registers
constexpr int kFloatRows = 6;
inline __m512 add_product(__m512 sums, __m512 w, __m512 x) { return _mm512_fmadd_ps(w, x, sums); }
inline __m512 larger(__m512 a, __m512 b) { return _mm512_maskz_max_ps(0xffff, a, b); }
inline __m512 smaller(__m512 a, __m512 b) { return _mm512_maskz_min_ps(0xffff, a, b); }

#include "one_factor.h"

using Number = int8_t;
constexpr int kIntegerVectors = 2;
constexpr int kIntegerRows = 8;
constexpr int64_t kIntegerStep = 4, kIntegerMultiple = 4;

#include "vectors.h"

// Four numbers of a row, to all lanes, meet four weights of each of sixteen outputs.  The instruction takes one of the
// factors as unsigned: with its first bit turned, a number is 128 more, which the bias takes out again (kIntegerOffset).
constexpr int32_t kIntegerOffset = 128;

template <int kRows>
inline __attribute__((always_inline)) void add_products(const int8_t* x, int64_t step, int64_t depth,
                                                        const int8_t* panel, Ints (&sums)[kRows][kIntegerVectors]) {
  const Bits first_bits = _mm512_set1_epi32(static_cast<int>(0x80808080u));
  for (int64_t k = 0; k < depth; k += 4, panel += 4 * kIntegerVectors * kLanes) {
    Bits w[kIntegerVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) w[v] = load(reinterpret_cast<const uint32_t*>(panel) + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      int numbers;
      __builtin_memcpy(&numbers, x + r * step + k, sizeof(numbers));
      const Bits four = _mm512_xor_si512(_mm512_set1_epi32(numbers), first_bits);
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) {
        sums[r][v] = reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<Bits>(sums[r][v]), four, w[v]));
      }
    }
  }
}

typedef unsigned long long Products __attribute__((vector_size(64)));

// The product of each second lane, from the first on.
// GCC 12 warns of the intrinsics that mask nothing: it finds their missing operand uninitialized.
inline Products products_of_pairs(Products a, Products b) {
  return reinterpret_cast<Products>(_mm512_maskz_mul_epi32(0xff, reinterpret_cast<Bits>(a), reinterpret_cast<Bits>(b)));
}

inline Ints high_products(Ints a, Ints b, Ints rounds) {
  const Products left = reinterpret_cast<Products>(a), right = reinterpret_cast<Products>(b);
  const Products half = reinterpret_cast<Products>(rounds & (1 << 30));
  const Products even = (products_of_pairs(left, right) + (half & 0xffffffffull)) >> 31;
  const Products odd = (products_of_pairs(left >> 32, right >> 32) + (half >> 32)) << 1;
  return reinterpret_cast<Ints>(
      _mm512_mask_blend_epi32(0xaaaa, reinterpret_cast<Bits>(even), reinterpret_cast<Bits>(odd)));
}

inline Ints widen_bytes(const int8_t* x) {
  return reinterpret_cast<Ints>(
      _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
}
inline void store_narrow(Ints x, int8_t* y) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_maskz_cvtepi32_epi8(0xffff, reinterpret_cast<Bits>(x)));
}

#include "rounding_shift.h"

#include "panels.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("avx512");

}  // namespace avx512
}  // namespace bnncc

BNNCC_TARGET_END

#endif
