// Products of floats: tiles of kFloatRows rows by a panel of kFloatVectors vectors stay in registers over all k.
//
// Included by body.h.  One number of a row meets a vector of outputs, and no sum ever crosses lanes: every output is
// the same, to the last bit, in whatever tile it is.  A file for an instruction set defines before:
//   kFloatVectors, kFloatRows  the tile
//   kFactors                   how many numbers of a row are loaded at once, to become factors: 1, or 4, a vector
//   add_product(sums, w, x)    sums + w · x
//   add_product_with<k>(sums, w, factors)
//                              the same with number k of the factors, where there are 4 (else: one_factor.h)
//   larger(a, b), smaller(a, b)
//                              the larger and the smaller lanes, and NaN where b is NaN
#pragma once

#include "vectors.h"

inline Floats to_all_lanes(float x) { return x - Floats{}; }

template <int kRows, int kWidth>
using FloatSums = Floats[kRows][kWidth];

// The next number of each row against its vectors of the panel.
template <int kRows, int kWidth>
inline __attribute__((always_inline)) void add_column(const float* (&x)[kRows], const float* panel,
                                                      FloatSums<kRows, kWidth>& sums) {
  Floats w[kWidth];
#pragma GCC unroll 8
  for (int v = 0; v < kWidth; ++v) w[v] = load_floats(panel + v * kLanes);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const Floats factor = to_all_lanes(*x[r]++);
#pragma GCC unroll 8
    for (int v = 0; v < kWidth; ++v) sums[r][v] = add_product(sums[r][v], w[v], factor);
  }
}

// Numbers kFirst to 3 of four of each row.
template <int kFirst, int kRows, int kWidth>
inline __attribute__((always_inline)) void add_columns(const Floats (&factors)[kRows], const float* panel,
                                                       FloatSums<kRows, kWidth>& sums) {
  if constexpr (kFirst < kFactors) {
    Floats w[kWidth];
#pragma GCC unroll 8
    for (int v = 0; v < kWidth; ++v) w[v] = load_floats(panel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kWidth; ++v) sums[r][v] = add_product_with<kFirst>(sums[r][v], w[v], factors[r]);
    }
    add_columns<kFirst + 1, kRows, kWidth>(factors, panel + kWidth * kLanes, sums);
  }
}

// kRows rows against a panel, of whose outputs so many are real.
template <int kRows, int kWidth>
inline __attribute__((always_inline)) void float_tile(const FloatGemm& gemm, int64_t outputs, float* y) {
  constexpr int64_t kStep = kWidth * kLanes;
  const FloatRows& rows = gemm.rows;
  const float* panel = gemm.panels;
  FloatSums<kRows, kWidth> sums;
#pragma GCC unroll 8
  for (int v = 0; v < kWidth; ++v) {
    const Floats bias = load_floats(gemm.bias + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sums[r][v] = bias;
  }
  const float* x[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) x[r] = rows.x + r * rows.step;
  for (int64_t i = 0; i < rows.runs; ++i) {
    int64_t rest = rows.run;
    if constexpr (kFactors > 1) {
      for (; rest >= kFactors; rest -= kFactors, panel += kFactors * kStep) {
        Floats factors[kRows];
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          factors[r] = load_floats(x[r]);
          x[r] += kFactors;
        }
        add_columns<0, kRows, kWidth>(factors, panel, sums);
      }
    }
    for (; rest > 0; --rest, panel += kStep) add_column<kRows, kWidth>(x, panel, sums);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) x[r] += rows.run_step - rows.run;
  }
  if (gemm.clamp.clamps) {
    const Floats least = to_all_lanes(gemm.clamp.least);
    const Floats most = to_all_lanes(gemm.clamp.most);
#pragma GCC unroll 32
    for (int i = 0; i < kRows * kWidth; ++i) {
      Floats& sum = sums[i / kWidth][i % kWidth];
      sum = larger(least, smaller(most, sum));
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kWidth; ++v) {
    const bool is_full = (v + 1) * kLanes <= outputs;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      float* const to = y + r * gemm.stride + v * kLanes;
      if (is_full) {
        store(sums[r][v], to);
      } else {
        store_some(sums[r][v], to, outputs - v * kLanes);
      }
    }
  }
}

constexpr int power_of_two_below(int rows) {
  int power = 1;
  while (2 * power < rows) power *= 2;
  return power;
}

// All rows against one panel, kRows at a time, the rest by fewer.  By value: so the fields stay in registers.
template <int kRows, int kWidth>
void float_panel(FloatGemm gemm, int64_t outputs, float* y) {
  FloatRows& rows = gemm.rows;
  for (; rows.count >= kRows; rows.count -= kRows, rows.x += kRows * rows.step, y += kRows * gemm.stride) {
    float_tile<kRows, kWidth>(gemm, outputs, y);
  }
  if constexpr (kRows > 1) {
    if (rows.count > 0) float_panel<power_of_two_below(kRows), kWidth>(gemm, outputs, y);
  }
}

void float_gemm(const FloatGemm& arguments, float* y) {
  static_assert(kFloatVectors <= 4, "a case for each width");
  constexpr int64_t kPanel = kFloatVectors * kLanes;
  const int64_t depth = arguments.rows.runs * arguments.rows.run;
  FloatGemm gemm = arguments;
  for (int64_t rest = gemm.outputs; rest > 0; rest -= kPanel, gemm.panels += kPanel * depth, gemm.bias += kPanel) {
    const int64_t width = rest < kPanel ? (rest + kLanes - 1) / kLanes : kFloatVectors;
    switch (width) {
      case 1: float_panel<kFloatRows, 1>(gemm, rest, y); break;
      case 2: float_panel<kFloatRows, 2>(gemm, rest, y); break;
      case 3: float_panel<kFloatRows, kFloatVectors < 3 ? kFloatVectors : 3>(gemm, rest, y); break;
      default: float_panel<kFloatRows, kFloatVectors>(gemm, rest, y); break;
    }
    y += kPanel;
  }
}
