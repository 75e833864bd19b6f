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

  // The options of all these operators begin with padding, stride_w and stride_h.
  explicit Windows(const FlatbufferTable& options)
      : padding(options.number<int8_t>(0, 0)), strides{options.number<int32_t>(2, 0), options.number<int32_t>(1, 0)} {}

  // Of a convolution: filters [_, KH, KW, _], the field dilation_w_factor, and dilation_h_factor behind it.
  Windows(const FlatbufferTable& options, const Shape& filter, int dilations_field)
      : Windows(options) {
    for (int i = 0; i < 2; ++i) {
      kernel[i] = filter.dims[i + 1];
      dilations[i] = options.number<int32_t>(dilations_field + 1 - i, 1);
    }
  }

  // Places them over x, and sets y to the map of their outputs, of so many channels.
  bool slide(Setup& setup, const Shape& x, int channels, Window* axes, Shape* y) const {
    if (padding < 0 || padding > 1) return setup.fail("its padding is unknown");
    const PaddingMode mode = padding == 0 ? PaddingMode::kSame : PaddingMode::kValid;
    for (int i = 0; i < 2; ++i) {
      if (kernel[i] < 1 || strides[i] < 1 || dilations[i] < 1) return setup.fail("its options are not positive");
      if (!bnncc::slide(mode, x.dims[i + 1], kernel[i], strides[i], dilations[i], &axes[i])) {
        return setup.fail("its kernel does not fit its input");
      }
    }
    *y = x;
    y->dims[1] = static_cast<int>(axes[0].output);
    y->dims[2] = static_cast<int>(axes[1].output);
    y->dims[3] = channels;
    return true;
  }
};

}  // namespace bnncc
