#include "builtin.h"

namespace bnncc {
namespace {

constexpr BuiltinEntry kBuiltins[] = {
    {code::kAbs, "ABS", create_unary},
    {code::kAdd, "ADD", create_binary},
    {code::kArgMax, "ARG_MAX", create_arg_extreme},
    {code::kArgMin, "ARG_MIN", create_arg_extreme},
    {code::kAveragePool2d, "AVERAGE_POOL_2D", create_pool},
    {code::kBatchMatmul, "BATCH_MATMUL", create_batch_matmul},
    {code::kBroadcastTo, "BROADCAST_TO", create_move},
    {code::kCast, "CAST", create_cast},
    {code::kCeil, "CEIL", create_unary},
    {code::kConcatenation, "CONCATENATION", create_join},
    {code::kConv2d, "CONV_2D", create_convolution},
    {code::kCos, "COS", create_unary},
    {code::kDepthToSpace, "DEPTH_TO_SPACE", create_move},
    {code::kDepthwiseConv2d, "DEPTHWISE_CONV_2D", create_depthwise_convolution},
    {code::kDequantize, "DEQUANTIZE", create_cast},
    {code::kDiv, "DIV", create_binary},
    {code::kElu, "ELU", create_unary},
    {code::kEqual, "EQUAL", create_binary},
    {code::kExp, "EXP", create_unary},
    {code::kFloor, "FLOOR", create_unary},
    {code::kFloorMod, "FLOOR_MOD", create_binary},
    {code::kFullyConnected, "FULLY_CONNECTED", create_fully_connected},
    {code::kGather, "GATHER", create_gather},
    {code::kGelu, "GELU", create_unary},
    {code::kGreater, "GREATER", create_binary},
    {code::kGreaterEqual, "GREATER_EQUAL", create_binary},
    {code::kHardSwish, "HARD_SWISH", create_unary},
    {code::kLeakyRelu, "LEAKY_RELU", create_unary},
    {code::kLess, "LESS", create_binary},
    {code::kLessEqual, "LESS_EQUAL", create_binary},
    {code::kLog, "LOG", create_unary},
    {code::kLogicalAnd, "LOGICAL_AND", create_binary},
    {code::kLogicalNot, "LOGICAL_NOT", create_unary},
    {code::kLogicalOr, "LOGICAL_OR", create_binary},
    {code::kLogistic, "LOGISTIC", create_unary},
    {code::kLogSoftmax, "LOG_SOFTMAX", create_softmax},
    {code::kMaximum, "MAXIMUM", create_binary},
    {code::kMaxPool2d, "MAX_POOL_2D", create_pool},
    {code::kMean, "MEAN", create_reduction},
    {code::kMinimum, "MINIMUM", create_binary},
    {code::kMirrorPad, "MIRROR_PAD", create_gather},
    {code::kMul, "MUL", create_binary},
    {code::kNeg, "NEG", create_unary},
    {code::kNotEqual, "NOT_EQUAL", create_binary},
    {code::kPad, "PAD", create_pad},
    {code::kPadV2, "PADV2", create_pad},
    {code::kPow, "POW", create_binary},
    {code::kPrelu, "PRELU", create_binary},
    {code::kQuantize, "QUANTIZE", create_cast},
    {code::kReduceMax, "REDUCE_MAX", create_reduction},
    {code::kReduceMin, "REDUCE_MIN", create_reduction},
    {code::kReduceProd, "REDUCE_PROD", create_reduction},
    {code::kRelu, "RELU", create_unary},
    {code::kRelu0To1, "RELU_0_TO_1", create_unary},
    {code::kRelu6, "RELU6", create_unary},
    {code::kReluN1To1, "RELU_N1_TO_1", create_unary},
    {code::kReshape, "RESHAPE", create_move},
    {code::kResizeBilinear, "RESIZE_BILINEAR", create_bilinear},
    {code::kResizeNearestNeighbor, "RESIZE_NEAREST_NEIGHBOR", create_gather},
    {code::kReverseV2, "REVERSE_V2", create_move},
    {code::kRound, "ROUND", create_unary},
    {code::kSelectV2, "SELECT_V2", create_select},
    {code::kSign, "SIGN", create_unary},
    {code::kSin, "SIN", create_unary},
    {code::kSoftmax, "SOFTMAX", create_softmax},
    {code::kSpaceToDepth, "SPACE_TO_DEPTH", create_move},
    {code::kSplit, "SPLIT", create_split},
    {code::kSplitV, "SPLIT_V", create_split},
    {code::kSqrt, "SQRT", create_unary},
    {code::kSquare, "SQUARE", create_unary},
    {code::kStridedSlice, "STRIDED_SLICE", create_move},
    {code::kSub, "SUB", create_binary},
    {code::kSum, "SUM", create_reduction},
    {code::kTanh, "TANH", create_unary},
    {code::kTile, "TILE", create_move},
    {code::kTopKV2, "TOPK_V2", create_top_k},
    {code::kTranspose, "TRANSPOSE", create_move},
    {code::kTransposeConv, "TRANSPOSE_CONV", create_transposed_convolution},
};

}  // namespace

const BuiltinEntry* find_builtin(int32_t code) {
  for (const BuiltinEntry& known : kBuiltins) {
    if (known.code == code) return &known;
  }
  return nullptr;
}

abi::StridedSliceParams read_slice(const FlatbufferTable& options) {
  return {options.number<int32_t>(0, 0), options.number<int32_t>(1, 0), options.number<int32_t>(2, 0),
          options.number<int32_t>(3, 0), options.number<int32_t>(4, 0), options.number<uint8_t>(5, 0) != 0};
}

bool Setup::expect(int wanted_inputs, int wanted_outputs, int optional) {
  if (inputs() > wanted_inputs || inputs() < wanted_inputs - optional || outputs() != wanted_outputs) {
    return fail("the number of its inputs or outputs is wrong");
  }
  for (int i = 0; i < wanted_inputs - optional; ++i) {
    if (!has_input(i)) return fail("an input is absent");
  }
  for (int i = 0; i < inputs(); ++i) {
    if (has_input(i) && tensor(i).bytes == 0 && op_.code != code::kReshape) return fail("an input has no elements");
  }
  return true;
}

Shape Setup::shape(int input) const {
  Shape shape;
  const abi::IntArray& dims = *tensor(input).dims;
  shape.rank = dims.size;
  for (int i = 0; i < dims.size; ++i) shape.dims[i] = dims.data[i];
  return shape;
}

bool Setup::set_output(int output, abi::Type type, const Shape& shape) {
  abi::Tensor& tensor = tensors_[op_.outputs[output]];
  if (tensor.type != type) return fail("its output is declared with another type");
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 1) return fail("its output would have no elements");
  }
  const int64_t bytes = checked_product(shape.elements(), element_size(type));
  if (bytes < 0 || bytes > most_bytes_) return fail("its output is too large");
  tensor.bytes = static_cast<size_t>(bytes);
  tensor.dims->size = shape.rank;
  for (int i = 0; i < shape.rank; ++i) tensor.dims->data[i] = shape.dims[i];
  return true;
}

}  // namespace bnncc
