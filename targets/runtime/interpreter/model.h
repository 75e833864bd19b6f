// A .tflite file, taken apart and checked: tensors, operators, inputs and outputs of its first subgraph.
#pragma once

#include "../abi.h"
#include "../memory.h"
#include "../operator.h"
#include "flatbuffer.h"

namespace bnncc {

// The bytes of an element; 0 where the interpreter has no such type.
int64_t element_size(abi::Type type);
const char* type_name(abi::Type type);

// A list of tensors' numbers.
class TensorList {
 public:
  TensorList() = default;
  explicit TensorList(const FlatbufferVector& vector) : vector_(vector) {}

  int size() const { return static_cast<int>(vector_.count); }
  int operator[](int index) const { return vector_.at<int32_t>(static_cast<uint64_t>(index)); }

 private:
  FlatbufferVector vector_;
};

struct FileTensor {
  abi::Type type = abi::kNoType;
  Shape shape;
  const void* data = nullptr;  // of a constant
  int64_t bytes = 0;
  const char* name = "";
  // Of a tensor of 8-bit integers: one, or one for each index of an axis.
  FlatbufferVector scales;
  FlatbufferVector zero_points;
  int32_t axis = 0;
};

struct FileOperator {
  int32_t code = 0;
  const char* custom_name = nullptr;
  TensorList inputs;  // -1: absent
  TensorList outputs;
  FlatbufferTable options;
  const void* custom_options = nullptr;
  int custom_options_size = 0;
};

class Model {
 public:
  // Null, or what is wrong.  The bytes must outlive the model.
  const char* parse(const void* data, size_t size);

  const FlatbufferFile& file() const { return file_; }
  const Array<FileTensor>& tensors() const { return tensors_; }
  const Array<FileOperator>& operators() const { return operators_; }
  const TensorList& inputs() const { return inputs_; }
  const TensorList& outputs() const { return outputs_; }

 private:
  const char* parse_tensors(const FlatbufferTable& graph, const FlatbufferVector& buffers);
  const char* parse_tensor(const FlatbufferTable& table, const FlatbufferVector& buffers, FileTensor* tensor);
  const char* parse_operators(const FlatbufferTable& graph, const FlatbufferVector& codes);
  const char* parse_list(const FlatbufferVector& vector, bool may_lack, TensorList* list) const;

  FlatbufferFile file_;
  Array<FileTensor> tensors_;
  Array<FileOperator> operators_;
  TensorList inputs_;
  TensorList outputs_;
};

}  // namespace bnncc
