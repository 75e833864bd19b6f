// Counts by shuffles of bytes, each of which looks up sixteen and more numbers at once: four bits of a pixel choose a
// table of what they have to say to any four bits of a filter,
//
//     T[a][b] = popcount(a xor b),   p = Σ_nibble T[patch[nibble]][filter[nibble]],
//
// and one shuffle and one addition serve four products of a filter in each byte of a vector.
//
// Panels are [nibbles, vectors, bytes] each, of two vectors of kNibbleFilters bytes, the last one perhaps of one: a byte
// holds a filter's nibble, below four zeros.  Byte v of 32-bit lane l belongs to filter v·kLanes + l of the vector's, so
// that shifts leave counts of kLanes neighbours.  Patches are [pixels, nibbles]: a byte says where T[a] begins, in units
// of 8 bytes, by which x86-64 scales an address.
//
// An instruction set defines, before it includes this file, and body.h behind it:
//   Bits                       a vector of 4·kLanes bytes
//   load(words)                a vector of them
//   shuffle(table, indices)    byte i of each 16 bytes: table[indices[i]], of the same 16 bytes
//   accumulate(counters, x)    adds them bytewise
//   expand<kWords>(words, nibbles)
//                              1, 2 or 4 words of a map as patches have them: the lower half of a byte first, times
//                              kNibbleScale
#pragma once

#include "outputs.h"

constexpr int kWordNibbles = 8;
constexpr int kByteVectors = 4;  // of output, from one of bytes
constexpr int64_t kNibbleFilters = kByteVectors * kLanes;
constexpr int kPanelVectors = 2;
constexpr int kPixels = 4;         // of a block: 8 counters of 16 registers
constexpr int64_t kNibbleRun = 7;  // words: 7 · 32 counts fit a byte

// Pixels that meet a panel run by run: their sums and the panel's part of a run stay in the first-level cache.
constexpr int64_t kChunk = 32;

constexpr int64_t kPatchPixels = 1;  // a block may have fewer pixels
constexpr int64_t kPatchWordBytes = kWordNibbles;
constexpr bool kPatchesAreRows = false;
constexpr int64_t kMostWords = UINT16_MAX / 32;  // sums of 16 bits

struct NibbleTables {
  alignas(64) uint8_t rows[16][4 * kLanes];
};

constexpr NibbleTables make_nibble_tables() {
  NibbleTables tables = {};
  for (int a = 0; a < 16; ++a) {
    for (int i = 0; i < 4 * kLanes; ++i) tables.rows[a][i] = static_cast<uint8_t>(__builtin_popcount(a ^ (i % 16)));
  }
  return tables;
}

constexpr NibbleTables kNibbleTables = make_nibble_tables();
static_assert(sizeof(kNibbleTables.rows[0]) == 8 * kNibbleScale, "the address of a table");

typedef uint16_t Shorts __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Counts __attribute__((vector_size(4 * kLanes)));

// Of the bytes with an even and with an odd number.
struct Sums {
  Shorts even;
  Shorts odd;
};

// What the products of some words of kPixels pixels and kWidth vectors of filters count.
template <int kWidth>
inline __attribute__((always_inline)) void count_nibbles(const uint8_t* const (&patches)[kPixels], int64_t words,
                                                         const uint32_t* panel, Bits (&counters)[kPixels][kWidth]) {
  for (int64_t first = 0; first < words * kWordNibbles; first += kWordNibbles) {
#pragma GCC unroll 8
    for (int i = 0; i < kWordNibbles; ++i) {
      Bits filters[kWidth];
#pragma GCC unroll 2
      for (int v = 0; v < kWidth; ++v, panel += kLanes) filters[v] = load(panel);
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
        const uint8_t* const tables = kNibbleTables.rows[0];
        const Bits table = load(reinterpret_cast<const uint32_t*>(tables + 8 * size_t{patches[p][first + i]}));
#pragma GCC unroll 2
        for (int v = 0; v < kWidth; ++v) counters[p][v] = accumulate(counters[p][v], shuffle(table, filters[v]));
      }
    }
  }
}

// Part of the words of a filter, and where they lie in a panel.
struct NibbleRun {
  const uint32_t* panel;
  int64_t first;
  int64_t words;
};

// Adds what a run of words counts to the sums of kPixels pixels of a chunk, from `pixel` on, of which `pixels` are real,
// or begins them; `chunk` are its patches.
template <bool kIsFirst, int kWidth>
inline __attribute__((always_inline)) void add_block(const uint8_t* chunk, int64_t patch_bytes, const NibbleRun& run,
                                                     int64_t pixel, int64_t pixels, Sums (&sums)[kWidth][kChunk]) {
  const uint8_t* const first = chunk + pixel * patch_bytes + run.first * kPatchWordBytes;
  const uint8_t* patches[kPixels];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) patches[p] = first + (p < pixels ? p : pixels - 1) * patch_bytes;
  Bits counters[kPixels][kWidth] = {};
  count_nibbles(patches, run.words, run.panel, counters);
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    if (p >= pixels) break;
#pragma GCC unroll 2
    for (int v = 0; v < kWidth; ++v) {
      const Shorts pairs = reinterpret_cast<Shorts>(counters[p][v]);
      Sums& sum = sums[v][pixel + p];
      sum.even = kIsFirst ? pairs & 0xff : sum.even + (pairs & 0xff);
      sum.odd = kIsFirst ? pairs >> 8 : sum.odd + (pairs >> 8);
    }
  }
}

// The same of all pixels of a chunk.
template <bool kIsFirst, int kWidth>
void add_run(const uint8_t* chunk, int64_t patch_bytes, NibbleRun run, int64_t pixels, Sums (&sums)[kWidth][kChunk]) {
  int64_t pixel = 0;
  for (; pixel + kPixels <= pixels; pixel += kPixels) {
    add_block<kIsFirst>(chunk, patch_bytes, run, pixel, kPixels, sums);
  }
  if (pixel < pixels) add_block<kIsFirst>(chunk, patch_bytes, run, pixel, pixels - pixel, sums);
}

inline Ints sums_of(const Sums& sums, int vector) {
  const Counts pairs = reinterpret_cast<Counts>(vector % 2 == 0 ? sums.even : sums.odd);
  return reinterpret_cast<Ints>(vector < 2 ? pairs & 0xffff : pairs >> 16);
}

// What becomes of the sums of some pixels and of a vector's filters, `channels` of them real, from `channel` on.
template <typename Output, typename T>
void store_outputs(const Sums* sums, int64_t pixels, int64_t channel, int64_t channels, Output output, T* y) {
  if (channels < kNibbleFilters) {
    for (int64_t v = 0; v * kLanes < channels; ++v) {
      const auto constants = output.constants(channel + v * kLanes);
      const int64_t rest = channels - v * kLanes;
      for (int64_t p = 0; p < pixels; ++p) {
        const auto value = output.value(sums_of(sums[p], static_cast<int>(v)), constants);
        T* const to = y + p * output.stride + v * kLanes;
        rest >= kLanes ? store(value, to) : store_some(value, to, rest);
      }
    }
    return;
  }
  typename Output::Constants constants[kByteVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kByteVectors; ++v) constants[v] = output.constants(channel + v * kLanes);
  for (int64_t p = 0; p < pixels; ++p, y += output.stride) {
#pragma GCC unroll 4
    for (int v = 0; v < kByteVectors; ++v) store(output.value(sums_of(sums[p], v), constants[v]), y + v * kLanes);
  }
}

// One panel against all pixels.
template <int kWidth, typename Output>
void gemm_panel(const BinaryGemm& gemm, const uint32_t* panel, int64_t channel, const Output& output) {
  const int64_t patch_bytes = gemm.words * kPatchWordBytes;
  Sums sums[kWidth][kChunk];
  for (int64_t first_pixel = 0; first_pixel < gemm.pixels; first_pixel += kChunk) {
    const int64_t pixels = gemm.pixels - first_pixel < kChunk ? gemm.pixels - first_pixel : kChunk;
    const uint8_t* const chunk = reinterpret_cast<const uint8_t*>(gemm.patches) + first_pixel * patch_bytes;
    for (int64_t first = 0; first < gemm.words; first += kNibbleRun) {
      const int64_t words = gemm.words - first < kNibbleRun ? gemm.words - first : kNibbleRun;
      const NibbleRun run = {panel + first * kWordNibbles * kWidth * kLanes, first, words};
      if (first == 0) {
        add_run<true, kWidth>(chunk, patch_bytes, run, pixels, sums);
      } else {
        add_run<false, kWidth>(chunk, patch_bytes, run, pixels, sums);
      }
    }
    for (int64_t v = 0; v < kWidth; ++v) {
      const int64_t next = channel + v * kNibbleFilters;
      store_outputs(sums[v], pixels, next, gemm.filters - next, output, output.y + first_pixel * output.stride + next);
    }
  }
}

template <typename Output>
void gemm(const BinaryGemm& gemm, const Output& output) {
  const uint32_t* panel = gemm.panels;
  for (int64_t channel = 0; channel < gemm.filters; channel += kPanelVectors * kNibbleFilters) {
    if (gemm.filters - channel > kNibbleFilters) {
      gemm_panel<2>(gemm, panel, channel, output);
    } else {
      gemm_panel<1>(gemm, panel, channel, output);
    }
    panel += gemm.words * kWordNibbles * kPanelVectors * kLanes;
  }
}

int64_t panel_words(int64_t words, int64_t filters) {
  return round_up(filters, kNibbleFilters) / kByteVectors * kWordNibbles * words;
}

void fill_panels(const uint32_t* filters, int64_t words, int64_t count, uint32_t* panels) {
  uint8_t* panel = reinterpret_cast<uint8_t*>(panels);
  for (int64_t first = 0; first < count; first += kPanelVectors * kNibbleFilters) {
    const int64_t rest = round_up(count - first, kNibbleFilters);
    const int64_t width = rest < kPanelVectors * kNibbleFilters ? rest : kPanelVectors * kNibbleFilters;
    for (int64_t nibble = 0; nibble < words * kWordNibbles; ++nibble, panel += width) {
      for (int64_t i = 0; i < width; ++i) {
        const int64_t lane = i % kNibbleFilters;
        const int64_t filter = first + i - lane + lane % kByteVectors * kLanes + lane / kByteVectors;
        const uint32_t word = filter < count ? filters[filter * words + nibble / kWordNibbles] : 0;
        panel[i] = static_cast<uint8_t>(word >> (4 * (nibble % kWordNibbles)) & 0xf);
      }
    }
  }
}

// `words` words of each pixel, `step` and `patch_words` apart; where kWords is not 0, it is their number.
template <int kWords>
void expand_rows(const uint32_t* from, int64_t step, const PatchSlice& slice, uint8_t* to) {
  const int64_t words = kWords != 0 ? kWords : slice.words;
  for (int64_t pixel = 0; pixel < slice.pixels; ++pixel, from += step, to += slice.patch_words * kWordNibbles) {
    int64_t word = 0;
    for (; word + 4 <= words; word += 4) expand<4>(from + word, to + word * kWordNibbles);
    for (; word + 2 <= words; word += 2) expand<2>(from + word, to + word * kWordNibbles);
    if (word < words) expand<1>(from + word, to + word * kWordNibbles);
  }
}

void pack(const uint32_t* from, int64_t step, const PatchSlice& slice, uint32_t* patches) {
  uint8_t* const to =
      reinterpret_cast<uint8_t*>(patches) + (slice.first_pixel * slice.patch_words + slice.first_word) * kWordNibbles;
  if (from == nullptr) {
    const size_t bytes = static_cast<size_t>(slice.words * kWordNibbles);
    for (int64_t i = 0; i < slice.pixels; ++i) __builtin_memset(to + i * slice.patch_words * kWordNibbles, 0, bytes);
    return;
  }
  switch (slice.words) {  // as in panels.h
    case 1: return expand_rows<1>(from, step, slice, to);
    case 2: return expand_rows<2>(from, step, slice, to);
    case 3: return expand_rows<3>(from, step, slice, to);
    case 4: return expand_rows<4>(from, step, slice, to);
    case 6: return expand_rows<6>(from, step, slice, to);
    case 12: return expand_rows<12>(from, step, slice, to);
    default: return expand_rows<0>(from, step, slice, to);
  }
}

int64_t table_bytes(int64_t, int64_t, int64_t) { return 0; }
constexpr decltype(Kernels::fill_tables) kFillTables = nullptr;
