// Products of 8-bit integers, on processors that multiply pairs of 16-bit integers and add the two products: a pair of
// numbers of a row meets a vector of outputs' pairs of weights, and no sum ever crosses lanes.
//
// Included before body.h.  Panels are [depth / 2, outputs, 2] of 16-bit integers, rows are of 16-bit integers as well.
// A file for an instruction set defines before:
//   kIntegerVectors, kIntegerRows  the tile
//   add_pairs(sums, w, x)          sums + w[2·i] · x[2·i] + w[2·i+1] · x[2·i+1], i over the lanes
#pragma once

#include "requantize.h"

constexpr int64_t kIntegerPanel = kIntegerVectors * kLanes;
constexpr int64_t kIntegerStep = 2;
constexpr bool kIntegersAreWide = true;

// A pair to all lanes.
inline __attribute__((always_inline)) Bits pair_to_all_lanes(const int16_t* pair) {
  uint32_t both = 0;
  __builtin_memcpy(&both, pair, sizeof(both));
  typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
  return reinterpret_cast<Bits>(both - Words{});
}

template <int kRows>
inline __attribute__((always_inline)) void integer_tile(const IntegerGemm& gemm, const int16_t* x, const int16_t* panel,
                                                        int64_t output, int8_t* y) {
  Ints sums[kRows][kIntegerVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) {
    const Ints bias = load_ints(gemm.bias + output + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sums[r][v] = bias;
  }
  for (int64_t k = 0; k < gemm.depth; k += kIntegerStep, panel += kIntegerStep * kIntegerPanel) {
    Bits w[kIntegerVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) w[v] = load(reinterpret_cast<const uint32_t*>(panel) + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Bits pair = pair_to_all_lanes(x + r * gemm.step + k);
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) sums[r][v] = add_pairs(sums[r][v], w[v], pair);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) {
    const int64_t first = output + v * kLanes;
    if (first >= gemm.outputs) break;
    const Factors factors(gemm.requantization, first);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      store_bytes(requantized(sums[r][v], factors, gemm.requantization), y + r * gemm.stride + first,
                  gemm.outputs - first);
    }
  }
}

template <int kRows>
void integer_panel(const IntegerGemm& gemm, const int16_t* x, int64_t count, const int16_t* panel, int64_t output,
                   int8_t* y) {
  for (; count >= kRows; count -= kRows, x += kRows * gemm.step, y += kRows * gemm.stride) {
    integer_tile<kRows>(gemm, x, panel, output, y);
  }
  if constexpr (kRows > 1) {
    if (count > 0) integer_panel<kRows / 2>(gemm, x, count, panel, output, y);
  }
}

void integer_gemm(const IntegerGemm& gemm, int8_t* y) {
  const auto* panel = static_cast<const int16_t*>(gemm.panels);
  for (int64_t output = 0; output < gemm.outputs; output += kIntegerPanel, panel += gemm.depth * kIntegerPanel) {
    integer_panel<kIntegerRows>(gemm, static_cast<const int16_t*>(gemm.rows), gemm.count, panel, output, y);
  }
}
