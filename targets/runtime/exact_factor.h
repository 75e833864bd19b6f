// A factor whose products round to the integers that quotients round to.
//
// QUANTIZE divides: q(x) = round(fl(x / s)), where fl is the nearest float and round the nearest integer, ties away
// from 0.  Processors divide several times slower than they multiply, and p(x) = round(fl(x · f)), even of f = fl(1 /
// s), is another function.  But both are odd, and neither falls as x grows: each is n or more from one float on, and is
// so given by these floats, one for each n.  Where they are the same for all n up to `most`, no float x has another p
// than q, but for what lies beyond ±most in both.
//
// Of scales of any kind one in some 75 has such a factor for n up to 255, and a power of two has it for all n:
// there quotient and product are one real number, rounded once.
#pragma once

#include <stdint.h>

#include "libc.h"

namespace bnncc {

// The float so many floats above x > 0.
inline float neighbour(float x, int32_t distance) {
  int32_t bits = 0;
  memcpy(&bits, &x, sizeof(bits));
  bits += distance;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

// fl(1 / scale), or 0 where that is no such factor.
inline float exact_factor(float scale, int32_t most) {
  // In these bounds nothing below is infinite or a denormal.
  constexpr float kLeast = 0x1p-60f, kLargest = 0x1p60f;
  if (!(scale >= kLeast && scale <= kLargest)) return 0;
  const float factor = 1 / scale;
  constexpr int32_t kFraction = (1 << 23) - 1;
  int32_t bits = 0;
  memcpy(&bits, &scale, sizeof(bits));
  if ((bits & kFraction) == 0) return factor;
  for (int32_t n = 1; n <= most; ++n) {
    const float bound = static_cast<float>(n) - 0.5f;
    float x = bound * scale;  // a few floats from the first one whose quotient reaches the bound
    while (x / scale >= bound) x = neighbour(x, -1);
    while (x / scale < bound) x = neighbour(x, 1);
    if (x * factor < bound || neighbour(x, -1) * factor >= bound) return 0;
  }
  return factor;
}

}  // namespace bnncc
