// The part of TensorFlow Lite's C interface that an external delegate meets, declared by hand.
//
// Field order and sizes are those of the classic C API from TensorFlow Lite 2.14 to LiteRT 2.3, on 64-bit and 32-bit
// machines alike.  tests/targets/runtime compares every offset with the headers of a published package.  Names follow
// TensorFlow Lite's without the prefix TfLite.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace bnncc::abi {

enum Status : int32_t { kOk = 0, kError = 1, kDelegateError = 2 };

enum Type : int32_t {
  kNoType = 0,
  kFloat32 = 1,
  kInt32 = 2,
  kUInt8 = 3,
  kInt64 = 4,
  kBool = 6,
  kInt16 = 7,
  kInt8 = 9,
  kFloat16 = 10,
};

enum AllocationType : int32_t { kMmapRo = 1, kArenaRw = 2, kPersistentRo = 5 };

enum FusedActivation : int32_t { kActNone = 0, kActRelu = 1, kActReluN1To1 = 2, kActRelu6 = 3 };

enum Padding : int32_t { kPaddingSame = 1, kPaddingValid = 2 };

enum BuiltinCode : int32_t {
  kBuiltinAdd = 0,
  kBuiltinAveragePool2d = 1,
  kBuiltinConcatenation = 2,
  kBuiltinConv2d = 3,
  kBuiltinDepthwiseConv2d = 4,
  kBuiltinDepthToSpace = 5,
  kBuiltinDequantize = 6,
  kBuiltinFullyConnected = 9,
  kBuiltinLogistic = 14,
  kBuiltinMaxPool2d = 17,
  kBuiltinMul = 18,
  kBuiltinRelu = 19,
  kBuiltinReluN1To1 = 20,
  kBuiltinRelu6 = 21,
  kBuiltinReshape = 22,
  kBuiltinSpaceToDepth = 26,
  kBuiltinCustom = 32,
  kBuiltinPad = 34,
  kBuiltinTranspose = 39,
  kBuiltinMean = 40,
  kBuiltinSub = 41,
  kBuiltinDiv = 42,
  kBuiltinStridedSlice = 45,
  kBuiltinSplit = 49,
  kBuiltinDelegate = 51,
  kBuiltinPrelu = 54,
  kBuiltinMaximum = 55,
  kBuiltinMinimum = 57,
  kBuiltinNeg = 59,
  kBuiltinPadV2 = 60,
  kBuiltinLeakyRelu = 98,
  kBuiltinAbs = 101,
  kBuiltinSplitV = 102,
  kBuiltinReverseV2 = 105,
  kBuiltinQuantize = 114,
  kBuiltinHardSwish = 117,
};

constexpr int64_t kFlagsAllowDynamicTensors = 1;

struct IntArray {
  int size;
  int data[1];  // `size` of them
};

struct FloatArray {
  int size;
  float data[1];  // `size` of them
};

struct QuantizationParams {
  float scale;
  int32_t zero_point;
};

struct Quantization {
  int32_t type;
  void* params;  // of kAffineQuantization: an AffineQuantization
};

constexpr int32_t kAffineQuantization = 1;

// One scale for all, or one for each index of an axis.
struct AffineQuantization {
  FloatArray* scale;
  IntArray* zero_point;
  int32_t quantized_dimension;
};

struct Delegate;

struct Tensor {
  Type type;
  void* data;
  IntArray* dims;
  QuantizationParams params;
  AllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  Quantization quantization;
  void* sparsity;
  const IntArray* dims_signature;
};

struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* intermediates;
  IntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  Delegate* delegate;
  bool might_have_side_effect;
};

struct Context;

struct Registration {
  void* (*init)(Context*, const char* buffer, size_t length);
  void (*free)(Context*, void* user_data);
  Status (*prepare)(Context*, Node*);
  Status (*invoke)(Context*, Node*);
  const char* (*profiling_string)(const Context*, const Node*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
};

// A prefix of the real one, which is only ever met by pointer.
struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context*, IntArray** execution_plan);
  Tensor* tensors;
  void* impl_;
  Status (*ResizeTensor)(Context*, Tensor*, IntArray* new_size);
  void (*ReportError)(Context*, const char* message, ...);
  Status (*AddTensors)(Context*, int tensors_to_add, int* first_new_tensor_index);
  Status (*GetNodeAndRegistration)(Context*, int node_index, Node**, Registration**);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context*, Registration, const IntArray* nodes_to_replace, Delegate*);
  int recommended_num_threads;
};

struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

struct Delegate {
  void* data_;
  Status (*Prepare)(Context*, Delegate*);
  Status (*CopyFromBufferHandle)(Context*, Delegate*, int, Tensor*);
  Status (*CopyToBufferHandle)(Context*, Delegate*, int, Tensor*);
  void (*FreeBufferHandle)(Context*, Delegate*, int*);
  int64_t flags;
  void* opaque_delegate_builder;
};

// Options of the built-in operators, as the interpreter parsed them (a prefix of each).
// ADD, SUB, MUL, DIV.
struct ArithmeticParams {
  FusedActivation activation;
};

struct ConcatenationParams {
  int axis;
  FusedActivation activation;
};

struct ConvParams {
  Padding padding;
  int stride_width;
  int stride_height;
  FusedActivation activation;
  int dilation_width_factor;
  int dilation_height_factor;
};

struct DepthwiseConvParams {
  Padding padding;
  int stride_width;
  int stride_height;
  int depth_multiplier;
  FusedActivation activation;
  int dilation_width_factor;
  int dilation_height_factor;
};

struct PoolParams {
  Padding padding;
  int stride_width;
  int stride_height;
  int filter_width;
  int filter_height;
  FusedActivation activation;
};

struct FullyConnectedParams {
  FusedActivation activation;
  int weights_format;
  bool keep_num_dims;
};

struct ReducerParams {
  bool keep_dims;
};

struct LeakyReluParams {
  float alpha;
};

// SPACE_TO_DEPTH, DEPTH_TO_SPACE.
struct BlockParams {
  int block_size;
};

struct StridedSliceParams {
  int begin_mask;
  int end_mask;
  int ellipsis_mask;
  int new_axis_mask;
  int shrink_axis_mask;
  bool offset;
};

static_assert(sizeof(AffineQuantization) == (sizeof(void*) == 8 ? 24 : 12));
static_assert(sizeof(Tensor) == (sizeof(void*) == 8 ? 112 : 64));
static_assert(sizeof(Node) == (sizeof(void*) == 8 ? 80 : 40));
static_assert(sizeof(Registration) == (sizeof(void*) == 8 ? 88 : 48));
static_assert(sizeof(Delegate) == (sizeof(void*) == 8 ? 56 : 40));

}  // namespace bnncc::abi
