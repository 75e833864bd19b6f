// Operators of 8-bit integers, element by element, a panel of IntegerGemm's outputs at a time: sums, products and slopes
// of pairs (BytePairs in kernels.h), pools, and to and from floats, as are integers of 16 bits.
//
// Included by body.h behind integer_gemm.h; asks of an instruction set, beside store_bytes:
//   load_bytes(x, y)    kIntegerPanel bytes as vectors of integers
//   nearest_integers(x, least, most)
//                       the nearest integers, ties away from 0, 0 for NaN; beyond the bounds, whole numbers, what
//                       store_nearest makes these of
//   store_nearest(x, zero_point, y), store_nearest(x, y)
//                       what nearest_integers yields, as bytes with the zero point, and as integers of 16 bits
#pragma once

#include "integer_gemm.h"

// A factor for all lanes, whose products are rounded twice.
inline Factors same_factors(const FixedPoint& factor) {
  const Ints all = Ints{} - 1;
  return {ints_to_all_lanes(factor.multiplier), ints_to_all_lanes(factor.left()), ints_to_all_lanes(factor.right()), all,
          all};
}

inline Factors select(Ints mask, const Factors& a, const Factors& b) {
  const auto pick = [mask](Ints x, Ints y) { return (mask & x) | (~mask & y); };
  return {pick(a.multiplier, b.multiplier), pick(a.left, b.left), pick(a.right, b.right), a.rounds, a.away};
}

// The bounds of what store_bytes stores; it is the zero point that store_bytes adds.
inline Requantization bounds_of(int32_t zero_point, int32_t least, int32_t most) {
  return {nullptr, nullptr, nullptr, false, true, zero_point, least, most};
}

// Bytes of which there may be less than a panel.
inline void load_some_bytes(const int8_t* x, int64_t size, Ints (&y)[kIntegerVectors]) {
  if (size >= kIntegerPanel) return load_bytes(x, y);
  int8_t bytes[kIntegerPanel] = {};
  for (int64_t i = 0; i < size; ++i) bytes[i] = x[i];
  load_bytes(bytes, y);
}

inline void store_some_bytes(const Ints (&x)[kIntegerVectors], const Requantization& bounds, int64_t size, int8_t* y) {
  if (size >= kIntegerPanel) return store_bytes(x, bounds, y);
  int8_t bytes[kIntegerPanel];
  store_bytes(x, bounds, bytes);
  for (int64_t i = 0; i < size; ++i) y[i] = bytes[i];
}

// A panel of an operand: its own bytes, or one byte for all.
inline void load_operand(const int8_t* x, int64_t step, int64_t first, int64_t size, Ints (&y)[kIntegerVectors]) {
  if (step == 1) return load_some_bytes(x + first, size, y);
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) y[v] = ints_to_all_lanes(*x);
}

template <ByteCombination kCombination>
void combine_all(const BytePairs& pairs, int64_t size, int8_t* y) {
  const Factors a_factors = same_factors(pairs.a_factor), b_factors = same_factors(pairs.b_factor);
  const Factors factors = same_factors(pairs.factor);
  const Requantization bounds = bounds_of(pairs.zero_point, pairs.least, pairs.most);
  const Ints a_point = ints_to_all_lanes(pairs.a_point), b_point = ints_to_all_lanes(pairs.b_point);
  for (int64_t i = 0; i < size; i += kIntegerPanel) {
    Ints a[kIntegerVectors], b[kIntegerVectors];
    load_operand(pairs.a, pairs.a_step, i, size - i, a);
    load_operand(pairs.b, pairs.b_step, i, size - i, b);
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) {
      const Ints left = a[v] - a_point, right = b[v] - b_point;
      if constexpr (kCombination == ByteCombination::kSum) {
        const Ints sum = scaled_any(left << kSumBits, a_factors) + scaled_any(right << kSumBits, b_factors);
        a[v] = scaled_any(sum, factors);
      } else if constexpr (kCombination == ByteCombination::kProduct) {
        a[v] = scaled_any(left * right, factors);
      } else {
        const Ints is_negative = left < 0;
        a[v] = scaled_any((is_negative & (left * right)) | (~is_negative & left),
                          select(is_negative, b_factors, factors));
      }
    }
    store_some_bytes(a, bounds, size - i, y + i);
  }
}

void combine_bytes(ByteCombination combination, const BytePairs& pairs, int64_t size, int8_t* y) {
  switch (combination) {
    case ByteCombination::kSum: return combine_all<ByteCombination::kSum>(pairs, size, y);
    case ByteCombination::kProduct: return combine_all<ByteCombination::kProduct>(pairs, size, y);
    case ByteCombination::kPrelu: return combine_all<ByteCombination::kPrelu>(pairs, size, y);
  }
}

// pixel(x) for each pixel of a window.
template <typename Function>
inline void for_pixels(const ByteWindow& window, int64_t channels, const Function& pixel) {
  for (int64_t line = 0; line < window.lines; ++line) {
    for (int64_t i = 0; i < window.pixels; ++i) pixel(window.x + line * window.step + i * channels);
  }
}

// The bytes that fit into kLanes words.
typedef int8_t ManyBytes __attribute__((vector_size(kLanes * 4)));
typedef int8_t UnalignedManyBytes __attribute__((vector_size(kLanes * 4), aligned(1), may_alias));

void maximum_bytes(const ByteWindow& window, int64_t channels, int8_t* y) {
  int64_t c = 0;
  for (; c + kLanes * 4 <= channels; c += kLanes * 4) {
    ManyBytes most = *reinterpret_cast<const UnalignedManyBytes*>(window.x + c);
    for_pixels(window, channels, [&](const int8_t* pixel) {
      const ManyBytes x = *reinterpret_cast<const UnalignedManyBytes*>(pixel + c);
      most = x > most ? x : most;
    });
    *reinterpret_cast<UnalignedManyBytes*>(y + c) = most;
  }
  for (; c < channels; ++c) {
    int8_t most = window.x[c];
    for_pixels(window, channels, [&](const int8_t* pixel) { most = pixel[c] > most ? pixel[c] : most; });
    y[c] = most;
  }
}

// Sums of so few pixels are whole floats, halves and all, and so their rounded quotient lies on the right side of every
// integer: 2^15 · 128 + 2^14 < 2^24.
constexpr int64_t kFewPixels = 1 << 15;

void average_bytes(const ByteWindow& window, int64_t channels, int8_t* y) {
  const auto count = static_cast<int32_t>(window.lines * window.pixels);
  const Requantization bounds = bounds_of(0, -128, 127);
  for (int64_t c = 0; c < channels; c += kIntegerPanel) {
    Ints sums[kIntegerVectors] = {};
    for_pixels(window, channels, [&](const int8_t* pixel) {
      Ints x[kIntegerVectors];
      load_some_bytes(pixel + c, channels - c, x);
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) sums[v] += x[v];
    });
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) {
      const Ints half = ints_to_all_lanes(count / 2);
      const Ints is_positive = sums[v] > 0;
      const Ints dividend = sums[v] + ((is_positive & half) | (~is_positive & -half));
      if (count <= kFewPixels) {
        const Floats quotient = __builtin_convertvector(dividend, Floats) / (static_cast<float>(count) - Floats{});
        sums[v] = __builtin_convertvector(quotient, Ints);
      } else {
        sums[v] = dividend / count;
      }
    }
    store_some_bytes(sums, bounds, channels - c, y + c);
  }
}

// step(x, y) of a panel's elements at a time; the rest is filled up with zeros.
template <typename From, typename To, typename Step>
inline void in_panels(const From* x, int64_t size, To* y, const Step& step) {
  int64_t i = 0;
  for (; i + kIntegerPanel <= size; i += kIntegerPanel) step(x + i, y + i);
  if (i == size) return;
  From from[kIntegerPanel] = {};
  To to[kIntegerPanel];
  for (int64_t k = i; k < size; ++k) from[k - i] = x[k];
  step(from, to);
  for (int64_t k = i; k < size; ++k) y[k] = to[k - i];
}

// to_steps(x): a vector of floats in steps of the scale, with a fraction.
template <typename Function>
inline void with_steps(const IntegerScale& scale, const Function& function) {
  const Floats factor = scale.factor - Floats{}, divisor = scale.scale - Floats{};
  if (scale.factor > 0) return function([factor](Floats x) { return x * factor; });
  return function([divisor](Floats x) { return x / divisor; });
}

// uint8 is int8 with another first bit, and a zero point less by 128.
void quantize_bytes(const float* x, const IntegerScale& scale, int64_t size, uint8_t* y) {
  const int32_t point = scale.zero_point - (scale.is_unsigned ? 128 : 0);
  const Floats least = static_cast<float>(-128 - point) - Floats{}, most = static_cast<float>(127 - point) - Floats{};
  with_steps(scale, [&](const auto& to_steps) {
    in_panels(x, size, reinterpret_cast<int8_t*>(y), [&](const float* from, int8_t* to) {
      Ints nearest[kIntegerVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) {
        nearest[v] = nearest_integers(to_steps(load_floats(from + v * kLanes)), least, most);
      }
      store_nearest(nearest, point, to);
    });
  });
  if (!scale.is_unsigned) return;
  for (int64_t k = 0; k < size; ++k) y[k] ^= 0x80;
}

void dequantize_bytes(const uint8_t* x, const IntegerScale& scale, int64_t size, float* y) {
  const Ints zero_point = ints_to_all_lanes(scale.zero_point);
  const Ints bits = ints_to_all_lanes(scale.is_unsigned ? 0xff : -1);
  const Floats factor = scale.scale - Floats{};
  in_panels(x, size, y, [&](const uint8_t* from, float* to) {
    Ints integers[kIntegerVectors];
    load_bytes(reinterpret_cast<const int8_t*>(from), integers);
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) {
      store(factor * __builtin_convertvector((integers[v] & bits) - zero_point, Floats), to + v * kLanes);
    }
  });
}

void quantize_shorts(const float* x, const IntegerScale& scale, int64_t size, int16_t* y) {
  const Floats least = -32768 - Floats{}, most = 32767 - Floats{};
  with_steps(scale, [&](const auto& to_steps) {
    in_panels(x, size, y, [&](const float* from, int16_t* to) {
      Ints nearest[kIntegerVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) {
        nearest[v] = nearest_integers(to_steps(load_floats(from + v * kLanes)), least, most);
      }
      store_nearest(nearest, to);
    });
  });
}

void dequantize_shorts(const int16_t* x, const IntegerScale& scale, int64_t size, float* y) {
  const Floats factor = scale.scale - Floats{};
  in_panels(x, size, y, [&](const int16_t* from, float* to) {
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) {
      const ShortInts integers = *reinterpret_cast<const UnalignedShortInts*>(from + v * kLanes);
      store(factor * __builtin_convertvector(__builtin_convertvector(integers, Ints), Floats), to + v * kLanes);
    }
  });
}
