// What bytes.h asks of an instruction set that has no such rounding itself.
#pragma once

#include "vectors.h"

inline Ints rounded_quotients(Floats x, Floats divisor) {
  constexpr float kMost = 512;  // beyond all integers of 8 bits, whatever the zero point is
  const Floats most = kMost - Floats{}, half = 0.5f - Floats{};
  const Floats quotients = x / divisor;
  Floats steps = quotients < most ? quotients : most;
  steps = steps > -most ? steps : -most;
  const Ints whole = __builtin_convertvector(steps, Ints);
  const Floats rest = steps - __builtin_convertvector(whole, Floats);
  const Ints up = reinterpret_cast<Ints>(rest >= half), down = reinterpret_cast<Ints>(rest <= -half);
  return reinterpret_cast<Ints>(quotients == quotients) & (whole - up + down);
}
