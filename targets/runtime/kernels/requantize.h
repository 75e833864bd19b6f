// Sums of products of 8-bit integers as 8-bit integers of another scale (Requantization in kernels.h; the rounding is
// that of fixed_point.h).  Included by what multiplies integers; asks of an instruction set:
//   high_products(a, b, rounds)
//                       a · b / 2^31, lane by lane: rounded to the nearest, ties upwards, where `rounds` is -1, else
//                       down
//   divide_by_powers(x, right, away)
//                       x / 2^right, lane by lane, rounded to the nearest: ties away from 0 where `away` is -1, else up
#pragma once

#include "vectors.h"

typedef int8_t Bytes __attribute__((vector_size(kLanes)));
typedef int8_t UnalignedBytes __attribute__((vector_size(kLanes), aligned(1), may_alias));

inline Ints ints_to_all_lanes(int32_t x) { return x - Ints{}; }

// What a vector of outputs, those from `output` on, is multiplied by.
struct Factors {
  Ints multiplier;
  Ints left;
  Ints right;
  Ints rounds;  // -1 where the product is rounded before it is divided
  Ints away;    // -1 where ties go away from 0

  Factors(const Requantization& requantization, int64_t output)
      : multiplier(load_ints(requantization.multiplier + output)),
        left(load_ints(requantization.left + output)),
        right(load_ints(requantization.right + output)),
        rounds(requantization.rounds_once ? right == 0 : Ints{} - 1),
        away(ints_to_all_lanes(requantization.rounds_once ? 0 : -1)) {}
};

inline __attribute__((always_inline)) Bytes requantized(Ints sums, const Factors& factors,
                                                        const Requantization& requantization) {
  Ints x = high_products(sums << factors.left, factors.multiplier, factors.rounds);
  x = divide_by_powers(x, factors.right, factors.away);
  x += ints_to_all_lanes(requantization.zero_point);
  const Ints least = ints_to_all_lanes(requantization.least);
  const Ints most = ints_to_all_lanes(requantization.most);
  x = x > least ? x : least;
  x = x < most ? x : most;
  return __builtin_convertvector(x, Bytes);
}

// Rare, and so not inlined.
__attribute__((noinline)) void store_some_bytes(Bytes value, int8_t* y, int64_t size) {
  alignas(kLanes) int8_t lanes[kLanes];
  *reinterpret_cast<UnalignedBytes*>(lanes) = value;
  for (int64_t i = 0; i < size; ++i) y[i] = lanes[i];
}

// The first `size` lanes, or all of them.
inline __attribute__((always_inline)) void store_bytes(Bytes value, int8_t* y, int64_t size) {
  if (size >= kLanes) {
    *reinterpret_cast<UnalignedBytes*>(y) = value;
  } else {
    store_some_bytes(value, y, size);
  }
}

void requantize(const int32_t* sums, const Requantization& requantization, int64_t pixels, int64_t channels,
                int8_t* y) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const Factors factors(requantization, c);
    const int64_t size = channels - c;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      Ints x = {};
      if (size >= kLanes) {
        x = load_ints(sums + pixel * channels + c);
      } else {
        for (int64_t i = 0; i < size; ++i) x[i] = sums[pixel * channels + c + i];
      }
      store_bytes(requantized(x, factors, requantization), y + pixel * channels + c, size);
    }
  }
}
