// What bytes.h asks of an instruction set that has no such rounding itself.
#pragma once

#include "vectors.h"

// |x| + h without its fraction, h the float below 1/2: the sum reaches the next integer from the tie on, where it lies
// half-way between two floats, and from no float below it.
template <int32_t kMost>
inline Ints nearest_integers(Floats x) {
  static_assert(kMost < 1 << 22, "so that a float has halves");
  constexpr int32_t kBelowHalf = 0x3effffff;
  const Floats most = static_cast<float>(kMost) - Floats{};
  const Floats bounded = larger(smaller(x, most), -most);
  const Ints sign = reinterpret_cast<Ints>(bounded) & INT32_MIN;
  const Floats half = reinterpret_cast<Floats>(sign | kBelowHalf);
  return reinterpret_cast<Ints>(x == x) & __builtin_convertvector(bounded + half, Ints);
}
