// Where the windows of convolutions and poolings lie, after TensorFlow.
#pragma once

#include "memory.h"

namespace bnncc {

enum class PaddingMode { kSame, kValid };

// One axis: output position o reads input positions o·stride - before + k·dilation, k < kernel.
struct Window {
  int64_t input = 0;
  int64_t output = 0;
  int64_t before = 0;
  int64_t kernel = 0;
  int64_t stride = 0;
  int64_t dilation = 0;

  int64_t position(int64_t o, int64_t k) const { return o * stride - before + k * dilation; }
  bool holds(int64_t position) const { return position >= 0 && position < input; }
  bool never_pads() const { return before == 0 && position(output - 1, kernel - 1) < input; }
  bool is_pointwise() const { return kernel == 1 && stride == 1 && never_pads(); }
};

// SAME gives ⌈input / stride⌉ outputs and puts the smaller half of the padding first; VALID pads nothing.  All
// arguments are between 1 and INT32_MAX.  False where no window fits.
inline bool slide(PaddingMode mode, int64_t input, int64_t kernel, int64_t stride, int64_t dilation, Window* window) {
  const int64_t reach = (kernel - 1) * dilation + 1;
  *window = {input, 0, 0, kernel, stride, dilation};
  if (mode == PaddingMode::kValid) {
    if (reach > input) return false;
    window->output = (input - reach) / stride + 1;
    return true;
  }
  window->output = ceil_div(input, stride);
  window->before = max<int64_t>((window->output - 1) * stride + reach - input, 0) / 2;
  return true;
}

// Numbers that an operator in front puts around the lines and columns, [0] and [1], of maps [N, H, W, C].
struct Padding {
  int64_t before[2] = {0, 0};
  int64_t behind[2] = {0, 0};
  float fill = 0;

  // Of an axis with them.
  int64_t padded(int axis, int64_t size) const { return checked_sum(checked_sum(before[axis], behind[axis]), size); }
  // A window over a padded axis becomes one over the axis as it was.
  void take_from(int axis, Window* window) const {
    window->input -= before[axis] + behind[axis];
    window->before += before[axis];
  }
};

// The kernel positions k in [first, last) of output position o that lie in the map.
struct Reach {
  int64_t first;
  int64_t last;

  Reach(const Window& axis, int64_t o) {
    const int64_t begin = o * axis.stride - axis.before;
    first = begin >= 0 ? 0 : ceil_div(-begin, axis.dilation);
    last = begin >= axis.input ? 0 : min(axis.kernel, ceil_div(axis.input - begin, axis.dilation));
    last = max(first, last);
  }
};

// How many groups a convolution has whose filters meet so many of the channels; 0 where these are no equal parts of the
// channels, or of the outputs.
inline int64_t groups_of(int64_t channels, int64_t of_filter, int64_t outputs) {
  if (of_filter == 0 || channels % of_filter != 0 || outputs % (channels / of_filter) != 0) return 0;
  return channels / of_filter;
}

// Calls part(group, first, last) for the panels [first, last) of all groups' outputs, which have so many each: those of
// one group at a time, counted from its own first one.
template <typename Function>
void each_group(int64_t panels, int64_t first, int64_t last, const Function& part) {
  for (int64_t group = first / panels; group * panels < last; ++group) {
    const int64_t before = group * panels;
    part(group, max<int64_t>(first - before, 0), min(last - before, panels));
  }
}

}  // namespace bnncc
