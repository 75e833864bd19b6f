// Arithmetic on one or two maps, element by element; included by body.h.
#pragma once

#include "vectors.h"

inline Floats all_lanes(float x) { return x - Floats{}; }

// Each is what it does to vectors and to single floats.
struct First {
  template <typename T>
  T operator()(T a, T) const {
    return a;
  }
};

struct Negative {
  template <typename T>
  T operator()(T a, T) const {
    return -a;
  }
};

struct Absolute {
  float operator()(float a, float) const { return __builtin_fabsf(a); }
  Floats operator()(Floats a, Floats) const { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(a) & INT32_MAX); }
};

struct Sum {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};

struct Difference {
  template <typename T>
  T operator()(T a, T b) const {
    return a - b;
  }
};

struct Product {
  template <typename T>
  T operator()(T a, T b) const {
    return a * b;
  }
};

struct Quotient {
  template <typename T>
  T operator()(T a, T b) const {
    return a / b;
  }
};

struct Maximum {
  template <typename T>
  T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

struct Minimum {
  template <typename T>
  T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

struct PreluFunction {
  template <typename T>
  T operator()(T a, T b) const {
    return a < 0 ? a * b : a;
  }
};

// NaN stays NaN.
template <typename T>
inline T bound(T x, T least, T most) {
  x = least > x ? least : x;
  return most < x ? most : x;
}

// One row of each.  A pointer of an operand that all channels share is to one float.
template <bool kMapA, bool kMapB, typename Function>
void combine_row(const Function& function, const float* a, const float* b, const FloatClamp& clamp, float* y,
                 int64_t size) {
  const Floats first_a = all_lanes(*a), first_b = all_lanes(*b);
  const Floats least = all_lanes(clamp.least), most = all_lanes(clamp.most);
  const bool clamps = clamp.clamps;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Floats value = function(kMapA ? load_floats(a + i) : first_a, kMapB ? load_floats(b + i) : first_b);
    store(clamps ? bound(value, least, most) : value, y + i);
  }
  for (; i < size; ++i) {
    const float value = function(kMapA ? a[i] : first_a[0], kMapB ? b[i] : first_b[0]);
    y[i] = clamps ? bound(value, least[0], most[0]) : value;
  }
}

template <typename Function>
void combine_rows(const Function& function, const Operand& a, const Operand& b, const FloatClamp& clamp, float* y,
                  int64_t pixels, int64_t channels) {
  // Pixels that follow each other without gaps are one row, and so are those that share one number.
  const auto is_one_row = [=](const Operand& x) { return x.pixel_step == channels * x.channel_step; };
  if (is_one_row(a) && is_one_row(b)) {
    channels *= pixels;
    pixels = 1;
  }
  for (int64_t pixel = 0; pixel < pixels; ++pixel, y += channels) {
    const float* const row_a = a.data + pixel * a.pixel_step;
    const float* const row_b = b.data + pixel * b.pixel_step;
    if (a.channel_step == 0) {
      combine_row<false, true>(function, row_a, row_b, clamp, y, channels);
    } else if (b.channel_step == 0) {
      combine_row<true, false>(function, row_a, row_b, clamp, y, channels);
    } else {
      combine_row<true, true>(function, row_a, row_b, clamp, y, channels);
    }
  }
}

void combine(Combination function, const Operand& a, const Operand& b, const FloatClamp& clamp, float* y,
             int64_t pixels, int64_t channels) {
  switch (function) {
    case Combination::kFirst: return combine_rows(First(), a, b, clamp, y, pixels, channels);
    case Combination::kNegative: return combine_rows(Negative(), a, b, clamp, y, pixels, channels);
    case Combination::kAbsolute: return combine_rows(Absolute(), a, b, clamp, y, pixels, channels);
    case Combination::kSum: return combine_rows(Sum(), a, b, clamp, y, pixels, channels);
    case Combination::kDifference: return combine_rows(Difference(), a, b, clamp, y, pixels, channels);
    case Combination::kProduct: return combine_rows(Product(), a, b, clamp, y, pixels, channels);
    case Combination::kQuotient: return combine_rows(Quotient(), a, b, clamp, y, pixels, channels);
    case Combination::kMaximum: return combine_rows(Maximum(), a, b, clamp, y, pixels, channels);
    case Combination::kMinimum: return combine_rows(Minimum(), a, b, clamp, y, pixels, channels);
    case Combination::kPrelu: return combine_rows(PreluFunction(), a, b, clamp, y, pixels, channels);
  }
}
