// Where the pixels of a resized map lie in the original, after TensorFlow Lite.
#pragma once

#include "../builtin.h"
#include "../libm.h"

namespace bnncc {

struct Grid {
  bool align_corners;
  bool half_pixel_centers;

  // The distance of two output positions in the input.
  float scale(int64_t input, int64_t output) const {
    if (align_corners && output > 1) return static_cast<float>(input - 1) / static_cast<float>(output - 1);
    return static_cast<float>(input) / static_cast<float>(output);
  }

  int64_t nearest(int64_t position, int64_t input, int64_t output) const {
    const float offset = half_pixel_centers ? 0.5f : 0;
    const float scaled = (static_cast<float>(position) + offset) * scale(input, output);
    // Halves are rounded up, as positions are not negative.
    const int64_t found = static_cast<int64_t>(align_corners ? floorf(scaled + 0.5f) : floorf(scaled));
    return max<int64_t>(0, min(found, input - 1));
  }

  // y = (1 - share) · x[lower] + share · x[upper].
  void linear(int64_t position, int64_t input, int64_t output, int64_t* lower, int64_t* upper, float* share) const {
    float at = static_cast<float>(position) * scale(input, output);
    if (half_pixel_centers) at = (static_cast<float>(position) + 0.5f) * scale(input, output) - 0.5f;
    *lower = min(max<int64_t>(static_cast<int64_t>(floorf(at)), 0), input - 1);
    *upper = min(*lower + 1, input - 1);
    *share = at <= 0 || *upper == *lower ? 0 : at - static_cast<float>(*lower);
  }
};

// Reads input 1, [height, width], into the shape of the output of a map [N, H, W, C].
inline bool read_size(Setup& setup, const Shape& x, Shape* y) {
  const int32_t* const size = setup.constant<int32_t>(1, abi::kInt32, 2);
  if (size == nullptr) return false;
  if (x.rank != 4) return setup.fail("its input is no map [N, H, W, C]");
  if (size[0] < 1 || size[1] < 1) return setup.fail("its size is not positive");
  *y = x;
  y->dims[1] = size[0];
  y->dims[2] = size[1];
  return true;
}

}  // namespace bnncc
