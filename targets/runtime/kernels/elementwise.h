// Chains of arithmetic, element by element: a block of elements stays in registers from the first step to the last.
// Included by body.h.
#pragma once

#include "vectors.h"

// Vectors, or single floats where no vector is left, are `T`.
template <typename T>
constexpr int64_t lanes_of = sizeof(T) / sizeof(float);

template <typename T>
inline T load_as(const float* x) {
  if constexpr (lanes_of<T> == 1) {
    return *x;
  } else {
    return load_floats(x);
  }
}

template <typename T>
inline T all_lanes(float x) {
  return x - T{};
}

inline void store(float value, float* y) { *y = value; }

inline float absolute(float x) { return __builtin_fabsf(x); }
inline Floats absolute(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & INT32_MAX); }

// NaN stays NaN.
template <typename T>
inline T bound(T x, T least, T most) {
  x = least > x ? least : x;
  return most < x ? most : x;
}

// Structures and not lambdas: GCC compiles a lambda for the baseline instruction set.
#define BNNCC_FUNCTION(name, expression)  \
  struct name {                           \
    template <typename T>                 \
    inline T operator()(T a, T b) const { \
      return expression;                  \
    }                                     \
  }
BNNCC_FUNCTION(Sum, a + b);
BNNCC_FUNCTION(Difference, a - b);
BNNCC_FUNCTION(ReversedDifference, b - a);
BNNCC_FUNCTION(Product, (a * b));
BNNCC_FUNCTION(Quotient, a / b);
BNNCC_FUNCTION(ReversedQuotient, b / a);
BNNCC_FUNCTION(Maximum, a > b ? a : b);
BNNCC_FUNCTION(Minimum, a < b ? a : b);
BNNCC_FUNCTION(Slope, a < 0 ? a * b : a);
#undef BNNCC_FUNCTION

struct Second {
  template <typename T>
  T operator()(T, T b) const {
    return b;
  }
};

template <typename T, int kBlock, typename Function>
inline __attribute__((always_inline)) void combine(T (&x)[kBlock], const Operand& b, int64_t pixel, int64_t channel,
                                                   const Function& function) {
  const float* const data = b.data + pixel * b.pixel_step + channel * b.channel_step;
  if (b.channel_step == 0) {
    const T number = all_lanes<T>(*data);
#pragma GCC unroll 8
    for (int i = 0; i < kBlock; ++i) x[i] = function(x[i], number);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kBlock; ++i) x[i] = function(x[i], load_as<T>(data + i * lanes_of<T>));
  }
}

template <typename T, int kBlock>
inline __attribute__((always_inline)) void take_step(const ChainStep& step, int64_t pixel, int64_t channel,
                                                     T (&x)[kBlock]) {
  switch (step.combination) {
    case Combination::kFirst: break;
    case Combination::kNegative:
#pragma GCC unroll 8
      for (int i = 0; i < kBlock; ++i) x[i] = -x[i];
      break;
    case Combination::kAbsolute:
#pragma GCC unroll 8
      for (int i = 0; i < kBlock; ++i) x[i] = absolute(x[i]);
      break;
    case Combination::kSum: combine(x, step.b, pixel, channel, Sum()); break;
    case Combination::kDifference: combine(x, step.b, pixel, channel, Difference()); break;
    case Combination::kReversedDifference: combine(x, step.b, pixel, channel, ReversedDifference()); break;
    case Combination::kProduct: combine(x, step.b, pixel, channel, Product()); break;
    case Combination::kQuotient: combine(x, step.b, pixel, channel, Quotient()); break;
    case Combination::kReversedQuotient: combine(x, step.b, pixel, channel, ReversedQuotient()); break;
    case Combination::kMaximum: combine(x, step.b, pixel, channel, Maximum()); break;
    case Combination::kMinimum: combine(x, step.b, pixel, channel, Minimum()); break;
    case Combination::kPrelu: combine(x, step.b, pixel, channel, Slope()); break;
  }
  if (!step.clamp.clamps) return;
  const T least = all_lanes<T>(step.clamp.least), most = all_lanes<T>(step.clamp.most);
#pragma GCC unroll 8
  for (int i = 0; i < kBlock; ++i) x[i] = bound(x[i], least, most);
}

// How far ahead of what is written the cache is told to make room, in floats.  Stores wait in order, and so hold up all
// that follows them where a map is larger than the second-level cache.
constexpr int64_t kPrefetched = 256;
constexpr int64_t kLineFloats = 16;  // of the cache

struct Chain {
  Operand x;
  const ChainStep* steps;
  int count;
  int64_t channels;
};

// kBlock vectors of one pixel's channels.
template <typename T, int kBlock>
inline void run_block(const Chain& chain, int64_t pixel, int64_t channel) {
  T x[kBlock] = {};
  combine(x, chain.x, pixel, channel, Second());
  for (const ChainStep* step = chain.steps; step != chain.steps + chain.count; ++step) {
    take_step(*step, pixel, channel, x);
    if (step->y == nullptr) continue;
    float* const y = step->y + pixel * chain.channels + channel;
#pragma GCC unroll 8
    for (int i = 0; i < kBlock; ++i) {
      if (i * lanes_of<T> % kLineFloats == 0) __builtin_prefetch(y + i * lanes_of<T> + kPrefetched, 1);
      store(x[i], y + i * lanes_of<T>);
    }
  }
}

void run_chain(const Operand& x, const ChainStep* steps, int count, int64_t pixels, int64_t channels) {
  const Chain chain = {x, steps, count, channels};
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    int64_t c = 0;
    for (; c + 8 * kLanes <= channels; c += 8 * kLanes) run_block<Floats, 8>(chain, pixel, c);
    for (; c + kLanes <= channels; c += kLanes) run_block<Floats, 1>(chain, pixel, c);
    for (; c < channels; ++c) run_block<float, 1>(chain, pixel, c);
  }
}
