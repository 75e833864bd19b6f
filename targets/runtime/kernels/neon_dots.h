// Products of 8-bit integers by ARMv8.2's dot products: four of a row's numbers, to all lanes, meet four weights of each of
// four outputs.
//
// The instruction is written as text: older compilers' headers have it only where all of a file is for processors that
// do.  A file defines before what lets the assembler take it, BNNCC_ALLOW_DOTS.
#pragma once

#include "vectors.h"

using Number = int8_t;
constexpr int kIntegerVectors = 4;  // 24 sums, 4 vectors of weights, 1 of numbers: of 32 registers
constexpr int kIntegerRows = 6;
constexpr int64_t kIntegerStep = 4, kIntegerMultiple = 4;
constexpr int32_t kIntegerOffset = 0;

inline Ints add_dots(Ints sums, int8x16_t w, int8x16_t x) {
  asm(BNNCC_ALLOW_DOTS "sdot %0.4s, %1.16b, %2.16b" : "+w"(sums) : "w"(w), "w"(x));
  return sums;
}

template <int kRows>
inline __attribute__((always_inline)) void add_products(const int8_t* x, int64_t step, int64_t depth,
                                                        const int8_t* panel, Ints (&sums)[kRows][kIntegerVectors]) {
  for (int64_t k = 0; k < depth; k += 4, panel += 4 * kIntegerVectors * kLanes) {
    int8x16_t w[kIntegerVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) w[v] = vld1q_s8(panel + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      int32_t numbers;
      __builtin_memcpy(&numbers, x + r * step + k, sizeof(numbers));
      const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(numbers));
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) sums[r][v] = add_dots(sums[r][v], w[v], four);
    }
  }
}

#include "neon_requantize.h"
