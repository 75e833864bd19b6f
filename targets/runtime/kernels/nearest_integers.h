// What bytes.h asks of an instruction set that has no such rounding itself.
#pragma once

#include "vectors.h"

// |x| + h without its fraction, h the float below 1/2: the sum reaches the next integer from the tie on, where it lies
// half-way between two floats, and from no float below it.  The bounds are below 2^22, where a float has halves.
inline Ints nearest_integers(Floats x, Floats least, Floats most) {
  constexpr int32_t kBelowHalf = 0x3effffff;
  const Floats bounded = larger(smaller(x, most), least);
  const Ints sign = reinterpret_cast<Ints>(bounded) & INT32_MIN;
  const Floats half = reinterpret_cast<Floats>(sign | kBelowHalf);
  return reinterpret_cast<Ints>(x == x) & __builtin_convertvector(bounded + half, Ints);
}
