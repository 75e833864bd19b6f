// Functions that gates of channels end with: HARD_SWISH and LOGISTIC.  Included by body.h.
#pragma once

#include "vectors.h"

// x · clamp(x + 3, 0, 6) / 6
struct HardSwish {
  Floats operator()(Floats x) const {
    Floats gate = x + 3;
    gate = gate < 0 ? Floats{} : gate;
    gate = gate > 6 ? 6 - Floats{} : gate;
    return x * gate * (1.0f / 6);
  }
};

// 1 / (1 + e^-x), to 2 units in the last place.
//
// e^z, z = -|x|, is 2ⁿ·e^r with n = z / ln 2 to the nearest integer and |r| ≤ ln 2 / 2, where Taylor's polynomial of
// degree 7 is off by 6e-9 of its value.  Adding 1.5·2²³ rounds to an integer, which is then in the lowest bits.
struct Logistic {
  Floats operator()(Floats x) const {
    constexpr float kLeast = -87;  // e^z below is a denormal
    constexpr float kRounder = 12582912;
    constexpr float kPerLn2 = 1.44269504f;
    constexpr float kLn2 = 0.693359375f;  // of 9 bits: n · kLn2 is exact
    constexpr float kLn2Rest = -2.12194440e-4f;
    const Floats below = x < 0 ? x : -x;
    const Floats z = below > kLeast ? below : kLeast - Floats{};
    const Floats shifted = z * kPerLn2 + kRounder;
    const Floats n = shifted - kRounder;
    const Floats r = z - n * kLn2 - n * kLn2Rest;
    Floats power = r * (1.0f / 5040) + 1.0f / 720;
    power = power * r + 1.0f / 120;
    power = power * r + 1.0f / 24;
    power = power * r + 1.0f / 6;
    power = power * r + 0.5f;
    power = power * r + 1;
    power = power * r + 1;
    const Floats e = reinterpret_cast<Floats>(reinterpret_cast<Ints>(power) + (reinterpret_cast<Ints>(shifted) << 23));
    const Floats y = (x < 0 ? e : 1 - Floats{}) / (1 + e);
    return x == x ? y : x;
  }
};

template <typename Function>
inline __attribute__((always_inline)) void apply(const float* x, float* y, int64_t size, const Function& function) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(function(load_floats(x + i)), y + i);
  for (; i < size; ++i) y[i] = function(x[i] - Floats{})[0];
}

void hard_swish(const float* x, float* y, int64_t size) { apply(x, y, size, HardSwish()); }
void logistic(const float* x, float* y, int64_t size) { apply(x, y, size, Logistic()); }
