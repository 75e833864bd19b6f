// Copies elements between two tensors in a nest of loops: what every operator that only moves data comes down to.
#pragma once

#include "../loop.h"

namespace bnncc {

class Copy {
 public:
  // Adds an axis inside those there are: how many elements, and how far each is from the one before in x and in y.
  void add_axis(int64_t size, int64_t x_stride, int64_t y_stride) { loop_.add_axis(size, {x_stride, y_stride}); }

  // The first element in x and in y.
  void start(int64_t x, int64_t y) {
    x_ = x;
    y_ = y;
  }

  void run(const Team& team, const void* x, void* y, int64_t element) const {
    switch (element) {
      case 1: return run_as<uint8_t>(team, x, y);
      case 2: return run_as<uint16_t>(team, x, y);
      case 4: return run_as<uint32_t>(team, x, y);
      default: return run_as<uint64_t>(team, x, y);
    }
  }

 private:
  template <typename T>
  void run_as(const Team& team, const void* x, void* y) const {
    const T* const from = static_cast<const T*>(x) + x_;
    T* const to = static_cast<T*>(y) + y_;
    if (loop_.inner_stride(0) != 1 || loop_.inner_stride(1) != 1) return copy_runs<1>(team, loop_, from, to);
    switch (loop_.inner_size()) {  // the channels of pictures
      case 2: return copy_runs<2>(team, loop_.without_inner_axis(), from, to);
      case 3: return copy_runs<3>(team, loop_.without_inner_axis(), from, to);
      case 4: return copy_runs<4>(team, loop_.without_inner_axis(), from, to);
      default: break;
    }
    loop_.run(team, [=](const int64_t* offsets, int64_t size) {
      memcpy(to + offsets[1], from + offsets[0], static_cast<size_t>(size) * sizeof(T));
    });
  }

  // Runs of kRun elements: too few for a call of memcpy each.
  template <int kRun, typename T>
  static void copy_runs(const Team& team, const Loop& loop, const T* from, T* to) {
    const int64_t x_stride = loop.inner_stride(0);
    const int64_t y_stride = loop.inner_stride(1);
    loop.run(team, [=](const int64_t* offsets, int64_t size) {
      const T* row = from + offsets[0];
      T* target = to + offsets[1];
      for (int64_t i = 0; i < size; ++i, row += x_stride, target += y_stride) {
        for (int k = 0; k < kRun; ++k) target[k] = row[k];
      }
    });
  }

  Loop loop_{2};
  int64_t x_ = 0;
  int64_t y_ = 0;
};

// How far an element is from the one before along each axis of a tensor without gaps.
inline void find_strides(const Shape& shape, int64_t* strides) {
  int64_t stride = 1;
  for (int i = shape.rank - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape.dims[i];
  }
}

}  // namespace bnncc
