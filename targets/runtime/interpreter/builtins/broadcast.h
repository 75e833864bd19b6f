// NumPy's broadcasting: shapes are aligned at their last axes, and an axis of size 1 repeats.
#pragma once

#include "../loop.h"
#include "../model.h"

namespace bnncc {

// The shape of a and b together; false where they do not fit.
inline bool broadcast(const Shape& a, const Shape& b, Shape* y) {
  y->rank = max(a.rank, b.rank);
  for (int i = 0; i < y->rank; ++i) {
    const int left = i < y->rank - a.rank ? 1 : a.dims[i - (y->rank - a.rank)];
    const int right = i < y->rank - b.rank ? 1 : b.dims[i - (y->rank - b.rank)];
    if (left != right && left != 1 && right != 1) return false;
    y->dims[i] = left == 1 ? right : left;
  }
  return true;
}

// A loop over y, the last operand, and the inputs that are broadcast to it.
inline Loop broadcast_loop(const Shape* inputs, int count, const Shape& y) {
  Loop loop(count + 1);
  int64_t strides[kMaxRank][Loop::kMostOperands] = {};
  for (int k = 0; k <= count; ++k) {
    const Shape& shape = k < count ? inputs[k] : y;
    int64_t stride = 1;
    for (int i = shape.rank - 1; i >= 0; --i) {
      const int axis = i + y.rank - shape.rank;
      strides[axis][k] = shape.dims[i] == 1 ? 0 : stride;
      stride *= shape.dims[i];
    }
  }
  for (int axis = 0; axis < y.rank; ++axis) loop.add_axis(y.dims[axis], strides[axis]);
  return loop;
}

}  // namespace bnncc
