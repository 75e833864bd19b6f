// Tensors of 8-bit integers, and of 16 bits, and their scales, after TensorFlow Lite's quantization specification.
#pragma once

#include "../exact_factor.h"
#include "../integer_matrix.h"
#include "../operator.h"

namespace bnncc {

inline bool is_byte(abi::Type type) { return type == abi::kInt8 || type == abi::kUInt8; }

// An integer q stands for scale · (q - zero_point).
struct Scale {
  float scale = 1;
  int32_t zero_point = 0;

  // Of int8, or of uint8 where the tensor has that; false after a report.
  bool read(const Preparation& preparation, const Value& value) {
    scale = value.quantization.scale;
    zero_point = value.quantization.zero_point;
    const int32_t least = value.type == abi::kUInt8 ? 0 : -128;
    if (!is_byte(value.type)) return preparation.fail("a tensor is not of 8-bit integers");
    const bool is_scale = scale > 0 && scale < __builtin_inff();
    return (is_scale && zero_point >= least && zero_point <= least + 255) ||
           preparation.fail("a tensor's scale is not positive, or its zero point is none of its integers");
  }

  // The nearest integer to `number`, ties away from 0, as the interpreters find the bounds of activations.
  int32_t quantized(float number) const {
    constexpr float kMost = 1 << 20;  // beyond all integers, whatever the zero point is
    const float steps = min(max(number / scale, -kMost), kMost);
    return zero_point + static_cast<int32_t>(steps < 0 ? steps - 0.5f : steps + 0.5f);
  }

  bool operator==(const Scale& other) const { return scale == other.scale && zero_point == other.zero_point; }
};

inline bool is_known(abi::FusedActivation activation) {
  return activation >= abi::kActNone && activation <= abi::kActRelu6;
}

// What an operator of int8 with a known activation yields.
inline IntegerOutput output_of(abi::FusedActivation activation, const Scale& scale) {
  IntegerOutput output;
  output.zero_point = scale.zero_point;
  if (activation == abi::kActRelu || activation == abi::kActRelu6) {
    output.least = max(output.least, scale.quantized(0));
  }
  if (activation == abi::kActRelu6) output.most = min(output.most, scale.quantized(6));
  if (activation == abi::kActReluN1To1) {
    output.least = max(output.least, scale.quantized(-1));
    output.most = min(output.most, scale.quantized(1));
  }
  return output;
}

inline bool read_factor(const Preparation& preparation, double factor, FixedPoint* result) {
  return to_fixed_point(factor, result) || preparation.fail("its scales are too far apart");
}

// The scale of an activation of 8 bits, or of 16 with the zero point 0, for the kernels that have such ones; false
// after a report.  is_written: it becomes so from floats.
inline bool read_scale(const Preparation& preparation, const Value& value, bool is_written, IntegerScale* result) {
  Scale scale;
  int32_t most = 32768;  // of a quotient, where the result depends on which integer it is next to
  if (value.type == abi::kInt16) {
    scale.scale = value.quantization.scale;
    if (!(scale.scale > 0 && scale.scale < __builtin_inff()) || value.quantization.zero_point != 0) {
      return preparation.fail("a tensor of int16 has no positive scale, or a zero point");
    }
  } else if (scale.read(preparation, value)) {
    most = 255;
  } else {
    return false;
  }
  *result = {scale.scale, scale.zero_point, value.type == abi::kUInt8,
             is_written ? exact_factor(scale.scale, most) : 0};
  return true;
}

// Whether two tensors stand for the same numbers by the same integers; true of other types.
inline bool have_one_scale(const Value& a, const Value& b) {
  return !is_byte(a.type) ||
         (a.quantization.scale == b.quantization.scale && a.quantization.zero_point == b.quantization.zero_point);
}

}  // namespace bnncc
