// Counts by popcounts of vectors: a word of each pixel of a block meets a panel of filters.
//
// Panels are [words, filters] each, of kVectors vectors, the last one of as many as its filters fill; zeros fill up the
// last vector.  Patches are [pixels, words], or, where kInterleaves says so, blocks of [words, kPixels].
//
// An instruction set defines, before it includes this file, and body.h behind it:
//   Bits                       a vector of kLanes words
//   kRun                       how many words the counters may add up before they must be emptied
//   kVectors                   the widest panel, in vectors
//   kPixels                    pixels of a block; kPixels · kVectors counters should stay in registers
//   load(words)                a vector of them
//   kInterleaves               whether the words of a block's pixels lie side by side, [words, kPixels], so that one
//                              pointer runs through the block; else each pixel's lie together, [kPixels, words]
//   interleave<kWords>(from, step, to)
//                              where kInterleaves: 4 or 2 words of kPixels pixels, `step` apart, in that order
//   broadcast(words, stride, vectors)
//                              kPixels words, `stride` apart, each to all lanes of a vector
//   popcount(x)                the set bits of each lane of x, or of each byte of it
//   accumulate(counters, x)    adds them to the lane's counters
//   Wide                       a vector of sums of counters, wide enough for those of kMostWords words
//   widen(counters), widen_onto(sums, counters)
//                              the counters as such sums, alone or added to others
//   finish(sums)               the sums of each lane as one integer
//   kBatch                     counters whose operations of one kind go together: all exclusive ors, then all popcounts
//   in_order(vectors), in_order(vector, vector)
//                              tells the compiler to keep that order, and that of loads, where its own is worse
//   kShortWords                filters of up to so many words, of a whole panel, stay in registers (2 at most)
//   kMostWords                 of a filter
//   kUsesTables                whether tables may take the place of panels (tables.h)
#pragma once

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

// Counts of words [first, last) of a block of pixels and of a panel of kWidth vectors.
template <int kWidth, int kSize>
inline __attribute__((always_inline)) void count_run(const uint32_t* patches, int64_t words, const uint32_t* panel,
                                                     int64_t first, int64_t last,
                                                     Bits (&counters)[kPixels * kWidth / kSize][kSize]) {
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
}

// Outputs [pixel, channel] of one block of pixels, `pixels` of them real, and one panel of kWidth vectors, `channels`
// of them real; kIsOneRun: of kRun words at most, so that the counters need not wait in memory.
template <bool kIsOneRun, int kWidth, typename Output>
inline __attribute__((always_inline)) void gemm_block(const uint32_t* patches, int64_t words, const uint32_t* panel,
                                                      int64_t pixel, int64_t pixels, int64_t channel, int64_t channels,
                                                      const Output& output) {
  constexpr int kSize = batch_of(kPixels * kWidth);
  Wide sums[kPixels][kWidth];
  for (int64_t first = 0; first == 0 || (!kIsOneRun && first < words); first += kRun) {
    Bits counters[kPixels * kWidth / kSize][kSize] = {};
    const int64_t last = kIsOneRun || words - first < kRun ? words : first + kRun;
    count_run<kWidth>(patches, words, panel, first, last, counters);
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < kWidth; ++v) {
        const Bits counts = counters[(p * kWidth + v) / kSize][(p * kWidth + v) % kSize];
        sums[p][v] = first == 0 ? widen(counts) : widen_onto(sums[p][v], counts);
      }
    }
  }
  // Before anything is stored: for what the compiler knows, a store might change them.
  typename Output::Constants constants[kWidth];
#pragma GCC unroll 8
  for (int v = 0; v < kWidth; ++v) constants[v] = output.constants(channel + v * kLanes);
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    if (p >= pixels) break;
    auto* const y = output.y + (pixel + p) * output.stride + channel;
#pragma GCC unroll 8
    for (int v = 0; v < kWidth; ++v) {
      const auto value = output.value(finish(sums[p][v]), constants[v]);
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
      store(output.value(finish(widen(counters)), constants[v]), y + v * kLanes);
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
  constexpr bool kRunsOnce = kRun == INT32_MAX;  // words never are that many
  const bool is_one_run = kRunsOnce || gemm.words <= kRun;
  for (int64_t pixel = 0; pixel < gemm.pixels; pixel += kPixels, gemm.patches += kPixels * gemm.words) {
    const int64_t pixels = gemm.pixels - pixel;
    if (!is_full || pixels < kPixels) {
      gemm_block<kRunsOnce, kWidth>(gemm.patches, gemm.words, panel, pixel, pixels, channel, channels, output);
    } else if (is_one_run) {
      gemm_block<true, kWidth>(gemm.patches, gemm.words, panel, pixel, kPixels, channel, kWidth * kLanes, output);
    } else {
      gemm_block<kRunsOnce, kWidth>(gemm.patches, gemm.words, panel, pixel, kPixels, channel, kWidth * kLanes, output);
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

// Defined where kInterleaves.
template <int kWords>
void interleave(const uint32_t* from, int64_t step, uint32_t* to);

// A pixel of a block is packed word by word, a whole block four words at a time.
template <bool kIsInterleaved>
void pack_blocks(const uint32_t* from, int64_t step, const PatchSlice& slice, uint32_t* to) {
  int64_t lane = slice.first_pixel % kPixels;
  int64_t pixel = 0;
  while (pixel < slice.pixels) {
    int64_t word = 0;
    const bool is_block = lane == 0 && from != nullptr && slice.pixels - pixel >= kPixels;
    if constexpr (kIsInterleaved) {
      for (; is_block && word + 4 <= slice.words; word += 4) interleave<4>(from + word, step, to + word * kPixels);
      for (; is_block && word + 2 <= slice.words; word += 2) interleave<2>(from + word, step, to + word * kPixels);
    }
    const int64_t packed = is_block ? kPixels : 1;
    for (; word < slice.words; ++word) {
      for (int64_t p = 0; p < packed; ++p) {
        to[word * kPixels + lane + p] = from == nullptr ? 0 : from[p * step + word];
      }
    }
    pixel += packed;
    if (from != nullptr) from += packed * step;
    lane = (lane + packed) % kPixels;
    if (lane == 0) to += kPixels * slice.patch_words;
  }
}

void pack(const uint32_t* from, int64_t step, const PatchSlice& slice, uint32_t* patches) {
  if constexpr (kInterleaves) {
    const int64_t block = slice.first_pixel / kPixels * kPixels * slice.patch_words;
    pack_blocks<kInterleaves>(from, step, slice, patches + block + slice.first_word * kPixels);
  } else {
    pack_rows(from, step, slice, patches + slice.first_pixel * slice.patch_words + slice.first_word);
  }
}

constexpr int64_t kPatchPixels = kPixels;  // whole blocks
constexpr int64_t kPatchWordBytes = 4;
constexpr bool kPatchesAreRows = !kInterleaves;

int64_t panel_words(int64_t words, int64_t filters) { return round_up(filters, kLanes) * words; }

void fill_panels(const uint32_t* filters, int64_t words, int64_t count, uint32_t* panel) {
  constexpr int64_t kPanelFilters = kVectors * kLanes;
  for (int64_t first = 0; first < count; first += kPanelFilters, filters += kPanelFilters * words) {
    const int64_t rest = count - first;
    const int64_t real = rest < kPanelFilters ? rest : kPanelFilters;
    const int64_t width = round_up(real, kLanes);
    for (int64_t word = 0; word < words; ++word, panel += width) {
      for (int64_t filter = 0; filter < width; ++filter) {
        panel[filter] = filter < real ? filters[filter * words + word] : 0;
      }
    }
  }
}

constexpr auto kFillTables = kUsesTables ? fill_tables : nullptr;
