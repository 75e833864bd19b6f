// What the operators of TensorFlow Lite share: activations, types, classes that serve several codes.
#pragma once

#include "../operator.h"

namespace bnncc {

// False for one that the delegate does not know.
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

inline bool is_float_map(const Value& value) { return value.type == abi::kFloat32 && value.shape.rank > 0; }

// An operator of a class that serves several codes; null where there is no memory.
template <typename T>
Operator* create_with_code(int32_t code) {
  auto* const created = create<T>();
  if (created != nullptr) created->code = code;
  return created;
}

}  // namespace bnncc
