// TensorFlow Lite's own operators, and what they see of the network.
#pragma once

#include "../kernels/kernels.h"
#include "loop.h"
#include "model.h"

namespace bnncc {

// What an operator is prepared from, and where it leaves the shapes of its outputs.
//
// An operator's `prepare` asks for what it needs and, where that is missing, returns at once: `problem` says what the
// first thing was.
class Setup {
 public:
  Setup(const Model& model, abi::Tensor* tensors, const FileOperator& op, int64_t most_bytes, const Kernels* kernels)
      : model_(model), tensors_(tensors), op_(op), most_bytes_(most_bytes), kernels_(kernels) {}

  const Kernels* kernels() const { return kernels_; }

  const FlatbufferTable& options() const { return op_.options; }
  int inputs() const { return op_.inputs.size(); }
  int outputs() const { return op_.outputs.size(); }
  bool has_input(int input) const { return input < inputs() && op_.inputs[input] >= 0; }

  // Whether the operator has so many inputs, all present but the optional ones, and so many outputs.
  bool expect(int inputs, int outputs, int optional = 0);

  abi::Type type(int input) const { return tensor(input).type; }
  abi::Type output_type(int output) const { return tensors_[op_.outputs[output]].type; }
  Shape shape(int input) const;

  // Whether an input is a tensor that some operator, or the user, fills at run time.
  bool is_computed(int input) const { return tensor(input).allocation_type == abi::kArenaRw; }

  // The numbers of a constant input; null where it is none of this type and number of elements (-1: any).
  template <typename T>
  const T* constant(int input, abi::Type type, int64_t elements = -1) {
    const abi::Tensor& t = tensor(input);
    if (t.type != type || t.allocation_type == abi::kArenaRw || t.data == nullptr ||
        (elements >= 0 && shape(input).elements() != elements)) {
      fail("an input is not the constant that it must be");
      return nullptr;
    }
    return static_cast<const T*>(t.data);
  }

  const FileTensor& file_tensor(int input) const { return model_.tensors()[op_.inputs[input]]; }
  const FileTensor& file_output(int output) const { return model_.tensors()[op_.outputs[output]]; }

  // Gives an output its shape; false where it is too large or declared with another type.
  bool set_output(int output, abi::Type type, const Shape& shape);

  // Always false.
  bool fail(const char* problem) {
    if (problem_ == nullptr) problem_ = problem;
    return false;
  }
  const char* problem() const { return problem_; }

 private:
  const abi::Tensor& tensor(int input) const { return tensors_[op_.inputs[input]]; }

  const Model& model_;
  abi::Tensor* tensors_;
  const FileOperator& op_;
  int64_t most_bytes_;
  const Kernels* kernels_;
  const char* problem_ = nullptr;
};

// Where an operator finds its tensors' data when it runs.
class Call {
 public:
  Call(const abi::Tensor* tensors, const FileOperator& op, const Team& team)
      : tensors_(tensors), op_(op), team_(team) {}

  template <typename T>
  const T* input(int input) const {
    return static_cast<const T*>(tensors_[op_.inputs[input]].data);
  }

  template <typename T>
  T* output(int output) const {
    return static_cast<T*>(tensors_[op_.outputs[output]].data);
  }

  const Team& team() const { return team_; }

 private:
  const abi::Tensor* tensors_;
  const FileOperator& op_;
  const Team& team_;
};

class Builtin {
 public:
  virtual ~Builtin() = default;  // call it by `destroy` (memory.h)

  // Checks the inputs and options and gives the outputs their shapes; false after a failure of the setup.
  virtual bool prepare(Setup&, const Team&) = 0;

  // Allocates nothing.
  virtual void run(const Call&) const = 0;
};

struct BuiltinEntry {
  int32_t code;
  const char* name;
  Builtin* (*create)(int32_t code);
};

// Options of STRIDED_SLICE.
abi::StridedSliceParams read_slice(const FlatbufferTable& options);

// The operator of this code; null where the interpreter has none.  Of 8-bit integers most are the delegate's.
const BuiltinEntry* find_builtin(int32_t code);

// An operator of a class that serves several codes; null where there is no memory.
template <typename T>
Builtin* create_with_code(int32_t code) {
  auto* const created = create<T>();
  if (created != nullptr) created->code = code;
  return created;
}

// In builtins/.
Builtin* create_unary(int32_t code);
Builtin* create_binary(int32_t code);
Builtin* create_select(int32_t code);
Builtin* create_cast(int32_t code);
Builtin* create_softmax(int32_t code);
Builtin* create_top_k(int32_t code);
Builtin* create_reduction(int32_t code);
Builtin* create_arg_extreme(int32_t code);
Builtin* create_convolution(int32_t code);
Builtin* create_depthwise_convolution(int32_t code);
Builtin* create_transposed_convolution(int32_t code);
Builtin* create_fully_connected(int32_t code);
Builtin* create_batch_matmul(int32_t code);
Builtin* create_pool(int32_t code);
Builtin* create_move(int32_t code);
Builtin* create_join(int32_t code);
Builtin* create_split(int32_t code);
Builtin* create_pad(int32_t code);
Builtin* create_gather(int32_t code);
Builtin* create_bilinear(int32_t code);

// The codes of the schema's BuiltinOperator.
namespace code {
constexpr int32_t kAdd = 0, kAveragePool2d = 1, kConcatenation = 2, kConv2d = 3, kDepthwiseConv2d = 4,
                  kDepthToSpace = 5, kDequantize = 6, kFloor = 8, kFullyConnected = 9, kLogistic = 14, kMaxPool2d = 17,
                  kMul = 18, kRelu = 19, kReluN1To1 = 20, kRelu6 = 21, kReshape = 22, kResizeBilinear = 23,
                  kSoftmax = 25, kSpaceToDepth = 26, kTanh = 28, kCustom = 32, kPad = 34, kGather = 36, kTranspose = 39,
                  kMean = 40, kSub = 41, kDiv = 42, kStridedSlice = 45, kExp = 47, kTopKV2 = 48, kSplit = 49,
                  kLogSoftmax = 50, kCast = 53, kPrelu = 54, kMaximum = 55, kArgMax = 56, kMinimum = 57, kLess = 58,
                  kNeg = 59, kPadV2 = 60, kGreater = 61, kGreaterEqual = 62, kLessEqual = 63, kSin = 66,
                  kTransposeConv = 67, kTile = 69, kEqual = 71, kNotEqual = 72, kLog = 73, kSum = 74, kSqrt = 75,
                  kPow = 78, kArgMin = 79, kReduceProd = 81, kReduceMax = 82, kLogicalOr = 84, kLogicalAnd = 86,
                  kLogicalNot = 87, kReduceMin = 89, kSquare = 92, kFloorMod = 95, kResizeNearestNeighbor = 97,
                  kLeakyRelu = 98, kMirrorPad = 100, kAbs = 101, kSplitV = 102, kCeil = 104, kReverseV2 = 105,
                  kCos = 108, kElu = 111, kQuantize = 114, kRound = 116, kHardSwish = 117, kSelectV2 = 123,
                  kBatchMatmul = 126, kBroadcastTo = 130, kGelu = 150, kRelu0To1 = 152, kSign = 158;
}  // namespace code

}  // namespace bnncc
