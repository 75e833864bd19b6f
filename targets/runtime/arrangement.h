// How an operator that only moves elements arranges them: which element of its input each element of its output is.
//
// The output is a nest of axes, outermost first and without gaps; each axis moves by a stride in the input.  Axes of
// size 1 vanish and axes that are one behind the other in the input merge, so that the innermost one is long.
#pragma once

#include "operator.h"

namespace bnncc {

class Arrangement {
 public:
  // An output axis.  The input has elements for positions [first, last) only; the rest is filled.
  struct Axis {
    int64_t size;
    int64_t stride;  // elements of the input
    int64_t first;
    int64_t last;
  };

  // Each of these finds the arrangement of an input; null, or what is wrong with the other arguments.  Axes below 0
  // count from the end.
  const char* reshape(const Shape& x, const int32_t* sizes, int64_t rank);  // one size may be -1
  const char* transpose(const Shape& x, const int32_t* order);              // an axis of x for each of y
  const char* reverse(const Shape& x, const int32_t* axes, int64_t count);
  const char* part(const Shape& x, int64_t axis, int64_t offset, int64_t size);  // of SPLIT
  const char* pad(const Shape& x, const int32_t* amounts);                       // [rank, (before, behind)]
  const char* tile(const Shape& x, const int32_t* repeats);                      // for each axis
  const char* broadcast_to(const Shape& x, const int32_t* sizes, int64_t rank);
  const char* space_to_depth(const Shape& x, int64_t block);
  const char* depth_to_space(const Shape& x, int64_t block);
  // As in Python, `begins`, `ends` and `steps` for each axis; a mask's bit stands for the axis's own first or last one.
  const char* slice(const Shape& x, const int32_t* begins, const int32_t* ends, const int32_t* steps,
                    const abi::StridedSliceParams& options);

  const Shape& shape() const { return y_; }  // of the output
  int axes() const { return axes_; }
  const Axis& axis(int index) const { return axis_[index]; }
  int64_t start() const {
    return start_;
  }  // of position 0 of all axes, in the input; outside of it where that is filled

  const Locality& locality() const { return locality_; }

 private:
  static constexpr int kMostAxes = 2 * kMaxRank;

  void begin(const Shape& x);
  void add(int64_t size, int64_t stride) { add(size, stride, 0, size); }
  void add(int64_t size, int64_t stride, int64_t first, int64_t last);
  const char* finish(const Shape& x);
  Locality find_locality(const Shape& x) const;

  Shape y_;
  int axes_ = 0;
  Axis axis_[kMostAxes] = {};
  int64_t start_ = 0;
  Locality locality_;
  int64_t strides_[kMaxRank] = {};  // of the input
};

}  // namespace bnncc
