// Products of 16-bit integers in pairs: two numbers of a row, to all lanes, meet a vector of outputs' pairs of weights, and
// no sum ever crosses lanes.  A file for an instruction set defines before
//   add_pairs(sums, w, x)  sums + w[2·i] · x[2·i] + w[2·i+1] · x[2·i+1], i over the lanes
#pragma once

#include "vectors.h"

inline __attribute__((always_inline)) Bits pair_to_all_lanes(const int16_t* pair) {
  uint32_t both = 0;
  __builtin_memcpy(&both, pair, sizeof(both));
  typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
  return reinterpret_cast<Bits>(both - Words{});
}

template <int kRows>
inline __attribute__((always_inline)) void add_products(const int16_t* x, int64_t step, int64_t depth,
                                                        const int16_t* panel, Ints (&sums)[kRows][kIntegerVectors]) {
  for (int64_t k = 0; k < depth; k += 2, panel += 2 * kIntegerVectors * kLanes) {
    Bits w[kIntegerVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) w[v] = load(reinterpret_cast<const uint32_t*>(panel) + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Bits pair = pair_to_all_lanes(x + r * step + k);
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) sums[r][v] = add_pairs(sums[r][v], w[v], pair);
    }
  }
}
