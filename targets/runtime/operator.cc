#include "operator.h"

// The C++ library's part in virtual functions.  No operator is created by `new` (see memory.h), but a virtual
// destructor refers to `delete`.  A program that brings the C++ library defines BNNCC_HAS_CXX_LIBRARY.
#if !defined(BNNCC_HAS_CXX_LIBRARY)
void operator delete(void* pointer) noexcept { free(pointer); }
void operator delete(void* pointer, size_t) noexcept { free(pointer); }
extern "C" void __cxa_pure_virtual() { __builtin_trap(); }
#endif

namespace bnncc {

bool Preparation::set_shape(int index, const Shape& shape) const {
  Value& v = values_[index];
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 1) return fail("its output would have an axis of size %d", shape.dims[i]);
  }
  v.shape = shape;
  const int64_t channels = shape.channels();
  const int64_t element = v.type == abi::kFloat32 || v.type == abi::kInt32 ? 4 : 1;
  v.row_bytes = checked_product(channels, element);
  const int64_t bytes = checked_product(shape.elements(), element);
  if (bytes < 0 || v.row_bytes < 0) return fail("its output is too large");
  v.pixels = shape.elements() / channels;
  return true;
}

namespace {

struct LceOperator {
  const char* name;
  Operator* (*create)();
};

constexpr LceOperator kLceOperators[] = {{"LceQuantize", create_quantize},
                                         {"LceDequantize", create_dequantize},
                                         {"LceBconv2d", create_bconv2d},
                                         {"LceBMaxPool2d", create_bmaxpool2d}};

const LceOperator* find_lce(const abi::Registration& registration) {
  if (registration.builtin_code != abi::kBuiltinCustom || registration.custom_name == nullptr) return nullptr;
  for (const LceOperator& known : kLceOperators) {
    if (strcmp(registration.custom_name, known.name) == 0) return &known;
  }
  return nullptr;
}

}  // namespace

bool is_lce_operator(const abi::Registration& registration) { return find_lce(registration) != nullptr; }

Operator* create_operator(const abi::Registration& registration) {
  switch (registration.builtin_code) {
    case abi::kBuiltinAdd: return create_add();
    case abi::kBuiltinPrelu: return create_prelu();
    case abi::kBuiltinConcatenation: return create_concatenation();
    case abi::kBuiltinAveragePool2d: return create_average_pool2d();
    case abi::kBuiltinConv2d: return create_conv2d();
    case abi::kBuiltinMaxPool2d: return create_max_pool2d();
    default: break;
  }
  const LceOperator* const lce = find_lce(registration);
  return lce == nullptr ? nullptr : lce->create();
}

}  // namespace bnncc
