// What requantize.h asks of an instruction set without rounding shifts, from
//   widen_bytes(x)               kLanes bytes, from x on, as integers
//   store_narrow(x, y)           integers that fit, as bytes
//   high_products(a, b, rounds)  a · b / 2^31, lane by lane: rounded to the nearest, ties upwards, where `rounds` is -1,
//                                else down
#pragma once

#include "nearest_integers.h"
#include "requantize.h"

// x / 2^right, rounded to the nearest: ties away from 0 where `away` is -1, else up.
inline Ints divide_by_powers(Ints x, Ints right, Ints away) {
  const Ints mask = ((Ints{} + 1) << right) - 1;
  const Ints threshold = (mask >> 1) - ((x < 0) & away);  // a comparison that holds is -1
  return (x >> right) - ((x & mask) > threshold);
}

inline Ints scaled_any(Ints x, const Factors& factors) {
  const Ints high = high_products(x << factors.left, factors.multiplier, factors.rounds);
  return divide_by_powers(high, factors.right, factors.away);
}

inline Ints scaled_twice(Ints x, Ints multiplier, Ints right) {
  const Ints all = Ints{} - 1;
  return divide_by_powers(high_products(x, multiplier, all), right, all);
}

inline void load_bytes(const int8_t* x, Ints (&y)[kIntegerVectors]) {
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) y[v] = widen_bytes(x + v * kLanes);
}

// With the zero point and between the bounds.
inline void store_bytes(const Ints (&x)[kIntegerVectors], const Requantization& requantization, int8_t* y) {
  const Ints least = ints_to_all_lanes(requantization.least), most = ints_to_all_lanes(requantization.most);
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) {
    Ints q = x[v] + requantization.zero_point;
    q = q > least ? q : least;
    q = q < most ? q : most;
    store_narrow(q, y + v * kLanes);
  }
}

inline void store_nearest(const Ints (&x)[kIntegerVectors], int32_t zero_point, int8_t* y) {
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) store_narrow(x[v] + zero_point, y + v * kLanes);
}

inline void store_nearest(const Ints (&x)[kIntegerVectors], int16_t* y) {
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) {
    *reinterpret_cast<UnalignedShortInts*>(y + v * kLanes) = __builtin_convertvector(x[v], ShortInts);
  }
}
