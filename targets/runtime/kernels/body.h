// The inner loops in terms of a few vector operations, included by one file for each instruction set.
//
// That file defines, in a namespace of its own, before it includes this one:
//   kLanes                     32-bit lanes of a vector
//   Bits                       a vector of kLanes words
//   kRun                       how many words the counters may add up before `widen` must empty them
//   kVectors                   the widest panel, in vectors
//   kPixels                    pixels of a block; kPixels · kVectors counters should stay in registers
//   load(words)                a vector of them
//   kInterleaves               whether the words of a block's pixels lie side by side, [words, kPixels], so that one
//                              pointer runs through the block; else each pixel's lie together, [kPixels, words]
//   broadcast(words, stride, vectors)
//                              kPixels words, `stride` apart, each to all lanes of a vector
//   popcount(x)                the set bits of each lane of x, or of each byte of it
//   accumulate(counters, x)    adds them to the lane's counters
//   widen(counters)            the counters of each lane as one integer
//   kBatch                     counters whose operations of one kind go together: all exclusive ors, then all popcounts
//   in_order(vectors), in_order(vector, vector)
//                              tells the compiler to keep that order, and that of loads, where its own is worse
//   kShortWords                filters of up to so many words, of a whole panel, stay in registers (2 at most)
//   kUsesTables                whether tables may take the place of panels (tables.h)
//   sign_word(x)               bit i: x[i] ≤ kLargestNegative, of 32 floats
//   greater_word(a, b)         bit i: a[i] > b[i], of 32 integers
//   kFloatVectors, kFloatRows, kFactors, add_product, add_product_with, larger, smaller
//                              for products of floats (float_gemm.h)
//   kIntegerVectors, kIntegerRows, kIntegerStep, kIntegerMultiple, Number, add_products, scaled_twice, scaled_any,
//   store_bytes                for products of integers (integer_gemm.h)
//
// Includes go one way: body.h → tables.h → outputs.h → vectors.h, and body.h → elementwise.h, float_gemm.h and
// integer_gemm.h → vectors.h.  None can do without those definitions, and all are part of that file's namespace: every instruction set
// compiles its own copy.
#pragma once

#include "elementwise.h"
#include "float_gemm.h"
#include "integer_gemm.h"
#include "outputs.h"
#include "tables.h"

// The largest batch that divides so many vectors.
constexpr int batch_of(int vectors) {
  int batch = kBatch;
  while (vectors % batch != 0) --batch;
  return batch;
}

// Counts kSize of the products of each pixel's word and each vector of filters, those from `first` on.
template <int kWidth, int kSize>
inline __attribute__((always_inline)) void count_products(const Bits* activations, const Bits (&filters)[kWidth],
                                                          int first, Bits (&counters)[kSize]) {
  Bits batch[kSize];
#pragma GCC unroll 8
  for (int i = 0; i < kSize; ++i) batch[i] = activations[(first + i) / kWidth] ^ filters[(first + i) % kWidth];
  in_order(batch);
#pragma GCC unroll 8
  for (int i = 0; i < kSize; ++i) batch[i] = popcount(batch[i]);
  in_order(batch);
#pragma GCC unroll 8
  for (int i = 0; i < kSize; ++i) counters[i] = accumulate(counters[i], batch[i]);
  in_order(counters);
}

// Outputs [pixel, channel] of one block of pixels, `pixels` of them real, and one panel of kWidth vectors, `channels`
// of them real.
template <int kWidth, typename Output>
inline __attribute__((always_inline)) void gemm_block(const uint32_t* patches, int64_t words, const uint32_t* panel,
                                                      int64_t pixel, int64_t pixels, int64_t channel, int64_t channels,
                                                      const Output& output) {
  constexpr int kSize = batch_of(kPixels * kWidth);
  Ints sums[kPixels][kWidth];
  constexpr bool kRunsOnce = kRun == INT32_MAX;  // words never are that many
  for (int64_t first = 0; first == 0 || (!kRunsOnce && first < words); first += kRun) {
    Bits counters[kPixels * kWidth / kSize][kSize] = {};
    const int64_t last = kRunsOnce || words - first < kRun ? words : first + kRun;
    for (int64_t word = first; word < last; ++word) {
      Bits activations[kPixels];
      broadcast(kInterleaves ? patches + word * kPixels : patches + word, kInterleaves ? 1 : words, activations);
      Bits filters[kWidth];
#pragma GCC unroll 8
      for (int v = 0; v < kWidth; ++v) {
        filters[v] = load(panel + (word * kWidth + v) * kLanes);
        if (v % 2 == 1) in_order(filters[v - 1], filters[v]);  // what is used first is not to be loaded last
      }
#pragma GCC unroll 24
      for (int i = 0; i < kPixels * kWidth; i += kSize) count_products(activations, filters, i, counters[i / kSize]);
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < kWidth; ++v) {
        const Ints wide = widen(counters[(p * kWidth + v) / kSize][(p * kWidth + v) % kSize]);
        sums[p][v] = first == 0 ? wide : sums[p][v] + wide;
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    if (p >= pixels) break;
    auto* const y = output.y + (pixel + p) * output.stride + channel;
#pragma GCC unroll 8
    for (int v = 0; v < kWidth; ++v) {
      const auto value = output.value(sums[p][v], output.constants(channel + v * kLanes));
      if ((v + 1) * kLanes <= channels) {
        store(value, y + v * kLanes);
      } else {
        store_some(value, y + v * kLanes, channels - v * kLanes);
      }
    }
  }
}

static_assert((kShortWords == 0 && !kUsesTables) || !kInterleaves, "a pixel's words lie together");

inline Bits to_all_lanes(uint32_t word) { return reinterpret_cast<Bits>(static_cast<int32_t>(word) - Ints{}); }

// One full panel of filters of kWords words against all pixels, one at a time: filters and constants stay in registers.
template <int kWidth, int kWords, typename Output>
void gemm_short(BinaryGemm gemm, const uint32_t* panel, int64_t channel, Output output) {
  Bits filters[kWords][kWidth];
  typename Output::Constants constants[kWidth];
  for (int word = 0; word < kWords; ++word) {
    for (int v = 0; v < kWidth; ++v) filters[word][v] = load(panel + (word * kWidth + v) * kLanes);
  }
  for (int v = 0; v < kWidth; ++v) constants[v] = output.constants(channel + v * kLanes);
  auto* y = output.y + channel;
  for (int64_t pixel = 0; pixel < gemm.pixels; ++pixel, gemm.patches += kWords, y += output.stride) {
#pragma GCC unroll 8
    for (int v = 0; v < kWidth; ++v) {
      Bits counters = popcount(to_all_lanes(gemm.patches[0]) ^ filters[0][v]);
#pragma GCC unroll 8
      for (int word = 1; word < kWords; ++word) {
        counters = accumulate(counters, popcount(to_all_lanes(gemm.patches[word]) ^ filters[word][v]));
      }
      store(output.value(widen(counters), constants[v]), y + v * kLanes);
    }
  }
}

// One panel against all pixels.  All by value, and so in registers: for what the compiler knows, a store to the output
// might change whatever lies in memory.
template <int kWidth, typename Output>
void gemm_panel(BinaryGemm gemm, const uint32_t* panel, int64_t channel, Output output) {
  const int64_t channels = gemm.filters - channel;
  const bool is_full = channels >= kWidth * kLanes;
  if constexpr (kShortWords >= 1) {
    if (gemm.words == 1 && is_full) return gemm_short<kWidth, 1>(gemm, panel, channel, output);
  }
  if constexpr (kShortWords >= 2) {
    if (gemm.words == 2 && is_full) return gemm_short<kWidth, 2>(gemm, panel, channel, output);
  }
  for (int64_t pixel = 0; pixel < gemm.pixels; pixel += kPixels, gemm.patches += kPixels * gemm.words) {
    const int64_t pixels = gemm.pixels - pixel;
    if (is_full && pixels >= kPixels) {
      gemm_block<kWidth>(gemm.patches, gemm.words, panel, pixel, kPixels, channel, kWidth * kLanes, output);
    } else {
      gemm_block<kWidth>(gemm.patches, gemm.words, panel, pixel, pixels, channel, channels, output);
    }
  }
}

template <typename Output>
void gemm(const BinaryGemm& gemm, const Output& output) {
  if constexpr (kUsesTables) {
    if (gemm.tables != nullptr) return gemm_tables(gemm, output);
  }
  constexpr int64_t kPanelChannels = kVectors * kLanes;
  const uint32_t* panel = gemm.panels;
  for (int64_t channel = 0; channel < gemm.filters; channel += kPanelChannels) {
    const int64_t rest = (gemm.filters - channel + kLanes - 1) / kLanes;
    const int64_t width = rest < kVectors ? rest : kVectors;
    static_assert(kVectors <= 4, "a case for each width");
    switch (width) {
      case 1: gemm_panel<1>(gemm, panel, channel, output); break;
      case 2: gemm_panel<2>(gemm, panel, channel, output); break;
      case 3: gemm_panel<3>(gemm, panel, channel, output); break;
      default: gemm_panel<kVectors>(gemm, panel, channel, output); break;
    }
    panel += gemm.words * width * kLanes;
  }
}

void gemm_float(const BinaryGemm& arguments, const Affine& affine, float* y) {
  if (affine.clamps) {
    gemm(arguments, FloatOutput<true>{y, arguments.stride, affine});
  } else {
    gemm(arguments, FloatOutput<false>{y, arguments.stride, affine});
  }
}

void gemm_counts(const BinaryGemm& arguments, int32_t* p) { gemm(arguments, CountsOutput{p, arguments.stride}); }

// `words` words of each pixel, `step` and `patch_words` apart; where kWords is not 0, it is their number.
template <int kWords>
void copy_rows(const uint32_t* from, int64_t step, const PatchSlice& slice, uint32_t* to) {
  const size_t bytes = sizeof(*to) * static_cast<size_t>(kWords != 0 ? kWords : slice.words);
  for (int64_t pixel = 0; pixel < slice.pixels; ++pixel, from += step, to += slice.patch_words) {
    __builtin_memcpy(to, from, bytes);
  }
}

[[maybe_unused]] void pack_rows(const uint32_t* from, int64_t step, const PatchSlice& slice, uint32_t* to) {
  if (from == nullptr) {
    const size_t bytes = sizeof(*to) * static_cast<size_t>(slice.words);
    for (int64_t pixel = 0; pixel < slice.pixels; ++pixel) __builtin_memset(to + pixel * slice.patch_words, 0, bytes);
    return;
  }
  switch (slice.words) {  // 32 to 128 channels, a tap or three: too few for a call of memcpy
    case 1: return copy_rows<1>(from, step, slice, to);
    case 2: return copy_rows<2>(from, step, slice, to);
    case 3: return copy_rows<3>(from, step, slice, to);
    case 4: return copy_rows<4>(from, step, slice, to);
    case 6: return copy_rows<6>(from, step, slice, to);
    case 12: return copy_rows<12>(from, step, slice, to);
    default: return copy_rows<0>(from, step, slice, to);
  }
}

[[maybe_unused]] void pack_interleaved(const uint32_t* from, int64_t step, const PatchSlice& slice, uint32_t* to) {
  int64_t lane = slice.first_pixel % kPixels;
  for (int64_t pixel = 0; pixel < slice.pixels; ++pixel) {
    for (int64_t word = 0; word < slice.words; ++word) to[word * kPixels + lane] = from == nullptr ? 0 : from[word];
    if (from != nullptr) from += step;
    if (++lane == kPixels) {
      lane = 0;
      to += kPixels * slice.patch_words;
    }
  }
}

void pack(const uint32_t* from, int64_t step, const PatchSlice& slice, uint32_t* patches) {
  if constexpr (kInterleaves) {
    const int64_t block = slice.first_pixel / kPixels * kPixels * slice.patch_words;
    pack_interleaved(from, step, slice, patches + block + slice.first_word * kPixels);
  } else {
    pack_rows(from, step, slice, patches + slice.first_pixel * slice.patch_words + slice.first_word);
  }
}

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
  constexpr auto kFillTables = kUsesTables ? fill_tables : nullptr;
  return {name,
          kLanes,
          kVectors * kLanes,
          kPixels,
          !kInterleaves,
          kFloatVectors * kLanes,
          kFloatRows,
          table_bytes,
          kFillTables,
          gemm_float,
          gemm_counts,
          pack,
          quantize,
          threshold,
          run_chain,
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
          integer_gemm,
          requantize};
}
