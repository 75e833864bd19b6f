#include "arrangement.h"

namespace bnncc {
namespace {

const char* const kUnfitSize = "its sizes do not fit its input";
const char* const kNoAxis = "an axis does not exist";

// The axis counted from 0; -1 where it does not exist.
int find_axis(int64_t axis, int rank) {
  axis = axis < 0 ? axis + rank : axis;
  return axis >= 0 && axis < rank ? static_cast<int>(axis) : -1;
}

}  // namespace

void Arrangement::begin(const Shape& x) {
  *this = Arrangement();
  y_.rank = x.rank;
  int64_t stride = 1;
  for (int i = x.rank - 1; i >= 0; --i) {
    strides_[i] = stride;
    stride *= x.dims[i];
  }
}

void Arrangement::add(int64_t size, int64_t stride, int64_t first, int64_t last) {
  const bool is_whole = first == 0 && last == size;
  if (size == 1 && is_whole) return;
  Axis* const outer = axes_ == 0 ? nullptr : &axis_[axes_ - 1];
  // What is too large to merge is too large for `finish`.
  if (outer != nullptr && is_whole && outer->stride == size * stride && checked_product(outer->size, size) > 0) {
    *outer = {outer->size * size, stride, outer->first * size, outer->last * size};
  } else {
    axis_[axes_++] = {size, stride, first, last};
  }
}

const char* Arrangement::finish(const Shape& x) {
  if (y_.elements() < 1) return "its output would be too large, or have no elements";
  if (axes_ == 0) axis_[axes_++] = {1, 1, 0, 1};
  locality_ = find_locality(x);
  return nullptr;
}

Locality Arrangement::find_locality(const Shape& x) const {
  const int64_t channels = x.channels();
  const int64_t y_channels = y_.channels();
  if (x.elements() == channels && y_.elements() == y_channels) return {1, 1};
  const Axis& outer = axis_[0];
  if (outer.first != 0 || outer.last != outer.size) return {0, 0};
  if (axes_ == 1 && outer.stride == 1 && outer.size == x.elements()) {
    if (channels % y_channels == 0) return {1, channels / y_channels};
    if (y_channels % channels == 0) return {y_channels / channels, 1};
  }
  // Runs of the input as long as the outermost axis' stride, one behind the other, become runs of the output.
  const int64_t run = y_.elements() / outer.size;
  const bool covers = outer.stride > 0 && outer.stride * outer.size == x.elements();
  if (!covers || outer.stride % channels != 0 || run % y_channels != 0) return {0, 0};
  return {outer.stride / channels, run / y_channels};
}

const char* Arrangement::reshape(const Shape& x, const int32_t* sizes, int64_t rank) {
  begin(x);
  if (rank > kMaxRank) return "its shape has too many axes";
  int64_t known = 1;
  int open = -1;
  for (int i = 0; i < rank; ++i) {
    if (sizes[i] == -1 && open < 0) {
      open = i;
    } else {
      known = checked_product(known, sizes[i]);
    }
    y_.dims[i] = sizes[i];
  }
  y_.rank = static_cast<int>(rank);
  if (known < 1) return kUnfitSize;
  if (open >= 0) y_.dims[open] = static_cast<int>(x.elements() / known);
  if (y_.elements() != x.elements()) return kUnfitSize;
  add(x.elements(), 1);
  return finish(x);
}

const char* Arrangement::transpose(const Shape& x, const int32_t* order) {
  begin(x);
  unsigned seen = 0;
  for (int i = 0; i < x.rank; ++i) {
    const int axis = find_axis(order[i], x.rank);
    if (axis < 0 || (seen & 1u << axis) != 0) return "its permutation is none";
    seen |= 1u << axis;
    y_.dims[i] = x.dims[axis];
    add(x.dims[axis], strides_[axis]);
  }
  return finish(x);
}

const char* Arrangement::reverse(const Shape& x, const int32_t* axes, int64_t count) {
  begin(x);
  unsigned reversed = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int axis = find_axis(axes[i], x.rank);
    if (axis < 0) return kNoAxis;
    reversed |= 1u << axis;
  }
  for (int i = 0; i < x.rank; ++i) {
    const bool turns = (reversed >> i & 1) != 0;
    start_ += turns ? (x.dims[i] - 1) * strides_[i] : 0;
    y_.dims[i] = x.dims[i];
    add(x.dims[i], turns ? -strides_[i] : strides_[i]);
  }
  return finish(x);
}

const char* Arrangement::part(const Shape& x, int64_t axis, int64_t offset, int64_t size) {
  begin(x);
  const int found = find_axis(axis, x.rank);
  if (found < 0) return kNoAxis;
  if (offset < 0 || size < 1 || size > x.dims[found] - offset) return kUnfitSize;
  start_ = offset * strides_[found];
  for (int i = 0; i < x.rank; ++i) {
    y_.dims[i] = i == found ? static_cast<int>(size) : x.dims[i];
    add(y_.dims[i], strides_[i]);
  }
  return finish(x);
}

const char* Arrangement::pad(const Shape& x, const int32_t* amounts) {
  begin(x);
  for (int i = 0; i < x.rank; ++i) {
    const int64_t before = amounts[2 * i];
    const int64_t size = checked_sum(checked_sum(x.dims[i], before), amounts[2 * i + 1]);
    if (size < 0 || checked_product(before, strides_[i]) < 0) return "its amounts are negative or too large";
    y_.dims[i] = static_cast<int>(size);
    start_ -= before * strides_[i];
    add(size, strides_[i], before, before + x.dims[i]);
  }
  return finish(x);
}

const char* Arrangement::tile(const Shape& x, const int32_t* repeats) {
  begin(x);
  for (int i = 0; i < x.rank; ++i) {
    const int64_t size = checked_product(x.dims[i], repeats[i]);
    if (size < 1) return kUnfitSize;
    y_.dims[i] = static_cast<int>(size);
    add(repeats[i], 0);
    add(x.dims[i], strides_[i]);
  }
  return finish(x);
}

const char* Arrangement::broadcast_to(const Shape& x, const int32_t* sizes, int64_t rank) {
  begin(x);
  if (rank > kMaxRank || rank < x.rank) return kUnfitSize;
  y_.rank = static_cast<int>(rank);
  for (int i = 0; i < y_.rank; ++i) {
    const int axis = i - (y_.rank - x.rank);
    y_.dims[i] = sizes[i];
    if (axis < 0 || x.dims[axis] == 1) {
      add(sizes[i], 0);
    } else if (x.dims[axis] == sizes[i]) {
      add(sizes[i], strides_[axis]);
    } else {
      return kUnfitSize;
    }
  }
  return finish(x);
}

// A channel of the output stands for (row, column, channel) of a block of the input.
const char* Arrangement::space_to_depth(const Shape& x, int64_t block) {
  begin(x);
  if (x.rank != 4 || block < 1 || x.dims[1] % block != 0 || x.dims[2] % block != 0) return kUnfitSize;
  const int64_t channels = checked_product(x.dims[3], block * block);
  if (channels < 0) return "its output is too large";
  const int64_t height = x.dims[1] / block;
  const int64_t width = x.dims[2] / block;
  y_ = {4, {x.dims[0], static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels)}};
  add(x.dims[0], strides_[0]);
  add(height, block * strides_[1]);
  add(width, block * strides_[2]);
  add(block, strides_[1]);
  add(block, strides_[2]);
  add(x.dims[3], strides_[3]);
  return finish(x);
}

const char* Arrangement::depth_to_space(const Shape& x, int64_t block) {
  begin(x);
  if (x.rank != 4 || block < 1 || block > x.dims[3] || x.dims[3] % (block * block) != 0) return kUnfitSize;
  const int64_t channels = x.dims[3] / (block * block);
  const int64_t height = checked_product(x.dims[1], block);
  const int64_t width = checked_product(x.dims[2], block);
  if (height < 0 || width < 0) return "its output is too large";
  y_ = {4, {x.dims[0], static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels)}};
  add(x.dims[0], strides_[0]);
  add(x.dims[1], strides_[1]);
  add(block, block * channels);
  add(x.dims[2], strides_[2]);
  add(block, channels);
  add(channels, 1);
  return finish(x);
}

namespace {

int64_t place(int64_t position, int64_t size, int64_t least, int64_t most) {
  return min(max(position < 0 ? position + size : position, least), most);
}

}  // namespace

const char* Arrangement::slice(const Shape& x, const int32_t* begins, const int32_t* ends, const int32_t* steps,
                               const abi::StridedSliceParams& options) {
  begin(x);
  if (options.ellipsis_mask != 0 || options.new_axis_mask != 0 || options.shrink_axis_mask != 0) {
    return "it adds or removes axes";
  }
  if (options.offset) return "its ends are offsets";
  for (int i = 0; i < x.rank; ++i) {
    const int64_t size = x.dims[i];
    const int64_t step = steps[i];
    if (step == 0) return "a step is 0";
    const int64_t least = step > 0 ? 0 : -1;
    const int64_t most = step > 0 ? size : size - 1;
    const int64_t begin = options.begin_mask >> i & 1 ? (step > 0 ? least : most) : place(begins[i], size, least, most);
    const int64_t end = options.end_mask >> i & 1 ? (step > 0 ? most : least) : place(ends[i], size, least, most);
    const int64_t span = step > 0 ? end - begin : begin - end;
    const int64_t count = span <= 0 ? 0 : ceil_div(span, step > 0 ? step : -step);
    if (count < 1) return "its output would have no elements";
    start_ += begin * strides_[i];
    y_.dims[i] = static_cast<int>(count);
    add(count, count == 1 ? 0 : step * strides_[i]);
  }
  return finish(x);
}

}  // namespace bnncc
