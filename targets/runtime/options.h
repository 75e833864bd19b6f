// The options of LCE's operators: read from the file's FlexBuffer, checked on their own.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "geometry.h"

namespace bnncc {

enum class Activation { kNone, kRelu, kReluN1To1, kRelu6 };

struct Bconv2dOptions {
  int32_t channels_in = 0;
  int32_t stride_height = 0;
  int32_t stride_width = 0;
  int32_t dilation_height = 0;
  int32_t dilation_width = 0;
  Activation activation = Activation::kNone;
  PaddingMode padding = PaddingMode::kSame;
  bool pads_with_ones = false;
};

struct BMaxPool2dOptions {
  int32_t filter_height = 0;
  int32_t filter_width = 0;
  int32_t stride_height = 0;
  int32_t stride_width = 0;
  PaddingMode padding = PaddingMode::kSame;
};

// Null, or what is wrong: a static text.
const char* parse(const void* data, size_t size, Bconv2dOptions* options);
const char* parse(const void* data, size_t size, BMaxPool2dOptions* options);

}  // namespace bnncc
