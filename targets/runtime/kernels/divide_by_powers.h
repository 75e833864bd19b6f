// What requantize.h asks of an instruction set that has no rounding shift.
#pragma once

#include "vectors.h"

inline Ints divide_by_powers(Ints x, Ints right, Ints away) {
  const Ints mask = ((Ints{} + 1) << right) - 1;
  const Ints threshold = (mask >> 1) - ((x < 0) & away);  // a comparison that holds is -1
  return (x >> right) - ((x & mask) > threshold);
}
