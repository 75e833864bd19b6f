// The constant weights of convolutions and matrix products: float32, or int8 with a scale for each output or one.
//
// TensorFlow Lite's hybrid kernels round their input to int8 where the weights are int8.  Here the weights become the
// float32 numbers that they stand for when the network is prepared, and the input stays as it is: the result has the
// rounding of the weights alone.
#pragma once

#include "../../float_matrix.h"
#include "../builtin.h"

namespace bnncc {

class Weights {
 public:
  // Input `input` of an operator, whose axis `axis` counts the outputs.
  bool read(Setup& setup, int input, int axis) {
    const abi::Type type = setup.type(input);
    if (type == abi::kFloat32) {
      floats_ = setup.constant<float>(input, type);
      return floats_ != nullptr;
    }
    bytes_ = setup.constant<int8_t>(input, abi::kInt8);
    if (bytes_ == nullptr) return false;
    const FileTensor& tensor = setup.file_tensor(input);
    scales_ = tensor.scales;
    const uint64_t outputs = static_cast<uint64_t>(setup.shape(input).dims[axis]);
    if (scales_.count != 1 && (scales_.count != outputs || tensor.axis != axis)) {
      return setup.fail("its weights have not one scale for each output");
    }
    for (uint64_t i = 0; i < tensor.zero_points.count; ++i) {
      if (tensor.zero_points.at<int64_t>(i) != 0) return setup.fail("its weights are not symmetric");
    }
    return true;
  }

  // The number at `index`, which belongs to output `output`.
  float at(int64_t index, int64_t output) const {
    if (floats_ != nullptr) return floats_[index];
    const uint64_t scale = scales_.count == 1 ? 0 : static_cast<uint64_t>(output);
    return static_cast<float>(bytes_[index]) * scales_.at<float>(scale);
  }

 private:
  const float* floats_ = nullptr;
  const int8_t* bytes_ = nullptr;
  FlatbufferVector scales_;
};

// The bias, input `input`, of so many outputs; zeros where it is absent.  False after a failure.
inline bool read_bias(Setup& setup, int input, int64_t outputs, Array<float>* bias) {
  const float* const given = setup.has_input(input) ? setup.constant<float>(input, abi::kFloat32, outputs) : nullptr;
  if (setup.has_input(input) && given == nullptr) return false;
  if (!bias->allocate(outputs)) return setup.fail("out of memory");
  if (given != nullptr) memcpy(bias->data(), given, static_cast<size_t>(outputs) * sizeof(float));
  return true;
}

// Weights of inputs 1, [outputs, …], and 2, the bias, as the matrix that rows are multiplied by.  False after a failure.
inline bool read_matrix(Setup& setup, FloatMatrix* matrix) {
  const Shape filter = setup.shape(1);
  const int64_t outputs = filter.dims[0];
  Weights weights;
  Array<float> bias;
  if (!weights.read(setup, 1, 0) || !read_bias(setup, 2, outputs, &bias)) return false;
  const int64_t depth = filter.elements() / outputs;
  const auto weight = [&](int64_t o, int64_t k) { return weights.at(o * depth + k, o); };
  return matrix->pack(setup.kernels(), outputs, depth, weight, bias.data()) || setup.fail("out of memory");
}

}  // namespace bnncc
