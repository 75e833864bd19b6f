// The activation that an operator applies to its output.
#pragma once

#include "../../float_activation.h"
#include "../../memory.h"

namespace bnncc {

struct Clamp : FloatClamp {
  // From the schema's ActivationFunctionType; false for one that the interpreter does not know.
  bool read(int8_t activation) { return read_activation(static_cast<abi::FusedActivation>(activation), this); }

  void apply(float* y, int64_t size) const {
    if (!clamps) return;
    for (int64_t i = 0; i < size; ++i) y[i] = min(max(y[i], least), most);
  }

  void apply(int32_t* y, int64_t size) const {
    if (!clamps) return;
    const int32_t low = static_cast<int32_t>(least);
    const int32_t high = most > 6 ? INT32_MAX : static_cast<int32_t>(most);
    for (int64_t i = 0; i < size; ++i) y[i] = min(max(y[i], low), high);
  }
};

}  // namespace bnncc
