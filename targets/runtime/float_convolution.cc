#include "float_convolution.h"

namespace bnncc {
namespace {

// Up to so many channels, a patch's runs are too short to be gathered one by one.
constexpr int64_t kFewChannels = 4;

// Gathered patches stay in the second-level cache.
constexpr int64_t kBlockFloats = 16 * 1024;
constexpr int64_t kMostPixels = 64;

void clear(float* to, int64_t size) { memset(to, 0, static_cast<size_t>(size) * sizeof(float)); }

void copy(const float* from, int64_t size, float* to) { memcpy(to, from, static_cast<size_t>(size) * sizeof(float)); }

}  // namespace

void FloatConvolution::plan(int64_t tile) {
  const int64_t fitting = max<int64_t>(1, min(kMostPixels, kBlockFloats / matrix_.depth()));
  block_ = is_direct() ? columns_.output : round_up(fitting, tile);
}

bool FloatConvolution::is_direct() const { return width_ <= kFewChannels && columns_.dilation == 1; }

// The first of the pixels [begin, end), as far as they lie in one line.
FloatConvolution::Piece FloatConvolution::piece(int64_t begin, int64_t end) const {
  const int64_t column = begin % columns_.output;
  const int64_t line = begin / columns_.output;
  return {line / rows_.output, line % rows_.output, column, min(end - begin, columns_.output - column)};
}

// Of one line of the window that so many output columns read.
int64_t FloatConvolution::window_floats(int64_t columns) const {
  return checked_product(checked_sum(checked_product(columns - 1, columns_.stride), columns_.kernel), width_);
}

int64_t FloatConvolution::scratch_floats(int64_t pixels) const {
  if (is_pointwise()) return 0;
  if (is_direct()) return checked_product(rows_.kernel, window_floats(min(pixels, columns_.output)));
  return checked_product(min(pixels, block_), matrix_.depth());
}

void FloatConvolution::run(const float* x, int64_t begin, int64_t end, int64_t first, int64_t last, float* scratch,
                           float* y) const {
  each_group(matrix_.panels(), first, last, [&](int64_t group, int64_t own_first, int64_t own_last) {
    run_group(x + group * width_, begin, end, group, own_first, own_last, scratch, y);
  });
}

// Panels [first, last) of one group, whose channels begin at x.
void FloatConvolution::run_group(const float* x, int64_t begin, int64_t end, int64_t group, int64_t first, int64_t last,
                                 float* scratch, float* y) const {
  const int64_t depth = matrix_.depth();
  if (is_pointwise()) {
    matrix_.multiply({x, channels_, end - begin, 1, 0, depth}, first, last, clamp_, y, group);
    return;
  }
  while (begin < end) {
    int64_t count = 0;
    if (is_direct()) {
      const Piece line = piece(begin, end);
      count = line.count;
      matrix_.multiply(copy_window(x, line, scratch), first, last, clamp_, y, group);
    } else {
      count = min(block_, end - begin);
      for (int64_t pixel = 0; pixel < count;) {
        const Piece line = piece(begin + pixel, begin + count);
        gather(x, line, scratch + pixel * depth);
        pixel += line.count;
      }
      matrix_.multiply({scratch, depth, count, 1, 0, depth}, first, last, clamp_, y, group);
    }
    begin += count;
    y += count * matrix_.outputs();
  }
}

// The lines that the piece reads, one for each row of the kernel, zeros for what lies outside of the map.
FloatRows FloatConvolution::copy_window(const float* x, const Piece& piece, float* window) const {
  const int64_t size = window_floats(piece.count);
  for (int64_t i = 0; i < rows_.kernel; ++i) {
    const int64_t row = rows_.position(piece.row, i);
    float* const to = window + i * size;
    if (rows_.holds(row)) {
      const float* const line = x + (piece.image * rows_.input + row) * columns_.input * channels_;
      copy_line(line, columns_.position(piece.column, 0), size / width_, to);
    } else {
      clear(to, size);
    }
  }
  return {window, columns_.stride * width_, piece.count, rows_.kernel, size, columns_.kernel * width_};
}

// So many pixels of a line from a position on, which may lie outside.
void FloatConvolution::copy_line(const float* line, int64_t position, int64_t pixels, float* to) const {
  const int64_t before = min(max<int64_t>(-position, 0), pixels);
  const int64_t inside = max<int64_t>(min(position + pixels, columns_.input) - (position + before), 0);
  const float* const from = line + (position + before) * channels_;
  clear(to, before * width_);
  to += before * width_;
  if (width_ == channels_) {
    if (inside > 0) copy(from, inside * channels_, to);
  } else {
    copy_parts(from, inside, to);
  }
  clear(to + inside * width_, (pixels - before - inside) * width_);
}

// Of so many pixels the first channels, those of a group.
void FloatConvolution::copy_parts(const float* from, int64_t pixels, float* to) const {
  for (int64_t pixel = 0; pixel < pixels; ++pixel, from += channels_, to += width_) {
    if (width_ == kFewChannels) {
      copy(from, kFewChannels, to);
    } else {
      copy(from, width_, to);
    }
  }
}

// The patches of the piece's pixels, [pixels, KH, KW, C / groups], of the group whose channels begin at x.
void FloatConvolution::gather(const float* x, const Piece& piece, float* patches) const {
  const int64_t run = columns_.kernel * width_;
  for (int64_t i = 0; i < rows_.kernel; ++i, patches += run) {
    const int64_t row = rows_.position(piece.row, i);
    const float* const line = x + (piece.image * rows_.input + row) * columns_.input * channels_;
    for (int64_t pixel = 0; pixel < piece.count; ++pixel) {
      float* const to = patches + pixel * matrix_.depth();
      if (rows_.holds(row)) {
        gather_line(line, columns_.position(piece.column + pixel, 0), to);
      } else {
        clear(to, run);
      }
    }
  }
}

// The pixels of a line that one row of the kernel meets, the first at `position`.
void FloatConvolution::gather_line(const float* line, int64_t position, float* to) const {
  if (columns_.dilation == 1) return copy_line(line, position, columns_.kernel, to);
  for (int64_t j = 0; j < columns_.kernel; ++j, position += columns_.dilation, to += width_) {
    copy_line(line, position, 1, to);
  }
}

}  // namespace bnncc
