// What becomes of a vector of counts before it is stored: the counts themselves, or floats; both gemms end with one.
//
//     y, stride                  the first pixel's first output, and how far apart those of neighbouring pixels are
//     constants(channel)         what the vector of channels that begins with `channel` needs
//     value(counts, constants)   the vector to store
//
// Included by body.h and tables.h.
#pragma once

#include "vectors.h"

struct CountsOutput {
  int32_t* y;
  int64_t stride;

  struct Constants {};
  Constants constants(int64_t) const { return {}; }
  Ints value(Ints counts, const Constants&) const { return counts; }
};

template <bool kClamps>
struct FloatOutput {
  float* y;
  int64_t stride;
  Affine affine;

  // Of a vector of channels, those from `channel` on.
  struct Constants {
    Floats multiplier;
    Floats bias;
  };
  Constants constants(int64_t channel) const {
    return {load_floats(affine.multiplier + channel), load_floats(affine.bias + channel)};
  }

  Floats value(Ints counts, const Constants& constants) const {
    Floats x = __builtin_convertvector(counts, Floats);
    if constexpr (kClamps) {
      const Floats least = affine.least - Floats{};
      const Floats most = affine.most - Floats{};
      x = x < most ? x : most;
      x = x > least ? x : least;
    }
    return x * constants.multiplier + constants.bias;
  }
};
