// What convolutions and pools share: the windows over height and width.
#pragma once

#include "../../geometry.h"
#include "../builtin.h"

namespace bnncc {

inline const char* const kNoMap = "an input is no map [N, H, W, C]";

// As the operator's options give them: [height, width].
struct Windows {
  int8_t padding = 0;
  int32_t kernel[2] = {};
  int32_t strides[2] = {};
  int32_t dilations[2] = {1, 1};

  bool slide(Setup& setup, const Shape& x, Window* axes) const {
    if (padding < 0 || padding > 1) return setup.fail("its padding is unknown");
    const PaddingMode mode = padding == 0 ? PaddingMode::kSame : PaddingMode::kValid;
    for (int i = 0; i < 2; ++i) {
      if (kernel[i] < 1 || strides[i] < 1 || dilations[i] < 1) return setup.fail("its options are not positive");
      if (!bnncc::slide(mode, x.dims[i + 1], kernel[i], strides[i], dilations[i], &axes[i])) {
        return setup.fail("its kernel does not fit its input");
      }
    }
    return true;
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

}  // namespace bnncc
