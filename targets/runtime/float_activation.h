// The activations that TensorFlow Lite fuses into an operator, as bounds of its output.
#pragma once

#include "abi.h"
#include "kernels/kernels.h"

namespace bnncc {

// False for one that is unknown.
inline bool read_activation(abi::FusedActivation activation, FloatClamp* clamp) {
  constexpr float kInfinity = __builtin_inff();
  switch (activation) {
    case abi::kActNone: *clamp = FloatClamp(); return true;
    case abi::kActRelu: *clamp = {true, 0, kInfinity}; return true;
    case abi::kActReluN1To1: *clamp = {true, -1, 1}; return true;
    case abi::kActRelu6: *clamp = {true, 0, 6}; return true;
    default: return false;
  }
}

}  // namespace bnncc
