// Copies rows of elements: feature maps' channels, words of signs.
#pragma once

#include "../memory.h"

namespace bnncc {

// Where kSize is not 0, it is the size.
template <int kSize, typename T>
void copy_rows_of(const T* from, int64_t step, int64_t size, int64_t rows, int64_t to_step, T* to) {
  const size_t bytes = sizeof(*to) * static_cast<size_t>(kSize != 0 ? kSize : size);
  for (int64_t row = 0; row < rows; ++row, from += step, to += to_step) memcpy(to, from, bytes);
}

// `rows` rows of `size` elements, `step` apart, to where they are `to_step` apart.
template <typename T>
void copy_rows(const T* from, int64_t step, int64_t size, int64_t rows, int64_t to_step, T* to) {
  if (step == size && to_step == size) {
    size *= rows;
    rows = 1;
  }
  switch (size) {  // a few words of signs, a pixel's colours, few channels: too few for a call of memcpy
    case 1: return copy_rows_of<1>(from, step, size, rows, to_step, to);
    case 2: return copy_rows_of<2>(from, step, size, rows, to_step, to);
    case 3: return copy_rows_of<3>(from, step, size, rows, to_step, to);
    case 4: return copy_rows_of<4>(from, step, size, rows, to_step, to);
    case 8: return copy_rows_of<8>(from, step, size, rows, to_step, to);
    case 16: return copy_rows_of<16>(from, step, size, rows, to_step, to);
    case 32: return copy_rows_of<32>(from, step, size, rows, to_step, to);
    case 64: return copy_rows_of<64>(from, step, size, rows, to_step, to);
    default: return copy_rows_of<0>(from, step, size, rows, to_step, to);
  }
}

}  // namespace bnncc
