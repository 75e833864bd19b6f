// Products of 8-bit integers: tiles of kIntegerRows rows by a panel of kIntegerVectors vectors of outputs, whose sums stay
// in registers until they are 8-bit integers again.
//
// Included by body.h.  A file for an instruction set defines before:
//   kIntegerVectors, kIntegerRows  the tile
//   Number                         what rows and panels are made of: int8_t, or int16_t
//   kIntegerStep, kIntegerMultiple numbers of a row that meet a weight together, and what depths are filled up to
//   kIntegerOffset                 what add_products adds to every number of a row
//   add_products(x, step, depth, panel, sums)
//                                  adds to sums[r][v] what `depth` numbers of row r, x + r · step, and their weights give
//   scaled_twice, scaled_any       (requantize.h)
//   store_bytes(x, requantization, y)
//                                  a row's outputs, with the zero point and between the bounds
#pragma once

#include "requantize.h"

constexpr int64_t kIntegerPanel = kIntegerVectors * kLanes;

// The sums of a row become its outputs.
inline __attribute__((always_inline)) void finish_row(Ints (&sums)[kIntegerVectors], const Factors* factors,
                                                      const Requantization& requantization, int64_t size, int8_t* y) {
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) {
    sums[v] = requantization.divides ? scaled_twice(sums[v], factors[v].multiplier, factors[v].right)
                                     : scaled_any(sums[v], factors[v]);
  }
  if (size >= kIntegerPanel) return store_bytes(sums, requantization, y);
  alignas(kLanes) int8_t bytes[kIntegerPanel];
  store_bytes(sums, requantization, bytes);
  for (int64_t i = 0; i < size; ++i) y[i] = bytes[i];
}

// `count` rows against a panel, kRows at a time, the rest by fewer.
template <int kRows>
void integer_panel(const IntegerGemm& gemm, const Number* x, int64_t count, const Number* panel, int64_t output,
                   int8_t* y) {
  const int64_t step = gemm.step, depth = gemm.depth, stride = gemm.stride;
  const Requantization requantization = gemm.requantization;
  Factors factors[kIntegerVectors];
  load_factors(requantization, output, factors);
  for (; count >= kRows; count -= kRows, x += kRows * step, y += kRows * stride) {
    Ints sums[kRows][kIntegerVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kIntegerVectors; ++v) {
      const Ints bias = load_ints(gemm.bias + output + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums[r][v] = bias;
    }
    add_products<kRows>(x, step, depth, panel, sums);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      finish_row(sums[r], factors, requantization, gemm.outputs - output, y + r * stride + output);
    }
  }
  if constexpr (kRows > 1) {
    if (count > 0) integer_panel<kRows / 2>(gemm, x, count, panel, output, y);
  }
}

void integer_gemm(const IntegerGemm& gemm, int8_t* y) {
  const auto* panel = static_cast<const Number*>(gemm.panels);
  for (int64_t output = 0; output < gemm.outputs; output += kIntegerPanel, panel += gemm.depth * kIntegerPanel) {
    integer_panel<kIntegerRows>(gemm, static_cast<const Number*>(gemm.rows), gemm.count, panel, output, y);
  }
}

void requantize(const int32_t* sums, const Requantization& requantization, int64_t pixels, int64_t channels,
                int8_t* y) {
  for (int64_t c = 0; c < channels; c += kIntegerPanel) {
    Factors factors[kIntegerVectors];
    load_factors(requantization, c, factors);
    const int64_t size = channels - c;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int32_t* from = sums + pixel * channels + c;
      alignas(kLanes * 4) int32_t last[kIntegerPanel] = {};
      if (size < kIntegerPanel) {
        for (int64_t i = 0; i < size; ++i) last[i] = from[i];
        from = last;
      }
      Ints row[kIntegerVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kIntegerVectors; ++v) row[v] = load_ints(from + v * kLanes);
      finish_row(row, factors, requantization, size, y + pixel * channels + c);
    }
  }
}
