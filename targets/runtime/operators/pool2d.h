// What AVERAGE_POOL_2D, MAX_POOL_2D and LceBMaxPool2d share: their windows over a feature map.  Positions that SAME
// adds take no part.
#pragma once

#include "../geometry.h"
#include "../operator.h"

namespace bnncc {

class Pool2d : public Operator {
 public:
  // Where windows do not overlap, a line of them is made of as many lines as a window is apart from the next.
  Locality locality() const override {
    if (rows_.is_pointwise() && columns_.is_pointwise()) return {1, 1};
    const bool is_local =
        rows_.before == 0 && rows_.kernel <= rows_.stride && rows_.output * rows_.stride == rows_.input;
    return is_local ? Locality{rows_.stride * columns_.input, columns_.output} : Locality{0, 0};
  }

 protected:
  // Places the windows that an operator's options name over its input [N, H, W, C], and gives the output its shape;
  // false after a report.
  template <typename Options>
  bool slide_windows(Preparation& preparation, PaddingMode mode, const Options& options) {
    Shape shape = preparation.value(inputs[0]).shape;
    const int64_t height = padding_.padded(0, shape.dims[1]);
    const int64_t width = padding_.padded(1, shape.dims[2]);
    if (height < 1 || width < 1 || !slide(mode, height, options.filter_height, options.stride_height, 1, &rows_) ||
        !slide(mode, width, options.filter_width, options.stride_width, 1, &columns_)) {
      return preparation.fail("its %dx%d window does not fit", options.filter_height, options.filter_width);
    }
    padding_.take_from(0, &rows_);
    padding_.take_from(1, &columns_);
    channels_ = shape.channels();
    shape.dims[1] = static_cast<int>(rows_.output);
    shape.dims[2] = static_cast<int>(columns_.output);
    return preparation.set_shape(output, shape);
  }

  // The windows of pixels of the output that are neighbours in a line: each holds [rows, columns] pixels of the map.
  template <typename T>
  struct Windows {
    const T* x;  // the first window's first pixel
    int64_t rows;
    int64_t columns;
    int64_t x_row;   // from one row of a window to the next, in elements
    int64_t x_step;  // from one window to the next
    int64_t count;
    T* y;
  };

  // pool(windows) for all pixels of the tile.
  template <typename T, typename Pool>
  void for_windows(const Tile& tile, const Pool& pool) const {
    int64_t first = 0;
    const T* const x = tile.map<T>(inputs[0], locality(), &first);
    for_windows(x, first, tile.begin, tile.end, tile.rows<T>(output), pool);
  }

  // pool(windows) for pixels [begin, end) of the output, the first of which is y; x is pixel `first` of the map.
  template <typename T, typename Pool>
  void for_windows(const T* x, int64_t first, int64_t begin, int64_t end, T* y, const Pool& pool) const {
    for (int64_t pixel = begin; pixel < end;) {
      const int64_t column = pixel % columns_.output;
      const int64_t row = pixel / columns_.output % rows_.output;
      const int64_t image = pixel / columns_.output / rows_.output;
      const int64_t top = max<int64_t>(rows_.position(row, 0), 0);
      const int64_t bottom = min(rows_.position(row, rows_.kernel - 1) + 1, rows_.input);
      const int64_t left = max<int64_t>(columns_.position(column, 0), 0);
      const int64_t right = min(columns_.position(column, columns_.kernel - 1) + 1, columns_.input);
      int64_t count = 1;
      if (right - left == columns_.kernel) {
        const int64_t last =
            (columns_.input - columns_.kernel + columns_.before) / columns_.stride;  // that pads nothing
        count = min(last + 1 - column, end - pixel);
      }
      const int64_t start = (image * rows_.input + top) * columns_.input + left - first;
      pool(Windows<T>{x + start * channels_, bottom - top, right - left, columns_.input * channels_,
                      columns_.stride * channels_, count, y + (pixel - begin) * channels_});
      pixel += count;
    }
  }

  int64_t channels() const { return channels_; }
  const Window& rows() const { return rows_; }
  const Window& columns() const { return columns_; }

  const Padding& padding() const { return padding_; }
  void set_padding(const Padding& padding) { padding_ = padding; }

 private:
  Padding padding_;
  Window rows_;
  Window columns_;
  int64_t channels_ = 0;  // elements of a pixel: words where they are bits
};

}  // namespace bnncc
