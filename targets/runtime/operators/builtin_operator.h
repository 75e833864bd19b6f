// What the operators of TensorFlow Lite share: types, the options of windows, classes that serve several codes.
#pragma once

#include "../float_activation.h"
#include "../geometry.h"
#include "../operator.h"

namespace bnncc {

inline bool is_float_map(const Value& value) { return value.type == abi::kFloat32 && value.shape.rank > 0; }

inline PaddingMode mode_of(abi::Padding padding) {
  return padding == abi::kPaddingSame ? PaddingMode::kSame : PaddingMode::kValid;
}

// Null, or what is wrong with an activation.
inline const char* problem_of(abi::FusedActivation activation) {
  FloatClamp clamp;
  return read_activation(activation, &clamp) ? nullptr : "its activation is unknown";
}

// The same of the strides, the padding and the activation of convolutions and pools.
template <typename Options>
const char* problem_of_windows(const Options& options) {
  if (options.stride_width < 1 || options.stride_height < 1) return "a stride is not positive";
  if (options.padding != abi::kPaddingSame && options.padding != abi::kPaddingValid) return "its padding is unknown";
  return problem_of(options.activation);
}

// Options of CONV_2D and DEPTHWISE_CONV_2D, with a known activation.  Null, or what is wrong with them.
template <typename Options>
const char* parse_convolution(const abi::Node& node, Options* options) {
  if (node.builtin_data == nullptr) return "it has no options";
  *options = *static_cast<const Options*>(node.builtin_data);
  if (options->dilation_width_factor < 1 || options->dilation_height_factor < 1) return "a dilation is not positive";
  return problem_of_windows(*options);
}

// The same of pools.
inline const char* parse_pool(const abi::Node& node, abi::PoolParams* options) {
  if (node.builtin_data == nullptr) return "it has no options";
  *options = *static_cast<const abi::PoolParams*>(node.builtin_data);
  if (options->filter_width < 1 || options->filter_height < 1) return "a filter size is not positive";
  return problem_of_windows(*options);
}

// The same of FULLY_CONNECTED.
inline const char* parse_fully_connected(const abi::Node& node, abi::FullyConnectedParams* options) {
  if (node.builtin_data == nullptr) return "it has no options";
  *options = *static_cast<const abi::FullyConnectedParams*>(node.builtin_data);
  if (options->weights_format != 0) return "its weights' format is unknown";
  return problem_of(options->activation);
}

// Places the windows of a convolution over x [N, H, W, C], as if it were padded; filters: [_, KH, KW, _].  False where
// they do not fit.
template <typename Options>
bool slide_windows(const Options& options, const Shape& x, const Shape& filters, Window (&axes)[2],
                   const Padding& padding = Padding()) {
  const PaddingMode mode = mode_of(options.padding);
  const int64_t height = padding.padded(0, x.dims[1]);
  const int64_t width = padding.padded(1, x.dims[2]);
  if (height < 1 || width < 1 ||
      !slide(mode, height, filters.dims[1], options.stride_height, options.dilation_height_factor, &axes[0]) ||
      !slide(mode, width, filters.dims[2], options.stride_width, options.dilation_width_factor, &axes[1])) {
    return false;
  }
  for (int axis = 0; axis < 2; ++axis) padding.take_from(axis, &axes[axis]);
  return true;
}

// The map that they yield.
inline Shape output_of_windows(const Shape& x, const Window (&axes)[2], int channels) {
  return {4, {x.dims[0], static_cast<int>(axes[0].output), static_cast<int>(axes[1].output), channels}};
}

// An operator of a class that serves several codes; null where there is no memory.
template <typename T>
Operator* create_with_code(int32_t code) {
  auto* const created = create<T>();
  if (created != nullptr) created->code = code;
  return created;
}

}  // namespace bnncc
