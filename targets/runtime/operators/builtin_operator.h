// What the operators of TensorFlow Lite share: types, classes that serve several codes.
#pragma once

#include "../float_activation.h"
#include "../operator.h"

namespace bnncc {

inline bool is_float_map(const Value& value) { return value.type == abi::kFloat32 && value.shape.rank > 0; }

// An operator of a class that serves several codes; null where there is no memory.
template <typename T>
Operator* create_with_code(int32_t code) {
  auto* const created = create<T>();
  if (created != nullptr) created->code = code;
  return created;
}

}  // namespace bnncc
