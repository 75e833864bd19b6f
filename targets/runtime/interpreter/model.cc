#include "model.h"

namespace bnncc {
namespace {

// Fields of the schema's tables, in its order.
enum ModelField { kModelVersion, kModelOperatorCodes, kModelSubgraphs, kModelDescription, kModelBuffers };
enum CodeField { kCodeOneByte, kCodeCustomName, kCodeVersion, kCodeBuiltin };
enum GraphField { kGraphTensors, kGraphInputs, kGraphOutputs, kGraphOperators };
enum TensorField {
  kTensorShape,
  kTensorType,
  kTensorBuffer,
  kTensorName,
  kTensorQuantization,
  kTensorIsVariable,
  kTensorSparsity
};
enum QuantizationField {
  kQuantizationMin,
  kQuantizationMax,
  kQuantizationScale,
  kQuantizationZeroPoint,
  kQuantizationDetailsType,
  kQuantizationDetails,
  kQuantizationAxis
};
enum BufferField { kBufferData };
enum OperatorField {
  kOperatorCode,
  kOperatorInputs,
  kOperatorOutputs,
  kOperatorOptionsType,
  kOperatorOptions,
  kOperatorCustomOptions
};

constexpr uint32_t kSchemaVersion = 3;
const char* const kOutOfMemory = "out of memory";

// What an empty constant points to.
alignas(8) const uint8_t kNothing[8] = {};

// The one kind of tensor that may be empty: a RESHAPE to rank 0 has a list of no sizes.
bool is_empty_list(const FileTensor& tensor, uint32_t buffer) {
  return tensor.type == abi::kInt32 && tensor.shape.rank == 1 && buffer != 0;
}

// The schema's numbers of types, which differ from the interpreter's for floats.
abi::Type type_of(int8_t number) {
  switch (number) {
    case 0: return abi::kFloat32;
    case 1: return abi::kFloat16;
    case 2: return abi::kInt32;
    case 3: return abi::kUInt8;
    case 4: return abi::kInt64;
    case 6: return abi::kBool;
    case 7: return abi::kInt16;
    case 9: return abi::kInt8;
    default: return abi::kNoType;
  }
}

}  // namespace

int64_t element_size(abi::Type type) {
  switch (type) {
    case abi::kFloat32:
    case abi::kInt32: return 4;
    case abi::kInt64: return 8;
    case abi::kInt16:
    case abi::kFloat16: return 2;
    case abi::kUInt8:
    case abi::kInt8:
    case abi::kBool: return 1;
    default: return 0;
  }
}

const char* type_name(abi::Type type) {
  switch (type) {
    case abi::kFloat32: return "float32";
    case abi::kInt32: return "int32";
    case abi::kInt64: return "int64";
    case abi::kFloat16: return "float16";
    case abi::kUInt8: return "uint8";
    case abi::kInt16: return "int16";
    case abi::kInt8: return "int8";
    case abi::kBool: return "bool";
    default: return "an unknown type";
  }
}

const char* Model::parse(const void* data, size_t size) {
  if (static_cast<int64_t>(size) > kLargestSize) return "the file is too large";
  file_ = FlatbufferFile(data, size);
  const FlatbufferTable model = FlatbufferTable::root(file_, "TFL3");
  if (!model.is_present()) return "this is no TensorFlow Lite file";
  if (model.number<uint32_t>(kModelVersion, 0) != kSchemaVersion) return "the file's schema has another version";
  const FlatbufferVector graphs = model.vector(kModelSubgraphs, sizeof(uint32_t));
  if (graphs.count != 1) return "the file has not exactly one subgraph";
  const FlatbufferTable graph = FlatbufferTable::element(graphs, 0);
  const char* problem = parse_tensors(graph, model.vector(kModelBuffers, sizeof(uint32_t)));
  if (problem == nullptr) problem = parse_operators(graph, model.vector(kModelOperatorCodes, sizeof(uint32_t)));
  if (problem == nullptr) problem = parse_list(graph.vector(kGraphInputs, sizeof(int32_t)), false, &inputs_);
  if (problem == nullptr) problem = parse_list(graph.vector(kGraphOutputs, sizeof(int32_t)), false, &outputs_);
  return file_.is_damaged() ? "the file is damaged" : problem;
}

const char* Model::parse_tensors(const FlatbufferTable& graph, const FlatbufferVector& buffers) {
  const FlatbufferVector entries = graph.vector(kGraphTensors, sizeof(uint32_t));
  if (!tensors_.allocate(static_cast<int64_t>(entries.count))) return kOutOfMemory;
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    new (InPlace{}, &tensors_[i]) FileTensor();
    const char* const problem =
        parse_tensor(FlatbufferTable::element(entries, static_cast<uint64_t>(i)), buffers, &tensors_[i]);
    if (problem != nullptr) return problem;
  }
  return nullptr;
}

const char* Model::parse_tensor(const FlatbufferTable& table, const FlatbufferVector& buffers, FileTensor* tensor) {
  tensor->type = type_of(table.number<int8_t>(kTensorType, 0));
  if (tensor->type == abi::kNoType) return "a tensor is of a type that the interpreter does not know";
  if (table.table(kTensorSparsity).is_present()) return "a tensor is sparse";
  if (table.number<uint8_t>(kTensorIsVariable, 0) != 0) return "a tensor is a variable";
  const char* const name = table.text(kTensorName);
  if (name != nullptr) tensor->name = name;
  const FlatbufferVector sizes = table.vector(kTensorShape, sizeof(int32_t));
  if (sizes.count > kMaxRank) return "a tensor has too many axes";
  tensor->shape.rank = static_cast<int>(sizes.count);
  for (int i = 0; i < tensor->shape.rank; ++i) {
    tensor->shape.dims[i] = sizes.at<int32_t>(static_cast<uint64_t>(i));
    if (tensor->shape.dims[i] < 0) return "a tensor has a size that is not known";
  }
  tensor->bytes = checked_product(tensor->shape.elements(), element_size(tensor->type));
  if (tensor->bytes < 0) return "a tensor is too large";
  const FlatbufferTable quantization = table.table(kTensorQuantization);
  tensor->scales = quantization.vector(kQuantizationScale, sizeof(float));
  tensor->zero_points = quantization.vector(kQuantizationZeroPoint, sizeof(int64_t));
  tensor->axis = quantization.number<int32_t>(kQuantizationAxis, 0);
  const uint32_t buffer = table.number<uint32_t>(kTensorBuffer, 0);
  if (tensor->bytes == 0 && !is_empty_list(*tensor, buffer)) return "a tensor has no elements";
  if (buffer == 0) return nullptr;
  if (buffer >= buffers.count) return "a tensor's buffer does not exist";
  const FlatbufferVector data = FlatbufferTable::element(buffers, buffer).vector(kBufferData, 1);
  if (data.count == 0 && tensor->bytes > 0) return nullptr;
  if (static_cast<int64_t>(data.count) != tensor->bytes) return "a constant's size does not fit its shape";
  tensor->data = data.count == 0 ? kNothing : file_.data() + data.begin;
  if (reinterpret_cast<uintptr_t>(tensor->data) % static_cast<uintptr_t>(element_size(tensor->type)) != 0) {
    return "a constant is not aligned";
  }
  return nullptr;
}

const char* Model::parse_operators(const FlatbufferTable& graph, const FlatbufferVector& codes) {
  const FlatbufferVector entries = graph.vector(kGraphOperators, sizeof(uint32_t));
  if (!operators_.allocate(static_cast<int64_t>(entries.count))) return kOutOfMemory;
  for (int64_t i = 0; i < operators_.size(); ++i) {
    FileOperator& op = *new (InPlace{}, &operators_[i]) FileOperator();
    const FlatbufferTable table = FlatbufferTable::element(entries, static_cast<uint64_t>(i));
    const uint32_t index = table.number<uint32_t>(kOperatorCode, 0);
    if (index >= codes.count) return "an operator's code does not exist";
    const FlatbufferTable code = FlatbufferTable::element(codes, index);
    // Codes up to 127 may be in the older field alone, of one byte.
    op.code = max<int32_t>(code.number<int32_t>(kCodeBuiltin, 0), code.number<int8_t>(kCodeOneByte, 0));
    op.custom_name = code.text(kCodeCustomName);
    op.options = table.table(kOperatorOptions);
    const FlatbufferVector custom = table.vector(kOperatorCustomOptions, 1);
    if (custom.count > 0) op.custom_options = file_.data() + custom.begin;
    op.custom_options_size = static_cast<int>(custom.count);
    const char* problem = parse_list(table.vector(kOperatorInputs, sizeof(int32_t)), true, &op.inputs);
    if (problem == nullptr) problem = parse_list(table.vector(kOperatorOutputs, sizeof(int32_t)), false, &op.outputs);
    if (problem != nullptr) return problem;
  }
  return nullptr;
}

const char* Model::parse_list(const FlatbufferVector& vector, bool may_lack, TensorList* list) const {
  *list = TensorList(vector);
  for (int i = 0; i < list->size(); ++i) {
    const int tensor = (*list)[i];
    if (tensor == -1 && may_lack) continue;
    if (tensor < 0 || tensor >= tensors_.size()) return "a list names a tensor that does not exist";
  }
  return nullptr;
}

}  // namespace bnncc
