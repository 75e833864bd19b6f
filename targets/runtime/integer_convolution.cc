#include "integer_convolution.h"

namespace bnncc {
namespace {

// Gathered patches stay in the first-level cache.
constexpr int64_t kBlockBytes = 16 * 1024;
constexpr int64_t kMostPixels = 64;
constexpr int64_t kWholeTiles = 8;  // rows of the largest tile

void fill(int8_t value, int64_t size, int8_t* to) { memset(to, value, static_cast<size_t>(size)); }

void fill(int8_t value, int64_t size, int16_t* to) {
  for (int64_t i = 0; i < size; ++i) to[i] = value;
}

// Both ends of what is no longer than two words, which may overlap: shorter than a call of memcpy.
template <typename Word>
void copy_ends(const int8_t* from, int64_t size, int8_t* to) {
  Word first;
  Word last;
  memcpy(&first, from, sizeof(Word));
  memcpy(&last, from + size - sizeof(Word), sizeof(Word));
  memcpy(to, &first, sizeof(Word));
  memcpy(to + size - sizeof(Word), &last, sizeof(Word));
}

void copy(const int8_t* from, int64_t size, int8_t* to) {
  struct Sixteen {
    uint64_t halves[2];
  };
  if (size > 32) {
    memcpy(to, from, static_cast<size_t>(size));
  } else if (size >= 16) {
    copy_ends<Sixteen>(from, size, to);
  } else if (size >= 8) {
    copy_ends<uint64_t>(from, size, to);
  } else if (size >= 4) {
    copy_ends<uint32_t>(from, size, to);
  } else {
    for (int64_t i = 0; i < size; ++i) to[i] = from[i];
  }
}

void copy(const int8_t* from, int64_t size, int16_t* to) {
  for (int64_t i = 0; i < size; ++i) to[i] = from[i];
}

}  // namespace

int64_t IntegerConvolution::block() const {
  const int64_t fitting = kBlockBytes / max<int64_t>(matrix_.row_bytes(), 1);
  return max(min(kMostPixels, fitting / kWholeTiles * kWholeTiles), kWholeTiles);
}

int64_t IntegerConvolution::scratch_bytes(int64_t pixels) const {
  return runs_in_place() ? 0 : checked_product(min(pixels, block()), matrix_.row_bytes());
}

void IntegerConvolution::run(const int8_t* x, int64_t begin, int64_t end, int64_t first, int64_t last, char* scratch,
                             int8_t* y) const {
  if (runs_in_place()) return matrix_.multiply(x, end - begin, first, last, y);
  const int64_t origin = is_pointwise() ? begin : 0;
  for (; begin < end; begin += block(), y += block() * matrix_.outputs()) {
    const int64_t stop = min(begin + block(), end);
    if (matrix_.is_wide()) {
      gather(x, begin - origin, stop - origin, reinterpret_cast<int16_t*>(scratch));
    } else {
      gather(x, begin - origin, stop - origin, reinterpret_cast<int8_t*>(scratch));
    }
    matrix_.multiply(scratch, stop - begin, first, last, y);
  }
}

// The patches of output pixels [begin, end).
template <typename T>
void IntegerConvolution::gather(const int8_t* x, int64_t begin, int64_t end, T* patches) const {
  const int64_t run = columns_.kernel * channels_;
  const int64_t numbers = matrix_.row_numbers();
  if (is_pointwise()) {
    for (int64_t pixel = begin; pixel < end; ++pixel, patches += numbers) copy(x + pixel * channels_, run, patches);
    return;
  }
  while (begin < end) {
    const int64_t column = begin % columns_.output;
    const int64_t line = begin / columns_.output;
    const int64_t count = min(end - begin, columns_.output - column);
    for (int64_t i = 0; i < rows_.kernel; ++i) {
      const int64_t row = rows_.position(line % rows_.output, i);
      const int8_t* const from = x + (line / rows_.output * rows_.input + row) * columns_.input * channels_;
      T* to = patches + i * run;
      for (int64_t pixel = 0; pixel < count; ++pixel, to += numbers) {
        if (rows_.holds(row)) {
          gather_line(from, columns_.position(column + pixel, 0), to);
        } else {
          fill(zero_point_, run, to);
        }
      }
    }
    patches += count * numbers;
    begin += count;
  }
}

// The pixels of a line that one row of the kernel meets, the first at `position`.
template <typename T>
void IntegerConvolution::gather_line(const int8_t* line, int64_t position, T* to) const {
  const int64_t last = position + (columns_.kernel - 1) * columns_.dilation;
  if (columns_.dilation == 1 && position >= 0 && last < columns_.input) {
    return copy(line + position * channels_, columns_.kernel * channels_, to);
  }
  for (int64_t j = 0; j < columns_.kernel; ++j, position += columns_.dilation, to += channels_) {
    if (columns_.holds(position)) {
      copy(line + position * channels_, channels_, to);
    } else {
      fill(zero_point_, channels_, to);
    }
  }
}

}  // namespace bnncc
