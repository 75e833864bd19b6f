#include "operator.h"

// The C++ library's part in virtual functions.  No operator is created by `new` (see memory.h), but a virtual
// destructor refers to `delete`.  A program that brings the C++ library defines BNNCC_HAS_CXX_LIBRARY.
#if !defined(BNNCC_HAS_CXX_LIBRARY)
void operator delete(void* pointer) noexcept { free(pointer); }
void operator delete(void* pointer, size_t) noexcept { free(pointer); }
extern "C" void __cxa_pure_virtual() { __builtin_trap(); }
#endif

namespace bnncc {
namespace {

// Of the types that operators read and write.
int64_t element_bytes(abi::Type type) {
  switch (type) {
    case abi::kFloat32:
    case abi::kInt32: return 4;
    case abi::kInt16: return 2;
    default: return 1;
  }
}

}  // namespace

bool Preparation::set_shape(int index, const Shape& shape) const {
  Value& v = values_[index];
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 1) return fail("its output would have an axis of size %d", shape.dims[i]);
  }
  v.shape = shape;
  const int64_t channels = shape.channels();
  const int64_t element = element_bytes(v.type);
  v.row_bytes = checked_product(channels, element);
  const int64_t bytes = checked_product(shape.elements(), element);
  if (bytes < 0 || v.row_bytes < 0) return fail("its output is too large");
  v.pixels = shape.elements() / channels;
  return true;
}

namespace {

bool is_constant(const abi::Tensor& tensor) {
  return tensor.allocation_type == abi::kMmapRo || tensor.allocation_type == abi::kPersistentRo;
}

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

struct BuiltinOperator {
  int32_t code;
  Operator* (*create)(int32_t code);
};

constexpr BuiltinOperator kBuiltinOperators[] = {{abi::kBuiltinAbs, create_elementwise},
                                                 {abi::kBuiltinAdd, create_elementwise},
                                                 {abi::kBuiltinAveragePool2d, create_float_pool2d},
                                                 {abi::kBuiltinConcatenation, create_concatenation},
                                                 {abi::kBuiltinConv2d, create_conv2d},
                                                 {abi::kBuiltinDepthToSpace, create_rearrange},
                                                 {abi::kBuiltinDequantize, create_from_integers},
                                                 {abi::kBuiltinDiv, create_elementwise},
                                                 {abi::kBuiltinFullyConnected, create_float_fully_connected},
                                                 {abi::kBuiltinHardSwish, create_gate},
                                                 {abi::kBuiltinLeakyRelu, create_elementwise},
                                                 {abi::kBuiltinLogistic, create_gate},
                                                 {abi::kBuiltinMaximum, create_elementwise},
                                                 {abi::kBuiltinMaxPool2d, create_float_pool2d},
                                                 {abi::kBuiltinMean, create_mean},
                                                 {abi::kBuiltinMinimum, create_elementwise},
                                                 {abi::kBuiltinMul, create_elementwise},
                                                 {abi::kBuiltinNeg, create_elementwise},
                                                 {abi::kBuiltinPad, create_rearrange},
                                                 {abi::kBuiltinPadV2, create_rearrange},
                                                 {abi::kBuiltinPrelu, create_elementwise},
                                                 {abi::kBuiltinQuantize, create_to_integers},
                                                 {abi::kBuiltinRelu, create_elementwise},
                                                 {abi::kBuiltinRelu6, create_elementwise},
                                                 {abi::kBuiltinReluN1To1, create_elementwise},
                                                 {abi::kBuiltinReshape, create_rearrange},
                                                 {abi::kBuiltinReverseV2, create_rearrange},
                                                 {abi::kBuiltinSpaceToDepth, create_rearrange},
                                                 {abi::kBuiltinSplit, create_rearrange},
                                                 {abi::kBuiltinSplitV, create_rearrange},
                                                 {abi::kBuiltinStridedSlice, create_rearrange},
                                                 {abi::kBuiltinSub, create_elementwise},
                                                 {abi::kBuiltinTranspose, create_rearrange}};

// Those that compute otherwise where their first input is of 8-bit integers.
constexpr BuiltinOperator kIntegerOperators[] = {{abi::kBuiltinAdd, create_byte_pairs},
                                                 {abi::kBuiltinAveragePool2d, create_integer_pool2d},
                                                 {abi::kBuiltinConv2d, create_integer_conv2d},
                                                 {abi::kBuiltinDepthwiseConv2d, create_integer_depthwise_conv2d},
                                                 {abi::kBuiltinFullyConnected, create_integer_fully_connected},
                                                 {abi::kBuiltinMaxPool2d, create_integer_pool2d},
                                                 {abi::kBuiltinMul, create_byte_pairs},
                                                 {abi::kBuiltinPrelu, create_byte_pairs},
                                                 {abi::kBuiltinQuantize, create_rescale},
                                                 {abi::kBuiltinRelu, create_rescale},
                                                 {abi::kBuiltinRelu6, create_rescale},
                                                 {abi::kBuiltinReluN1To1, create_rescale}};

}  // namespace

const char* read_tensor(const abi::Tensor& tensor, Value* value) {
  value->type = tensor.type;
  value->quantization = tensor.params;
  const bool is_affine = tensor.quantization.type == abi::kAffineQuantization;
  value->scales = is_affine ? static_cast<const abi::AffineQuantization*>(tensor.quantization.params) : nullptr;
  value->constant = nullptr;
  value->shape = Shape();
  if (tensor.dims == nullptr || tensor.dims->size < 0 || tensor.dims->size > kMaxRank)
    return "has no shape or too many axes";
  value->shape.rank = tensor.dims->size;
  for (int i = 0; i < tensor.dims->size; ++i) value->shape.dims[i] = tensor.dims->data[i];
  // The operator that writes it gives it its shape; only the number of channels may be read before.
  if (value->writer >= 0) return is_constant(tensor) ? "is written although it is a constant" : nullptr;
  for (int i = 0; i < value->shape.rank; ++i) {
    if (value->shape.dims[i] < 1) return "has an axis without elements";
  }
  const int64_t element = element_bytes(value->type);
  value->row_bytes = checked_product(value->shape.channels(), element);
  value->pixels = value->shape.elements() / value->shape.channels();
  const int64_t bytes = checked_product(value->pixels, value->row_bytes);
  if (value->shape.elements() < 0 || bytes < 0) return "is too large";
  if (!is_constant(tensor)) return nullptr;
  if (tensor.data == nullptr || tensor.bytes < static_cast<size_t>(bytes)) return "has too little data";
  if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(element) != 0)
    return "has data that is not aligned";
  value->constant = tensor.data;
  return nullptr;
}

bool is_lce_operator(const abi::Registration& registration) { return find_lce(registration) != nullptr; }

abi::Type first_type(const abi::Context& context, const abi::Node& node) {
  const int tensor = node.inputs->size == 0 ? -1 : node.inputs->data[0];
  const bool is_tensor = tensor >= 0 && static_cast<size_t>(tensor) < context.tensors_size;
  return is_tensor ? context.tensors[tensor].type : abi::kNoType;
}

Operator* create_operator(const abi::Registration& registration, abi::Type type) {
  if (type == abi::kInt8 || type == abi::kUInt8) {
    for (const BuiltinOperator& known : kIntegerOperators) {
      if (registration.builtin_code == known.code) return known.create(known.code);
    }
  }
  for (const BuiltinOperator& known : kBuiltinOperators) {
    if (registration.builtin_code == known.code) return known.create(known.code);
  }
  const LceOperator* const lce = find_lce(registration);
  return lce == nullptr ? nullptr : lce->create();
}

}  // namespace bnncc
