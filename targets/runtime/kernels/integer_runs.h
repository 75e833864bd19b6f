// Products of 8-bit integers, 16 numbers of a row with those of one output at a time: sums of products lie side by side
// in a vector and are added up at the end.
//
// Included before body.h.  Panels are [depth / 16, kIntegerPanel outputs, 16] of bytes, rows are of bytes.
// A file for an instruction set defines before:
//   kIntegerRows                 rows of a tile
//   Run                          a vector of 16 bytes, of rows or of weights
//   load_run(bytes)              one from memory
//   RunSums, add_run(sums, w, x) partial sums + those of w · x; begin as RunSums{}
//   add_up(sums)                 of kIntegerPanel partial sums, the whole ones as Ints
#pragma once

#include "requantize.h"

constexpr int64_t kIntegerPanel = kLanes;
constexpr int64_t kIntegerStep = 16;
constexpr bool kIntegersAreWide = false;

template <int kRows>
inline __attribute__((always_inline)) void integer_tile(const IntegerGemm& gemm, const int8_t* x, const int8_t* panel,
                                                        const Factors& factors, int64_t output, int8_t* y) {
  RunSums sums[kRows][kIntegerPanel] = {};
  for (int64_t k = 0; k < gemm.depth; k += kIntegerStep) {
    Run row[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) row[r] = load_run(x + r * gemm.step + k);
#pragma GCC unroll 4
    for (int o = 0; o < kIntegerPanel; ++o, panel += kIntegerStep) {
      const Run w = load_run(panel);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums[r][o] = add_run(sums[r][o], w, row[r]);
    }
  }
  const Ints bias = load_ints(gemm.bias + output);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    store_bytes(requantized(bias + add_up(sums[r]), factors, gemm.requantization), y + r * gemm.stride + output,
                gemm.outputs - output);
  }
}

template <int kRows>
void integer_panel(const IntegerGemm& gemm, const int8_t* x, int64_t count, const int8_t* panel, int64_t output,
                   int8_t* y) {
  const Factors factors(gemm.requantization, output);
  for (; count >= kRows; count -= kRows, x += kRows * gemm.step, y += kRows * gemm.stride) {
    integer_tile<kRows>(gemm, x, panel, factors, output, y);
  }
  if constexpr (kRows > 1) {
    if (count > 0) integer_panel<kRows / 2>(gemm, x, count, panel, output, y);
  }
}

void integer_gemm(const IntegerGemm& gemm, int8_t* y) {
  const auto* panel = static_cast<const int8_t*>(gemm.panels);
  for (int64_t output = 0; output < gemm.outputs; output += kIntegerPanel, panel += gemm.depth * kIntegerPanel) {
    integer_panel<kIntegerRows>(gemm, static_cast<const int8_t*>(gemm.rows), gemm.count, panel, output, y);
  }
}
