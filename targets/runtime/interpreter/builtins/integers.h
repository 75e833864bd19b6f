// Tensors of 8-bit integers and their scales, after TensorFlow Lite's quantization specification.
#pragma once

#include "../../integer_matrix.h"
#include "../builtin.h"

namespace bnncc {

// An integer q stands for scale · (q - zero_point).
struct Scale {
  float scale = 1;
  int32_t zero_point = 0;

  // Of int8, or of uint8 where the tensor has that; false after a failure.
  bool read(Setup& setup, const FileTensor& tensor) {
    if (tensor.scales.count != 1 || tensor.zero_points.count > 1) return setup.fail("a tensor has not one scale");
    scale = tensor.scales.at<float>(0);
    const int64_t point = tensor.zero_points.count == 0 ? 0 : tensor.zero_points.at<int64_t>(0);
    const int64_t least = tensor.type == abi::kUInt8 ? 0 : -128;
    if (!(scale > 0 && scale < __builtin_inff()) || point < least || point > least + 255) {
      return setup.fail("a tensor's scale is not positive, or its zero point is none of its integers");
    }
    zero_point = static_cast<int32_t>(point);
    return true;
  }

  // The nearest integer to `number`, ties away from 0, as the interpreters find the bounds of activations.
  int32_t quantized(float number) const {
    constexpr float kMost = 1 << 20;  // beyond all integers, whatever the zero point is
    const float steps = min(max(number / scale, -kMost), kMost);
    return zero_point + static_cast<int32_t>(steps < 0 ? steps - 0.5f : steps + 0.5f);
  }
};

// What an operator with an activation of the schema yields; false after a failure.
inline bool read_output(Setup& setup, int8_t activation, const Scale& scale, IntegerOutput* output) {
  *output = IntegerOutput();
  output->zero_point = scale.zero_point;
  switch (activation) {
    case 0: return true;
    case 1: output->least = max(output->least, scale.quantized(0)); return true;
    case 2:
      output->least = max(output->least, scale.quantized(-1));
      output->most = min(output->most, scale.quantized(1));
      return true;
    case 3:
      output->least = max(output->least, scale.quantized(0));
      output->most = min(output->most, scale.quantized(6));
      return true;
    default: return setup.fail("its activation is unknown");
  }
}

inline bool read_factor(Setup& setup, double factor, FixedPoint* result) {
  return to_fixed_point(factor, result) || setup.fail("its scales are too far apart");
}

}  // namespace bnncc
