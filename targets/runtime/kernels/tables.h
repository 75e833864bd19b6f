// Counts from tables: two to four times as fast as panels as long as the tables stay in the second-level cache.
//
// Included by body.h, which says what is defined before it.  The tables hold what each byte of a patch may add,
//
//     T[byte, value, filter] = popcount(value xor that byte of the filter),   p = Σ_byte T[byte, patch[byte], filter],
//
// and a row T[byte, value] is a vector of bytes: one load and one addition serve 4·kLanes filters.  Byte v of a row's
// lane l is filter v·kLanes + l, so that a shift by 8·v leaves the counts of kLanes neighbours.
#pragma once

#include "outputs.h"

constexpr int kTableVectors = 4;  // of output, from one of bytes
constexpr int64_t kTableFilters = kTableVectors * kLanes;
constexpr int64_t kByteValues = 256;
constexpr int64_t kWordTableBytes = 4 * kByteValues;       // of one word of one filter
constexpr int64_t kByteTableWords = kByteValues * kLanes;  // one byte's table of kTableFilters filters
constexpr int64_t kTableRun = 7;                           // words: 7 · 32 counts fit a byte

// Every row should be used so often that reading the tables into the cache costs little.
constexpr int64_t kTablePixels = 8 * kByteValues;

int64_t table_bytes(int64_t words, int64_t filters, int64_t pixels) {
  if (!kUsesTables || filters % kTableFilters != 0 || pixels < kTablePixels) return 0;
  const bool fits = filters <= second_level_cache(1) / 2 / kWordTableBytes / words;
  return fits ? words * filters * kWordTableBytes : 0;
}

void fill_tables(const uint32_t* filters, int64_t words, int64_t count, uint8_t* tables) {
  for (int64_t first = 0; first < count; first += kTableFilters) {
    for (int64_t byte = 0; byte < 4 * words; ++byte) {
      for (uint32_t value = 0; value < kByteValues; ++value) {
        for (int64_t i = 0; i < kTableFilters; ++i) {
          const int64_t filter = first + i % kTableVectors * kLanes + i / kTableVectors;
          const uint32_t word = filters[filter * words + byte / 4];
          *tables++ = static_cast<uint8_t>(__builtin_popcount(value ^ (word >> (8 * (byte % 4)) & 0xff)));
        }
      }
    }
  }
}

// The sums of kTableFilters filters, bytewise; where kWords is not 0, it is `words`.
template <int kWords>
inline __attribute__((always_inline)) Bits look_up(const uint32_t* patch, const uint32_t* tables, int64_t words) {
  Bits sums = {};
  for (int64_t i = 0; i < (kWords != 0 ? kWords : words); ++i) {
    uint32_t word = patch[i];
#pragma GCC unroll 4
    for (int byte = 0; byte < 4; ++byte, word >>= 8, tables += kByteTableWords) {
      sums = accumulate(sums, load(tables + (word & 0xff) * kLanes));
    }
  }
  return sums;
}

// kTableFilters filters against all pixels; where kWords is not 0, the number of words.
template <int kWords, typename Output>
void gemm_table(BinaryGemm gemm, const uint32_t* tables, int64_t channel, Output output) {
  static_assert(kWords <= kTableRun, "one run");
  typename Output::Constants constants[kTableVectors];
  for (int v = 0; v < kTableVectors; ++v) constants[v] = output.constants(channel + v * kLanes);
  auto* y = output.y + channel;
  for (int64_t pixel = 0; pixel < gemm.pixels; ++pixel, gemm.patches += gemm.words, y += output.stride) {
    Ints counts[kTableVectors];
    for (int64_t first = 0; first == 0 || (kWords == 0 && first < gemm.words); first += kTableRun) {
      const int64_t words = gemm.words - first < kTableRun ? gemm.words - first : kTableRun;
      const uint32_t* const run = tables + first * 4 * kByteTableWords;
      const Ints sums = reinterpret_cast<Ints>(look_up<kWords>(gemm.patches + first, run, words));
#pragma GCC unroll 4
      for (int v = 0; v < kTableVectors; ++v) {
        const Ints bytes = sums >> (8 * v) & 0xff;
        counts[v] = first == 0 ? bytes : counts[v] + bytes;
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kTableVectors; ++v) store(output.value(counts[v], constants[v]), y + v * kLanes);
  }
}

template <typename Output>
void gemm_tables(const BinaryGemm& gemm, const Output& output) {
  const uint32_t* tables = reinterpret_cast<const uint32_t*>(gemm.tables);
  for (int64_t channel = 0; channel < gemm.filters; channel += kTableFilters) {
    switch (gemm.words) {
      case 1: gemm_table<1>(gemm, tables, channel, output); break;
      case 2: gemm_table<2>(gemm, tables, channel, output); break;
      default: gemm_table<0>(gemm, tables, channel, output); break;
    }
    tables += 4 * gemm.words * kByteTableWords;
  }
}
