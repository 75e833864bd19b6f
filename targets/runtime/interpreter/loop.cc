#include "loop.h"

namespace bnncc {

void Loop::add_axis(int64_t size, const int64_t (&strides)[kMostOperands]) {
  if (size == 1) return;
  bool merges = axes_ > 0;
  for (int k = 0; k < operands_; ++k) merges = merges && strides_[axes_ - 1][k] == size * strides[k];
  if (merges) {
    sizes_[axes_ - 1] *= size;
  } else {
    sizes_[axes_++] = size;
  }
  for (int k = 0; k < operands_; ++k) strides_[axes_ - 1][k] = strides[k];
}

int64_t Loop::outer_size() const {
  int64_t rows = 1;
  for (int axis = 0; axis + 1 < axes_; ++axis) rows *= sizes_[axis];
  return rows;
}

void Loop::locate(int64_t row, int64_t* positions, int64_t* offsets) const {
  for (int k = 0; k < operands_; ++k) offsets[k] = 0;
  for (int axis = axes_ - 2; axis >= 0; --axis) {
    positions[axis] = row % sizes_[axis];
    row /= sizes_[axis];
    for (int k = 0; k < operands_; ++k) offsets[k] += positions[axis] * strides_[axis][k];
  }
}

void Loop::advance(int64_t* positions, int64_t* offsets) const {
  for (int axis = axes_ - 2; axis >= 0; --axis) {
    for (int k = 0; k < operands_; ++k) offsets[k] += strides_[axis][k];
    if (++positions[axis] < sizes_[axis]) return;
    positions[axis] = 0;
    for (int k = 0; k < operands_; ++k) offsets[k] -= sizes_[axis] * strides_[axis][k];
  }
}

}  // namespace bnncc
