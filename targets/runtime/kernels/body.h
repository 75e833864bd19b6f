// The inner loops in terms of a few vector operations, included by one file for each instruction set.
//
// That file defines, in a namespace of its own, before it includes this one:
//   kLanes                     32-bit lanes of a vector
//   gemm(arguments, output) and the rest of what panels.h and nibbles.h hold: one of these, included before
//   sign_word(x)               bit i: x[i] ≤ kLargestNegative, of 32 floats
//   greater_word(a, b)         bit i: a[i] > b[i], of 32 integers
//   kFloatVectors, kFloatRows, kFactors, add_product, add_product_with, larger, smaller
//                              for products of floats (float_gemm.h)
//   kIntegerVectors, kIntegerRows, kIntegerStep, kIntegerMultiple, kIntegerOffset, Number, add_products, scaled_twice, scaled_any,
//   store_bytes, load_bytes    for products of integers (integer_gemm.h), and other operators of theirs (bytes.h)
//
// Includes go one way: panels.h → tables.h → outputs.h → vectors.h, nibbles.h → outputs.h, and body.h → bytes.h,
// elementwise.h, float_gemm.h, gates.h and integer_gemm.h → vectors.h.  None can do without those definitions, and all are part of that
// file's namespace: every instruction set compiles its own copy.
#pragma once

#include "bytes.h"
#include "elementwise.h"
#include "float_gemm.h"
#include "gates.h"
#include "integer_gemm.h"
#include "outputs.h"

void gemm_float(const BinaryGemm& arguments, const Affine& affine, float* y) {
  if (affine.clamps) {
    gemm(arguments, FloatOutput<true>{y, arguments.stride, affine});
  } else {
    gemm(arguments, FloatOutput<false>{y, arguments.stride, affine});
  }
}

void gemm_counts(const BinaryGemm& arguments, int32_t* p) { gemm(arguments, CountsOutput{p, arguments.stride}); }

void quantize(const float* x, uint32_t* bits, int64_t pixels, int64_t channels) {
  // Without unused bits all pixels are one row.
  if (channels % 32 == 0) {
    channels *= pixels;
    pixels = 1;
  }
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += channels) {
    int64_t c = 0;
    for (; c + 32 <= channels; c += 32) *bits++ = sign_word(x + c);
    if (c == channels) continue;
    uint32_t word = 0;
    for (int64_t i = 0; c + i < channels; ++i) word |= uint32_t{x[c + i] <= kLargestNegative} << i;
    *bits++ = word;
  }
}

void threshold(const int32_t* counts, const int32_t* threshold, uint32_t* bits, int64_t pixels, int64_t channels) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel, counts += channels) {
    int64_t c = 0;
    for (; c + 32 <= channels; c += 32) *bits++ = greater_word(counts + c, threshold + c);
    if (c == channels) continue;
    uint32_t word = 0;
    for (int64_t i = 0; c + i < channels; ++i) word |= uint32_t{counts[c + i] > threshold[c + i]} << i;
    *bits++ = word;
  }
}

void add_counts(const int32_t* terms, int32_t* sums, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(load_ints(sums + i) + load_ints(terms + i), sums + i);
  for (; i < size; ++i) sums[i] += terms[i];
}

void multiply_add(const float* multiplier, const int32_t* sums, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Floats x = __builtin_convertvector(load_ints(sums + i), Floats);
    store(load_floats(y + i) + load_floats(multiplier + i) * x, y + i);
  }
  for (; i < size; ++i) y[i] += multiplier[i] * static_cast<float>(sums[i]);
}

void add_scaled(float factor, const float* x, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    store(add_product(load_floats(y + i), load_floats(x + i), to_all_lanes(factor)), y + i);
  }
  for (; i < size; ++i) y[i] = add_product(to_all_lanes(y[i]), to_all_lanes(x[i]), to_all_lanes(factor))[0];
}

void add_products(const float* x, const float* w, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    store(add_product(load_floats(y + i), load_floats(x + i), load_floats(w + i)), y + i);
  }
  for (; i < size; ++i) y[i] = add_product(to_all_lanes(y[i]), to_all_lanes(x[i]), to_all_lanes(w[i]))[0];
}

// The next kCount vectors of channels, which stay in registers.
template <int kCount>
inline void maximum_of(const FloatWindow& window, int64_t channels, float* y) {
  Floats most[kCount];
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) most[v] = load_floats(window.x + v * kLanes);
  for (int64_t line = 0; line < window.lines; ++line) {
    const float* x = window.x + line * window.step;
    for (int64_t pixel = 0; pixel < window.pixels; ++pixel, x += channels) {
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) most[v] = larger(load_floats(x + v * kLanes), most[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) store(most[v], y + v * kLanes);
}

void maximum(const FloatWindow& arguments, int64_t channels, float* y) {
  FloatWindow window = arguments;
  int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes, window.x += 4 * kLanes) maximum_of<4>(window, channels, y + c);
  for (; c + kLanes <= channels; c += kLanes, window.x += kLanes) maximum_of<1>(window, channels, y + c);
  for (; c < channels; ++c, ++window.x) {
    float most = *window.x;
    for (int64_t line = 0; line < window.lines; ++line) {
      for (int64_t pixel = 0; pixel < window.pixels; ++pixel) {
        const float x = window.x[line * window.step + pixel * channels];
        most = x > most ? x : most;
      }
    }
    y[c] = most;
  }
}

[[maybe_unused]] constexpr Kernels table(const char* name) {
  return {name,
          kLanes,
          kMostWords,
          kPixels,
          kPatchPixels,
          kPatchWordBytes,
          kPatchesAreRows,
          kFloatVectors * kLanes,
          kFloatRows,
          panel_words,
          fill_panels,
          table_bytes,
          kFillTables,
          gemm_float,
          gemm_counts,
          pack,
          quantize,
          threshold,
          run_chain,
          hard_swish,
          logistic,
          add_counts,
          multiply_add,
          float_gemm,
          add_scaled,
          add_products,
          maximum,
          kIntegerPanel,
          kIntegerStep,
          kIntegerMultiple,
          sizeof(Number) == 2,
          kIntegerOffset,
          integer_gemm,
          requantize,
          combine_bytes,
          maximum_bytes,
          average_bytes,
          quantize_bytes,
          dequantize_bytes,
          quantize_shorts,
          dequantize_shorts};
}
