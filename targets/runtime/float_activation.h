// The activations that TensorFlow Lite fuses into an operator, as bounds of its output.
#pragma once

#include "abi.h"
#include "kernels/kernels.h"

namespace bnncc {

// False for an activation that is unknown.
inline bool clamp_of(abi::FusedActivation activation, FloatClamp* clamp) {
  *clamp = FloatClamp();
  clamp->clamps = activation != abi::kActNone;
  if (activation == abi::kActRelu || activation == abi::kActRelu6) clamp->least = 0;
  if (activation == abi::kActRelu6) clamp->most = 6;
  if (activation == abi::kActReluN1To1) {
    clamp->least = -1;
    clamp->most = 1;
  }
  return activation >= abi::kActNone && activation <= abi::kActRelu6;
}

}  // namespace bnncc
