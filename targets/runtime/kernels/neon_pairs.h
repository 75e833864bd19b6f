// Products of 8-bit integers: a pair of a row's numbers, to all lanes, meets the pairs of weights of four outputs, and so
// does the next pair.  As no weight is -128, the sum of two products fits into 16 bits, 2 · 127 · 128 < 2^15; the two sums
// of an output lie side by side and are added to its 32 bits.
#pragma once

#include "vectors.h"

using Number = int8_t;
#if defined(__aarch64__)
constexpr int kIntegerVectors = 4;  // 16 sums, 4 vectors of weights, 2 of numbers, products: of 32 registers
#else
constexpr int kIntegerVectors = 2;  // 8 sums, 2 vectors of weights, 2 of numbers, products: of 16 registers
#endif
constexpr int kIntegerRows = 4;
constexpr int64_t kIntegerStep = 2, kIntegerMultiple = 4;
constexpr int32_t kIntegerOffset = 0;

inline int8x16_t pair_to_all_lanes(const int8_t* pair) {
  int16_t both;
  __builtin_memcpy(&both, pair, sizeof(both));
  int16x8_t pairs = vdupq_n_s16(both);
#if defined(__aarch64__)
  asm("" : "+w"(pairs));  // else clang, which sees that both halves are the same, moves the upper halves of weights
#endif
  return vreinterpretq_s8_s16(pairs);
}

// Of four outputs' sums, those of the lower and of the upper half of vectors of weights.
inline int32x4_t add_lower(int32x4_t sums, int8x16_t w0, int8x16_t x0, int8x16_t w1, int8x16_t x1) {
  const int16x8_t first = vmull_s8(vget_low_s8(w0), vget_low_s8(x0));
  return vpadalq_s16(sums, vmlal_s8(first, vget_low_s8(w1), vget_low_s8(x1)));
}

inline int32x4_t add_upper(int32x4_t sums, int8x16_t w0, int8x16_t x0, int8x16_t w1, int8x16_t x1) {
#if defined(__aarch64__)
  return vpadalq_s16(sums, vmlal_high_s8(vmull_high_s8(w0, x0), w1, x1));
#else
  const int16x8_t first = vmull_s8(vget_high_s8(w0), vget_high_s8(x0));
  return vpadalq_s16(sums, vmlal_s8(first, vget_high_s8(w1), vget_high_s8(x1)));
#endif
}

// Empty instructions that take a row's sums and give them back: so one row comes after the other.  Mixed, their products
// take more registers than there are, and the compiler moves sums to and fro.
inline __attribute__((always_inline)) void in_row(Ints (&x)[4]) {
  asm volatile("" : "+w"(x[0]), "+w"(x[1]), "+w"(x[2]), "+w"(x[3]));
}
inline __attribute__((always_inline)) void in_row(Ints (&x)[2]) { asm volatile("" : "+w"(x[0]), "+w"(x[1])); }

template <int kRows>
inline __attribute__((always_inline)) void add_products(const int8_t* x, int64_t step, int64_t depth,
                                                        const int8_t* panel, Ints (&sums)[kRows][kIntegerVectors]) {
  constexpr int kHalf = kIntegerVectors / 2;  // vectors of weights for a pair of numbers
  for (int64_t k = 0; k < depth; k += kIntegerMultiple, panel += kIntegerMultiple * kIntegerVectors * kLanes) {
    int8x16_t w[2 * kHalf];
#pragma GCC unroll 4
    for (int i = 0; i < 2 * kHalf; ++i) w[i] = vld1q_s8(panel + 16 * i);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const int8x16_t x0 = pair_to_all_lanes(x + r * step + k), x1 = pair_to_all_lanes(x + r * step + k + 2);
#pragma GCC unroll 2
      for (int i = 0; i < kHalf; ++i) {
        sums[r][2 * i] = add_lower(sums[r][2 * i], w[i], x0, w[kHalf + i], x1);
        sums[r][2 * i + 1] = add_upper(sums[r][2 * i + 1], w[i], x0, w[kHalf + i], x1);
      }
      in_row(sums[r]);
    }
  }
}

#include "neon_requantize.h"
