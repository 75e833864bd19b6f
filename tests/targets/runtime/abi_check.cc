// Compiles only where targets/runtime/abi.h agrees with TensorFlow Lite's own headers (2.14).
#include <stddef.h>

#include "abi.h"
#include "tensorflow/lite/builtin_ops.h"
#include "tensorflow/lite/core/c/common.h"

namespace abi = bnncc::abi;

#define SAME_SIZE(ours, theirs) static_assert(sizeof(abi::ours) == sizeof(theirs))
#define SAME_OFFSET(ours, field, theirs) \
  static_assert(offsetof(abi::ours, field) == offsetof(theirs, field) && \
                sizeof(abi::ours::field) == sizeof(theirs::field))

SAME_OFFSET(IntArray, size, TfLiteIntArray);
static_assert(offsetof(abi::IntArray, data) == offsetof(TfLiteIntArray, data));

SAME_OFFSET(FloatArray, size, TfLiteFloatArray);
static_assert(offsetof(abi::FloatArray, data) == offsetof(TfLiteFloatArray, data));

SAME_SIZE(QuantizationParams, TfLiteQuantizationParams);
SAME_OFFSET(QuantizationParams, scale, TfLiteQuantizationParams);
SAME_OFFSET(QuantizationParams, zero_point, TfLiteQuantizationParams);

SAME_SIZE(Quantization, TfLiteQuantization);
SAME_OFFSET(Quantization, type, TfLiteQuantization);
SAME_OFFSET(Quantization, params, TfLiteQuantization);

SAME_SIZE(AffineQuantization, TfLiteAffineQuantization);
SAME_OFFSET(AffineQuantization, scale, TfLiteAffineQuantization);
SAME_OFFSET(AffineQuantization, zero_point, TfLiteAffineQuantization);
SAME_OFFSET(AffineQuantization, quantized_dimension, TfLiteAffineQuantization);

SAME_SIZE(Tensor, TfLiteTensor);
SAME_OFFSET(Tensor, type, TfLiteTensor);
SAME_OFFSET(Tensor, data, TfLiteTensor);
SAME_OFFSET(Tensor, dims, TfLiteTensor);
SAME_OFFSET(Tensor, params, TfLiteTensor);
SAME_OFFSET(Tensor, allocation_type, TfLiteTensor);
SAME_OFFSET(Tensor, bytes, TfLiteTensor);
SAME_OFFSET(Tensor, allocation, TfLiteTensor);
SAME_OFFSET(Tensor, name, TfLiteTensor);
SAME_OFFSET(Tensor, delegate, TfLiteTensor);
SAME_OFFSET(Tensor, buffer_handle, TfLiteTensor);
SAME_OFFSET(Tensor, data_is_stale, TfLiteTensor);
SAME_OFFSET(Tensor, is_variable, TfLiteTensor);
SAME_OFFSET(Tensor, quantization, TfLiteTensor);
SAME_OFFSET(Tensor, sparsity, TfLiteTensor);
SAME_OFFSET(Tensor, dims_signature, TfLiteTensor);

SAME_SIZE(Node, TfLiteNode);
SAME_OFFSET(Node, inputs, TfLiteNode);
SAME_OFFSET(Node, outputs, TfLiteNode);
SAME_OFFSET(Node, intermediates, TfLiteNode);
SAME_OFFSET(Node, temporaries, TfLiteNode);
SAME_OFFSET(Node, user_data, TfLiteNode);
SAME_OFFSET(Node, builtin_data, TfLiteNode);
SAME_OFFSET(Node, custom_initial_data, TfLiteNode);
SAME_OFFSET(Node, custom_initial_data_size, TfLiteNode);
SAME_OFFSET(Node, delegate, TfLiteNode);
SAME_OFFSET(Node, might_have_side_effect, TfLiteNode);

SAME_SIZE(Registration, TfLiteRegistration);
SAME_OFFSET(Registration, init, TfLiteRegistration);
SAME_OFFSET(Registration, free, TfLiteRegistration);
SAME_OFFSET(Registration, prepare, TfLiteRegistration);
SAME_OFFSET(Registration, invoke, TfLiteRegistration);
SAME_OFFSET(Registration, profiling_string, TfLiteRegistration);
SAME_OFFSET(Registration, builtin_code, TfLiteRegistration);
SAME_OFFSET(Registration, custom_name, TfLiteRegistration);
SAME_OFFSET(Registration, version, TfLiteRegistration);
SAME_OFFSET(Registration, registration_external, TfLiteRegistration);
SAME_OFFSET(Registration, async_kernel, TfLiteRegistration);
SAME_OFFSET(Registration, inplace_operator, TfLiteRegistration);

static_assert(sizeof(abi::Context) <= sizeof(TfLiteContext));
SAME_OFFSET(Context, tensors_size, TfLiteContext);
SAME_OFFSET(Context, GetExecutionPlan, TfLiteContext);
SAME_OFFSET(Context, tensors, TfLiteContext);
SAME_OFFSET(Context, impl_, TfLiteContext);
SAME_OFFSET(Context, ResizeTensor, TfLiteContext);
SAME_OFFSET(Context, ReportError, TfLiteContext);
SAME_OFFSET(Context, AddTensors, TfLiteContext);
SAME_OFFSET(Context, GetNodeAndRegistration, TfLiteContext);
SAME_OFFSET(Context, ReplaceNodeSubsetsWithDelegateKernels, TfLiteContext);
SAME_OFFSET(Context, recommended_num_threads, TfLiteContext);

SAME_SIZE(DelegateParams, TfLiteDelegateParams);
SAME_OFFSET(DelegateParams, delegate, TfLiteDelegateParams);
SAME_OFFSET(DelegateParams, nodes_to_replace, TfLiteDelegateParams);
SAME_OFFSET(DelegateParams, input_tensors, TfLiteDelegateParams);
SAME_OFFSET(DelegateParams, output_tensors, TfLiteDelegateParams);

SAME_SIZE(Delegate, TfLiteDelegate);
SAME_OFFSET(Delegate, data_, TfLiteDelegate);
SAME_OFFSET(Delegate, Prepare, TfLiteDelegate);
SAME_OFFSET(Delegate, CopyFromBufferHandle, TfLiteDelegate);
SAME_OFFSET(Delegate, CopyToBufferHandle, TfLiteDelegate);
SAME_OFFSET(Delegate, FreeBufferHandle, TfLiteDelegate);
SAME_OFFSET(Delegate, flags, TfLiteDelegate);
SAME_OFFSET(Delegate, opaque_delegate_builder, TfLiteDelegate);

#define SAME_VALUE(ours, theirs) static_assert(int(abi::ours) == int(theirs))

SAME_VALUE(kOk, kTfLiteOk);
SAME_VALUE(kError, kTfLiteError);
SAME_VALUE(kDelegateError, kTfLiteDelegateError);
SAME_VALUE(kFloat32, kTfLiteFloat32);
SAME_VALUE(kInt32, kTfLiteInt32);
SAME_VALUE(kBool, kTfLiteBool);
SAME_VALUE(kInt8, kTfLiteInt8);
SAME_VALUE(kUInt8, kTfLiteUInt8);
SAME_VALUE(kAffineQuantization, kTfLiteAffineQuantization);
SAME_VALUE(kMmapRo, kTfLiteMmapRo);
SAME_VALUE(kPersistentRo, kTfLitePersistentRo);
SAME_VALUE(kFlagsAllowDynamicTensors, kTfLiteDelegateFlagsAllowDynamicTensors);
SAME_VALUE(kBuiltinAdd, kTfLiteBuiltinAdd);
SAME_VALUE(kBuiltinAveragePool2d, kTfLiteBuiltinAveragePool2d);
SAME_VALUE(kBuiltinConcatenation, kTfLiteBuiltinConcatenation);
SAME_VALUE(kBuiltinConv2d, kTfLiteBuiltinConv2d);
SAME_VALUE(kBuiltinDepthwiseConv2d, kTfLiteBuiltinDepthwiseConv2d);
SAME_VALUE(kBuiltinDepthToSpace, kTfLiteBuiltinDepthToSpace);
SAME_VALUE(kBuiltinDequantize, kTfLiteBuiltinDequantize);
SAME_VALUE(kBuiltinQuantize, kTfLiteBuiltinQuantize);
SAME_VALUE(kBuiltinFullyConnected, kTfLiteBuiltinFullyConnected);
SAME_VALUE(kBuiltinLogistic, kTfLiteBuiltinLogistic);
SAME_VALUE(kBuiltinMean, kTfLiteBuiltinMean);
SAME_VALUE(kBuiltinHardSwish, kTfLiteBuiltinHardSwish);
SAME_VALUE(kBuiltinMaxPool2d, kTfLiteBuiltinMaxPool2d);
SAME_VALUE(kBuiltinMul, kTfLiteBuiltinMul);
SAME_VALUE(kBuiltinRelu, kTfLiteBuiltinRelu);
SAME_VALUE(kBuiltinReluN1To1, kTfLiteBuiltinReluN1To1);
SAME_VALUE(kBuiltinRelu6, kTfLiteBuiltinRelu6);
SAME_VALUE(kBuiltinReshape, kTfLiteBuiltinReshape);
SAME_VALUE(kBuiltinSpaceToDepth, kTfLiteBuiltinSpaceToDepth);
SAME_VALUE(kBuiltinCustom, kTfLiteBuiltinCustom);
SAME_VALUE(kBuiltinPad, kTfLiteBuiltinPad);
SAME_VALUE(kBuiltinTranspose, kTfLiteBuiltinTranspose);
SAME_VALUE(kBuiltinSub, kTfLiteBuiltinSub);
SAME_VALUE(kBuiltinDiv, kTfLiteBuiltinDiv);
SAME_VALUE(kBuiltinStridedSlice, kTfLiteBuiltinStridedSlice);
SAME_VALUE(kBuiltinSplit, kTfLiteBuiltinSplit);
SAME_VALUE(kBuiltinDelegate, kTfLiteBuiltinDelegate);
SAME_VALUE(kBuiltinPrelu, kTfLiteBuiltinPrelu);
SAME_VALUE(kBuiltinMaximum, kTfLiteBuiltinMaximum);
SAME_VALUE(kBuiltinMinimum, kTfLiteBuiltinMinimum);
SAME_VALUE(kBuiltinNeg, kTfLiteBuiltinNeg);
SAME_VALUE(kBuiltinPadV2, kTfLiteBuiltinPadv2);
SAME_VALUE(kBuiltinLeakyRelu, kTfLiteBuiltinLeakyRelu);
SAME_VALUE(kBuiltinAbs, kTfLiteBuiltinAbs);
SAME_VALUE(kBuiltinSplitV, kTfLiteBuiltinSplitV);
SAME_VALUE(kBuiltinReverseV2, kTfLiteBuiltinReverseV2);
