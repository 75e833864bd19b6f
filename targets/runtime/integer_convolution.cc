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

// Runs of numbers, `from_step` apart, and places for them that are `to_step` apart.
template <typename To>
struct Runs {
  const int8_t* from;
  int64_t from_step;
  int64_t size;
  int64_t count;
  To* to;
  int64_t to_step;
};

// Copies both ends of runs no longer than two words, which may overlap: shorter than calls of memcpy.
template <typename Word>
void copy_ends(const Runs<int8_t>& runs) {
  const int8_t* from = runs.from;
  int8_t* to = runs.to;
  const int64_t last = runs.size - static_cast<int64_t>(sizeof(Word));
  for (int64_t i = 0; i < runs.count; ++i, from += runs.from_step, to += runs.to_step) {
    Word words[2];
    memcpy(&words[0], from, sizeof(Word));
    memcpy(&words[1], from + last, sizeof(Word));
    memcpy(to, &words[0], sizeof(Word));
    memcpy(to + last, &words[1], sizeof(Word));
  }
}

struct Sixteen {
  uint64_t halves[2];
};

void copy(const Runs<int8_t>& runs) {
  if (runs.size >= 4 && runs.size <= 8) return copy_ends<uint32_t>(runs);
  if (runs.size > 8 && runs.size <= 16) return copy_ends<uint64_t>(runs);
  if (runs.size > 16 && runs.size <= 32) return copy_ends<Sixteen>(runs);
  const int8_t* from = runs.from;
  int8_t* to = runs.to;
  for (int64_t i = 0; i < runs.count; ++i, from += runs.from_step, to += runs.to_step) {
    if (runs.size > 32) {
      memcpy(to, from, static_cast<size_t>(runs.size));
    } else {
      for (int64_t k = 0; k < runs.size; ++k) to[k] = from[k];
    }
  }
}

void copy(const Runs<int16_t>& runs) {
  const int8_t* from = runs.from;
  int16_t* to = runs.to;
  for (int64_t i = 0; i < runs.count; ++i, from += runs.from_step, to += runs.to_step) {
    for (int64_t k = 0; k < runs.size; ++k) to[k] = from[k];
  }
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
  each_group(matrix_.panels(), first, last, [&](int64_t group, int64_t own_first, int64_t own_last) {
    run_group(x + group * width_, begin, end, group, own_first, own_last, scratch, y);
  });
}

// Panels [first, last) of one group, whose channels begin at x.
void IntegerConvolution::run_group(const int8_t* x, int64_t begin, int64_t end, int64_t group, int64_t first,
                                   int64_t last, char* scratch, int8_t* y) const {
  const int64_t origin = is_pointwise() ? begin : 0;
  for (; begin < end; begin += block(), y += block() * matrix_.outputs()) {
    const int64_t stop = min(begin + block(), end);
    if (matrix_.is_wide()) {
      gather(x, begin - origin, stop - origin, reinterpret_cast<int16_t*>(scratch));
    } else {
      gather(x, begin - origin, stop - origin, reinterpret_cast<int8_t*>(scratch));
    }
    matrix_.multiply(scratch, stop - begin, first, last, y, group);
  }
}

// The patches of output pixels [begin, end), of the group whose channels begin at x.
template <typename T>
void IntegerConvolution::gather(const int8_t* x, int64_t begin, int64_t end, T* patches) const {
  const int64_t run = columns_.kernel * width_;
  const int64_t numbers = matrix_.row_numbers();
  if (is_pointwise()) return copy(Runs<T>{x + begin * channels_, channels_, run, end - begin, patches, numbers});
  while (begin < end) {
    const int64_t column = begin % columns_.output;
    const int64_t line = begin / columns_.output;
    const int64_t count = min(end - begin, columns_.output - column);
    for (int64_t i = 0; i < rows_.kernel; ++i) {
      const int64_t row = rows_.position(line % rows_.output, i);
      T* const to = patches + i * run;
      if (rows_.holds(row)) {
        const int8_t* const from = x + (line / rows_.output * rows_.input + row) * columns_.input * channels_;
        gather_line(from, column, count, to);
      } else {
        for (int64_t pixel = 0; pixel < count; ++pixel) fill(zero_point_, run, to + pixel * numbers);
      }
    }
    patches += count * numbers;
    begin += count;
  }
}

// What one row of the kernel meets of a line, for `count` output columns from `column` on.
template <typename T>
void IntegerConvolution::gather_line(const int8_t* line, int64_t column, int64_t count, T* to) const {
  const int64_t numbers = matrix_.row_numbers();
  const int64_t end = column + count;
  while (column < end) {
    const int64_t first = columns_.position(column, 0);
    const int64_t reach = (columns_.kernel - 1) * columns_.dilation;
    if (first >= 0 && first + reach < columns_.input) {
      const int64_t last = (columns_.input - 1 - reach + columns_.before) / columns_.stride;  // that pads nothing
      const int64_t inside = min(last + 1, end) - column;
      // As many taps as lie together.
      const int64_t taps = columns_.dilation == 1 && width_ == channels_ ? columns_.kernel : 1;
      for (int64_t j = 0; j < columns_.kernel; j += taps) {
        copy(Runs<T>{line + (first + j * columns_.dilation) * channels_, columns_.stride * channels_, taps * width_,
                     inside, to + j * width_, numbers});
      }
      column += inside;
      to += inside * numbers;
      continue;
    }
    T* pixel = to;
    for (int64_t j = 0; j < columns_.kernel; ++j, pixel += width_) {
      const int64_t position = columns_.position(column, j);
      if (columns_.holds(position)) {
        copy(Runs<T>{line + position * channels_, 0, width_, 1, pixel, 0});
      } else {
        fill(zero_point_, width_, pixel);
      }
    }
    ++column;
    to += numbers;
  }
}

}  // namespace bnncc
