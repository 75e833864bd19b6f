// What AVERAGE_POOL_2D and LceBMaxPool2d share: their windows over a feature map, and the walk over what these hold.
// Positions that SAME adds take no part.
#pragma once

#include "../geometry.h"
#include "../operator.h"

namespace bnncc {

class Pool2d : public Operator {
 public:
  // Where windows do not overlap, a line of them is made of as many lines as a window is apart from the next.
  Locality locality() const override {
    if (rows_.is_pointwise() && columns_.is_pointwise()) return {1, 1};
    const bool is_local = rows_.before == 0 && rows_.kernel <= rows_.stride && rows_.output * rows_.stride == rows_.input;
    return is_local ? Locality{rows_.stride * columns_.input, columns_.output} : Locality{0, 0};
  }

 protected:
  // Places the windows that an operator's options name over its input [N, H, W, C], and gives the output its shape;
  // false after a report.
  template <typename Options>
  bool slide_windows(Preparation& preparation, PaddingMode padding, const Options& options) {
    Shape shape = preparation.value(inputs[0]).shape;
    if (!slide(padding, shape.dims[1], options.filter_height, options.stride_height, 1, &rows_) ||
        !slide(padding, shape.dims[2], options.filter_width, options.stride_width, 1, &columns_)) {
      return preparation.fail("its %dx%d window does not fit", options.filter_height, options.filter_width);
    }
    channels_ = shape.channels();
    shape.dims[1] = static_cast<int>(rows_.output);
    shape.dims[2] = static_cast<int>(columns_.output);
    return preparation.set_shape(output, shape);
  }

  // For every pixel of the tile: fills its bytes with `fill`, calls join(x, y) for each pixel x of its window, then
  // finish(count, y) with how many these were.
  template <typename T, typename Join, typename Finish>
  void pool(const Tile& tile, int fill, const Join& join, const Finish& finish) const {
    T* y = tile.rows<T>(output);
    const Locality locality = this->locality();
    if (locality.is_pointwise()) {
      memcpy(y, tile.rows<T>(inputs[0]), static_cast<size_t>(tile.pixels() * channels_) * sizeof(*y));
      return;
    }
    int64_t first = 0;
    const T* const x = tile.map<T>(inputs[0], locality, &first);
    for (int64_t pixel = tile.begin; pixel < tile.end; ++pixel, y += channels_) {
      const int64_t column = pixel % columns_.output;
      const int64_t row = pixel / columns_.output % rows_.output;
      const int64_t image = pixel / columns_.output / rows_.output;
      const int64_t top = max<int64_t>(rows_.position(row, 0), 0);
      const int64_t bottom = min(rows_.position(row, rows_.kernel - 1) + 1, rows_.input);
      const int64_t left = max<int64_t>(columns_.position(column, 0), 0);
      const int64_t right = min(columns_.position(column, columns_.kernel - 1) + 1, columns_.input);
      memset(y, fill, static_cast<size_t>(channels_) * sizeof(*y));
      for (int64_t i = top; i < bottom; ++i) {
        for (int64_t j = left; j < right; ++j) {
          join(x + ((image * rows_.input + i) * columns_.input + j - first) * channels_, y);
        }
      }
      finish((bottom - top) * (right - left), y);
    }
  }

  int64_t channels() const { return channels_; }

 private:
  Window rows_;
  Window columns_;
  int64_t channels_ = 0;  // elements of a pixel: words where they are bits
};

}  // namespace bnncc
