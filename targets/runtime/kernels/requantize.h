// Integers to 8-bit integers of another scale (Requantization in kernels.h; the rounding is that of fixed_point.h).
//
// Included by integer_gemm.h; asks of an instruction set:
//   scaled_twice(x, multiplier, right)  x · multiplier / 2^31, lane by lane, rounded to the nearest with ties upwards,
//                                       then / 2^right, rounded to the nearest with ties away from 0; right > 0
//   scaled_any(x, factors)              by a factor of any kind
#pragma once

#include "vectors.h"

inline Ints ints_to_all_lanes(int32_t x) { return x - Ints{}; }

// What a vector of outputs is multiplied by.
struct Factors {
  Ints multiplier;
  Ints left;
  Ints right;
  Ints rounds;  // -1 where the product is rounded before it is divided
  Ints away;    // -1 where ties go away from 0

};

// Those of vectors of outputs, from `output` on.
template <int kCount>
inline void load_factors(const Requantization& requantization, int64_t output, Factors (&factors)[kCount]) {
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v, output += kLanes) {
    const Ints right = load_ints(requantization.right + output);
    const Ints all = Ints{} - 1;
    factors[v].multiplier = load_ints(requantization.multiplier + output);
    factors[v].left = load_ints(requantization.left + output);
    factors[v].right = right;
    factors[v].rounds = requantization.rounds_once ? right == 0 : all;
    factors[v].away = requantization.rounds_once ? Ints{} : all;
  }
}
