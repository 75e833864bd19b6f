// Factors in fixed point, and the rounding of TensorFlow Lite's reference kernels for 8-bit integers.
//
//     factor = multiplier · 2^(shift - 31),   multiplier from 2^30 to 2^31 - 1, or 0
//
// kTwice   x · multiplier / 2^31 is rounded to the nearest, ties upwards, then divided by 2^-shift and rounded to the
//          nearest, ties away from 0; where shift > 0, it is x · 2^shift that is multiplied.
// kOnce    x · factor is rounded to the nearest, ties upwards.
//
// Both are found, from operator to operator, and are a part of the result.
#pragma once

#include "libc.h"
#include "memory.h"

namespace bnncc {

enum class Rounding { kTwice, kOnce };

struct FixedPoint {
  int32_t multiplier = 0;
  int32_t shift = 0;

  int32_t left() const { return max(shift, 0); }
  int32_t right() const { return max(-shift, 0); }
};

// The nearest to `factor`, ties away from 0; 0 for what is below 2^-32.  False for what is no number from 0 to 2^30.
inline bool to_fixed_point(double factor, FixedPoint* result) {
  constexpr double kMost = 0x1p30;
  if (!(factor >= 0 && factor < kMost)) return false;
  *result = FixedPoint();
  if (factor < 0x1p-33) return true;
  uint64_t bits = 0;
  memcpy(&bits, &factor, sizeof(bits));
  // The fraction from 1/2 to 1 has 53 bits, the exponent is above that of 2^-1 by so much.
  constexpr int kFractionBits = 52;
  constexpr int kExponentOfHalf = 1022;
  constexpr int kDropped = kFractionBits + 1 - 31;
  const uint64_t fraction = (bits & ((uint64_t{1} << kFractionBits) - 1)) | uint64_t{1} << kFractionBits;
  int64_t multiplier = static_cast<int64_t>((fraction + (uint64_t{1} << (kDropped - 1))) >> kDropped);
  int32_t shift = static_cast<int32_t>(bits >> kFractionBits) - kExponentOfHalf;
  if (multiplier == int64_t{1} << 31) {
    multiplier /= 2;
    ++shift;
  }
  if (shift >= -31) *result = {static_cast<int32_t>(multiplier), shift};
  return true;
}

// x · factor.  What does not fit into 32 bits wraps around.
inline int32_t scaled(int32_t x, const FixedPoint& factor, Rounding rounding = Rounding::kTwice) {
  const auto shifted = static_cast<int32_t>(static_cast<uint32_t>(x) << factor.left());
  const int64_t product = int64_t{shifted} * factor.multiplier;
  const int32_t right = factor.right();
  const bool is_once = rounding == Rounding::kOnce && right > 0;
  const auto high = static_cast<int32_t>((product + (is_once ? 0 : int64_t{1} << 30)) >> 31);
  const auto mask = static_cast<int32_t>((uint32_t{1} << right) - 1);
  const int32_t threshold = (mask >> 1) + (high < 0 && !is_once);
  return (high >> right) + ((high & mask) > threshold);
}

}  // namespace bnncc
