// A libFuzzer target: the delegate's claim, preparation and one run, on graphs made of the fuzzer's bytes.
//
//   cmake -B BUILD -DBNNCC_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ && cmake --build BUILD --target fuzz_preparation
//   BUILD/fuzz_preparation -max_total_time=60
//
// A stand-in for the interpreter holds a few tensors and nodes whose types, shapes, options and connections the bytes
// choose.  Every tensor's memory is a block of its own, so that AddressSanitizer sees one byte too many; graphs that
// would need much memory or time are prepared but not run.
#include "../abi.h"
#include "../memory.h"
#include "../operator.h"

extern "C" bnncc::abi::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                               size_t count, void (*report)(const char*));
extern "C" void tflite_plugin_destroy_delegate(bnncc::abi::Delegate* delegate);

namespace bnncc {
namespace {

constexpr int kTensors = 10;
constexpr int kMostNodes = 4;
constexpr int kMostListed = 10;
constexpr int64_t kMostBytes = 1 << 20;  // of a tensor that gets memory
constexpr int64_t kMostWork = 1 << 26;   // products of the bytes of a convolution's map and filters

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  unsigned next() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  unsigned below(unsigned bound) { return next() % bound; }

  // Mostly small, sometimes absurd.
  int number() {
    const int odd[] = {0, 16, 31, 32, 33, 64, 96, 128, 1000, 65536, 0x40000000, 0x7fffffff, -1, -0x7fffffff - 1};
    const unsigned choice = next();
    return choice < 200 ? static_cast<int>(choice % 8) : odd[choice % (sizeof(odd) / sizeof(odd[0]))];
  }

  size_t take(uint8_t* target, size_t most) {
    const size_t size = most < size_ ? most : size_;
    memcpy(target, data_, size);
    data_ += size;
    size_ -= size;
    return size;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

struct List {
  int size = 0;
  int data[kMostListed] = {};

  abi::IntArray* get() { return reinterpret_cast<abi::IntArray*>(this); }
};

struct Scales {
  int size = 0;
  float data[kMostListed] = {};
};

struct Graph {
  abi::Context context = {};
  abi::Tensor tensors[kTensors] = {};
  List dims[kTensors];
  Scales scales[kTensors];
  List zero_points[kTensors];
  abi::AffineQuantization affine[kTensors] = {};
  abi::Node nodes[kMostNodes] = {};
  abi::Registration registrations[kMostNodes] = {};
  List inputs[kMostNodes];
  List outputs[kMostNodes];
  List plan;
  alignas(8) uint8_t options[kMostNodes][256] = {};
};

Graph* graph_of(abi::Context* context) { return static_cast<Graph*>(context->impl_); }

int64_t bytes_of(const abi::Tensor& tensor) {
  int64_t bytes = tensor.type == abi::kFloat32 || tensor.type == abi::kInt32 ? 4 : tensor.type == abi::kInt16 ? 2 : 1;
  for (int i = 0; i < tensor.dims->size; ++i) bytes = checked_product(bytes, tensor.dims->data[i]);
  return bytes;
}

// Memory of exactly the tensor's size, all ones; none where it is too large.
void give_memory(abi::Tensor* tensor) {
  free(tensor->data);
  tensor->data = nullptr;
  const int64_t bytes = bytes_of(*tensor);
  tensor->bytes = bytes < 0 ? 0 : static_cast<size_t>(bytes);
  if (bytes < 0 || bytes > kMostBytes) return;
  tensor->data = malloc(tensor->bytes);
  if (tensor->data != nullptr) memset(tensor->data, 1, tensor->bytes);
}

abi::Status get_execution_plan(abi::Context* context, abi::IntArray** plan) {
  *plan = graph_of(context)->plan.get();
  return abi::kOk;
}

abi::Status resize_tensor(abi::Context* context, abi::Tensor* tensor, abi::IntArray* shape) {
  List& dims = graph_of(context)->dims[tensor - context->tensors];
  dims.size = shape->size;
  for (int i = 0; i < shape->size; ++i) dims.data[i] = shape->data[i];
  free(shape);
  return abi::kOk;
}

void report_error(abi::Context*, const char*, ...) {}

abi::Status get_node(abi::Context* context, int index, abi::Node** node, abi::Registration** registration) {
  Graph* const graph = graph_of(context);
  if (index < 0 || index >= graph->plan.size) return abi::kError;
  *node = &graph->nodes[index];
  *registration = &graph->registrations[index];
  return abi::kOk;
}

bool is_cheap(const Graph& graph) {
  int64_t work = 1;
  for (const abi::Tensor& tensor : graph.tensors) {
    if (tensor.data == nullptr) return false;
    work = checked_product(work, max<int64_t>(static_cast<int64_t>(tensor.bytes) / 64, 1));
  }
  return work >= 0 && work < kMostWork;
}

// All claimed nodes as one partition, as the interpreter would form it of nodes in a row.
abi::Status replace_nodes(abi::Context* context, abi::Registration registration, const abi::IntArray* nodes,
                          abi::Delegate* delegate) {
  Graph* const graph = graph_of(context);
  List claimed;
  List outputs;
  for (int i = 0; i < nodes->size; ++i) {
    claimed.data[claimed.size++] = nodes->data[i];
    const List& written = graph->outputs[nodes->data[i]];
    for (int k = 0; k < written.size && outputs.size < kMostListed; ++k) outputs.data[outputs.size++] = written.data[k];
  }
  // Whether what passes between two nodes leaves the partition as well, the last node's number decides.
  if (nodes->data[nodes->size - 1] % 2 == 1 && outputs.size > 1) {
    outputs.data[0] = outputs.data[outputs.size - 1];
    outputs.size = 1;
  }
  List none;
  abi::DelegateParams parameters = {delegate, claimed.get(), none.get(), outputs.get()};
  abi::Node node = {};
  node.user_data = registration.init(context, reinterpret_cast<const char*>(&parameters), sizeof(parameters));
  if (registration.prepare(context, &node) == abi::kOk) {
    for (abi::Tensor& tensor : graph->tensors) {
      if (tensor.allocation_type != abi::kMmapRo) give_memory(&tensor);
    }
    if (is_cheap(*graph)) registration.invoke(context, &node);
  }
  registration.free(context, node.user_data);
  return abi::kOk;
}

void put(uint8_t* target, size_t position, uint32_t value) { memcpy(target + position, &value, sizeof(value)); }

// A well-formed FlexBuffer map of 32-bit integers (see flexbuffer.h); returns its size.
size_t encode(const char* const* keys, const int* values, size_t count, uint8_t* target) {
  size_t names[16];
  size_t end = 0;
  for (size_t i = 0; i < count; ++i) {
    names[i] = end;
    memcpy(target + end, keys[i], strlen(keys[i]) + 1);
    end += strlen(keys[i]) + 1;
  }
  end = (end + 3) / 4 * 4;
  put(target, end, static_cast<uint32_t>(count));
  const size_t entries = end + 4;
  for (size_t i = 0; i < count; ++i) put(target, entries + 4 * i, static_cast<uint32_t>(entries + 4 * i - names[i]));
  const size_t map = entries + 4 * count;
  const size_t first = map + 12;
  put(target, map, static_cast<uint32_t>(map - entries));
  put(target, map + 4, 4);
  put(target, map + 8, static_cast<uint32_t>(count));
  for (size_t i = 0; i < count; ++i) put(target, first + 4 * i, static_cast<uint32_t>(values[i]));
  const size_t types = first + 4 * count;
  constexpr uint8_t kInt32 = 1 << 2 | 2;
  constexpr uint8_t kMap32 = 9 << 2 | 2;
  for (size_t i = 0; i < count; ++i) target[types + i] = kInt32;
  const size_t root = types + count;
  put(target, root, static_cast<uint32_t>(root - first));
  target[root + 4] = kMap32;
  target[root + 5] = 4;
  return root + 6;
}

constexpr const char* kConvKeys[] = {
    "channels_in", "dilation_height_factor", "dilation_width_factor", "fused_activation_function", "pad_values",
    "padding",     "stride_height",          "stride_width"};
constexpr const char* kPoolKeys[] = {"filter_height", "filter_width", "padding", "stride_height", "stride_width"};

size_t make_options(bool is_pool, Bytes* bytes, uint8_t* target) {
  const unsigned kind = bytes->below(8);
  if (kind == 0) return bytes->take(target, bytes->below(100));
  int values[8];
  for (int& value : values) value = bytes->number();
  const size_t size = is_pool ? encode(kPoolKeys, values, 5, target) : encode(kConvKeys, values, 8, target);
  // Sometimes one byte of it is another.
  if (kind == 1) target[bytes->next() % size] = static_cast<uint8_t>(bytes->next());
  return size;
}

// So many scales, and as many zero points of 0, along an axis.
void set_scales(Graph* graph, int index, int count, int axis) {
  graph->scales[index].size = graph->zero_points[index].size = min(count, kMostListed);
  for (int i = 0; i < kMostListed; ++i) graph->scales[index].data[i] = 0.5f / static_cast<float>(i + 1);
  graph->affine[index] = {reinterpret_cast<abi::FloatArray*>(&graph->scales[index]), graph->zero_points[index].get(),
                          axis};
  graph->tensors[index].quantization = {abi::kAffineQuantization, &graph->affine[index]};
}

void make_tensor(Bytes* bytes, Graph* graph, int index) {
  const abi::Type types[] = {abi::kInt32, abi::kInt32,   abi::kFloat32, abi::kFloat32,
                             abi::kInt16, abi::kFloat32, abi::kInt8,    abi::kBool};
  abi::Tensor& tensor = graph->tensors[index];
  const unsigned kind = bytes->next();
  tensor.type = types[kind & 7];
  tensor.params = {kind & 8 ? 0.5f : 0.0f, static_cast<int>(kind) - 100};
  if (tensor.type == abi::kInt16) tensor.params.zero_point = kind & 128 ? 1 : 0;
  if (tensor.type == abi::kInt8) {
    set_scales(graph, index, static_cast<int>(bytes->below(kMostListed)), static_cast<int>(bytes->below(4)));
  }
  List& dims = graph->dims[index];
  dims.size = static_cast<int>(bytes->below(6) == 0 ? bytes->below(kMostListed + 1) : 4);
  if (kind & 16) dims.size = 1;
  for (int i = 0; i < dims.size; ++i) dims.data[i] = bytes->number();
  tensor.dims = dims.get();
  give_memory(&tensor);
  if (!(kind & 32)) return;
  tensor.allocation_type = abi::kMmapRo;
  // Numbers of axes, sizes and amounts are small.
  for (size_t i = 0; (kind & 64) && tensor.type == abi::kInt32 && tensor.data != nullptr && i < tensor.bytes / 4; ++i) {
    static_cast<int32_t*>(tensor.data)[i] = bytes->number();
  }
  if (bytes->below(8) == 0) tensor.bytes = tensor.bytes / 2;
}

// Options of one of TensorFlow Lite's own operators; returns how many inputs it usually has.
int make_builtin_options(int32_t code, Bytes* bytes, uint8_t* target) {
  const auto activation = [bytes] { return static_cast<abi::FusedActivation>(bytes->below(5)); };
  switch (code) {
    case abi::kBuiltinAdd:
    case abi::kBuiltinSub:
    case abi::kBuiltinMul:
    case abi::kBuiltinDiv: *reinterpret_cast<abi::ArithmeticParams*>(target) = {activation()}; return 2;
    case abi::kBuiltinConcatenation:
      *reinterpret_cast<abi::ConcatenationParams*>(target) = {static_cast<int>(bytes->below(8)) - 2, abi::kActNone};
      return 2;
    case abi::kBuiltinSpaceToDepth:
    case abi::kBuiltinDepthToSpace: *reinterpret_cast<abi::BlockParams*>(target) = {bytes->number()}; return 1;
    case abi::kBuiltinStridedSlice:
      *reinterpret_cast<abi::StridedSliceParams*>(target) = {bytes->number(), bytes->number(), 0, 0, 0, false};
      return 4;
    case abi::kBuiltinAveragePool2d:
    case abi::kBuiltinMaxPool2d:
      *reinterpret_cast<abi::PoolParams*>(target) = {static_cast<abi::Padding>(bytes->below(4)),
                                                     bytes->number(),
                                                     bytes->number(),
                                                     bytes->number(),
                                                     bytes->number(),
                                                     activation()};
      return 1;
    case abi::kBuiltinConv2d:
      *reinterpret_cast<abi::ConvParams*>(target) = {static_cast<abi::Padding>(bytes->below(4)),
                                                     bytes->number(),
                                                     bytes->number(),
                                                     activation(),
                                                     bytes->number(),
                                                     bytes->number()};
      return 3;
    case abi::kBuiltinDepthwiseConv2d:
      *reinterpret_cast<abi::DepthwiseConvParams*>(target) = {static_cast<abi::Padding>(bytes->below(4)),
                                                              bytes->number(),
                                                              bytes->number(),
                                                              bytes->number(),
                                                              activation(),
                                                              bytes->number(),
                                                              bytes->number()};
      return 3;
    case abi::kBuiltinFullyConnected:
      *reinterpret_cast<abi::FullyConnectedParams*>(target) = {activation(), 0, bytes->below(2) == 0};
      return 3;
    case abi::kBuiltinMean: *reinterpret_cast<abi::ReducerParams*>(target) = {bytes->below(2) == 0}; return 2;
    case abi::kBuiltinPadV2:
    case abi::kBuiltinSplitV: return 3;
    case abi::kBuiltinRelu:
    case abi::kBuiltinRelu6:
    case abi::kBuiltinQuantize:
    case abi::kBuiltinDequantize:
    case abi::kBuiltinHardSwish:
    case abi::kBuiltinLogistic:
    case abi::kBuiltinLeakyRelu:
    case abi::kBuiltinAbs: return 1;
    default: return 2;
  }
}

void make_node(Bytes* bytes, Graph* graph, int index) {
  const char* const names[] = {"LceBconv2d", "LceBconv2d", "LceQuantize", "LceDequantize", "LceBMaxPool2d", "LceOther"};
  const int32_t builtins[] = {
      abi::kBuiltinAdd,    abi::kBuiltinSub,          abi::kBuiltinMul,          abi::kBuiltinPrelu,
      abi::kBuiltinRelu6,  abi::kBuiltinMaximum,      abi::kBuiltinLeakyRelu,    abi::kBuiltinConcatenation,
      abi::kBuiltinPad,    abi::kBuiltinPadV2,        abi::kBuiltinReshape,      abi::kBuiltinSplit,
      abi::kBuiltinSplitV, abi::kBuiltinStridedSlice, abi::kBuiltinTranspose,    abi::kBuiltinReverseV2,
      abi::kBuiltinAbs,    abi::kBuiltinSpaceToDepth, abi::kBuiltinDepthToSpace, abi::kBuiltinAveragePool2d,
      abi::kBuiltinDiv,    abi::kBuiltinMaxPool2d,    abi::kBuiltinConv2d,       abi::kBuiltinFullyConnected,
      abi::kBuiltinMean,   abi::kBuiltinLogistic,     abi::kBuiltinHardSwish,    abi::kBuiltinDepthwiseConv2d,
      abi::kBuiltinRelu,   abi::kBuiltinQuantize,     abi::kBuiltinDequantize};
  constexpr unsigned kBuiltins = sizeof(builtins) / sizeof(builtins[0]);
  abi::Node& node = graph->nodes[index];
  abi::Registration& registration = graph->registrations[index];
  const unsigned kind = bytes->below(6 + kBuiltins);
  int usual = kind < 2 ? 5 : 1;
  if (kind < 6) {
    registration.builtin_code = abi::kBuiltinCustom;
    registration.custom_name = names[kind];
    node.custom_initial_data = graph->options[index];
    node.custom_initial_data_size = static_cast<int>(make_options(kind == 4, bytes, graph->options[index]));
  } else {
    registration.builtin_code = builtins[kind - 6];
    node.builtin_data = bytes->below(16) == 0 ? nullptr : graph->options[index];
    usual = make_builtin_options(registration.builtin_code, bytes, graph->options[index]);
  }
  const unsigned shape = bytes->next();
  graph->inputs[index].size = shape < 240 ? usual : static_cast<int>(shape % (kMostListed + 1));
  for (int i = 0; i < graph->inputs[index].size; ++i) {
    graph->inputs[index].data[i] = static_cast<int>(bytes->below(kTensors + 2)) - 1;
  }
  const bool is_split =
      registration.builtin_code == abi::kBuiltinSplit || registration.builtin_code == abi::kBuiltinSplitV;
  graph->outputs[index].size = shape % 16 == 0 || is_split ? static_cast<int>(bytes->below(4)) : 1;
  for (int i = 0; i < graph->outputs[index].size; ++i) {
    graph->outputs[index].data[i] = static_cast<int>(bytes->below(kTensors));
  }
  node.inputs = graph->inputs[index].get();
  node.outputs = graph->outputs[index].get();
}

void set_tensor(Graph* graph, int index, abi::Type type, bool is_constant, int rank, const int (&dims)[4]) {
  abi::Tensor& tensor = graph->tensors[index];
  tensor.type = type;
  tensor.params = {0.5f, 1};
  tensor.allocation_type = is_constant ? abi::kMmapRo : static_cast<abi::AllocationType>(2);
  graph->dims[index].size = rank;
  for (int i = 0; i < rank; ++i) graph->dims[index].data[i] = dims[i];
  tensor.dims = graph->dims[index].get();
  give_memory(&tensor);
}

void set_node(Graph* graph, int index, const char* custom, int32_t builtin, const List& inputs, int output) {
  graph->registrations[index].builtin_code = builtin;
  graph->registrations[index].custom_name = custom;
  graph->inputs[index] = inputs;
  graph->outputs[index] = {1, {output}};
  graph->nodes[index].inputs = graph->inputs[index].get();
  graph->nodes[index].outputs = graph->outputs[index].get();
}

// x ─ LceQuantize ─ LceBconv2d ─ ADD ─ PRELU, as a compiler would write it.
void make_network(Bytes* bytes, Graph* graph) {
  const int size = static_cast<int>(1 + bytes->below(6));
  const int groups = static_cast<int>(1 + bytes->below(3));
  const int channels = groups == 1 ? static_cast<int>(1 + bytes->below(70)) : 32 * groups;
  const int filters = groups * static_cast<int>(1 + bytes->below(40));
  const int kernel = static_cast<int>(1 + bytes->below(4));
  const int stride = static_cast<int>(1 + bytes->below(3));
  const abi::Type types[] = {abi::kFloat32, abi::kInt32, abi::kInt8, abi::kFloat32};
  const abi::Type type = types[bytes->below(4)];
  const int words = (channels + 31) / 32;
  set_tensor(graph, 0, abi::kFloat32, false, 4, {1, size, size, channels});
  set_tensor(graph, 1, abi::kInt32, false, 4, {1, size, size, words});
  set_tensor(graph, 2, abi::kInt32, true, 4, {filters, kernel, kernel, groups == 1 ? words : 1});
  set_tensor(graph, 3, abi::kFloat32, true, 1, {filters});
  set_tensor(graph, 4, abi::kFloat32, true, 1, {filters});
  set_tensor(graph, 5, abi::kInt32, true, 1, {filters});
  const int output = (size + stride - 1) / stride;
  set_tensor(graph, 6, type, false, 4, {1, output, output, type == abi::kInt32 ? (filters + 31) / 32 : filters});
  set_tensor(graph, 7, abi::kFloat32, true, 1, {filters});
  set_tensor(graph, 8, abi::kFloat32, false, 4, {1, output, output, filters});
  set_tensor(graph, 9, abi::kFloat32, false, 4, {1, output, output, filters});
  set_node(graph, 0, "LceQuantize", abi::kBuiltinCustom, {1, {0}}, 1);
  set_node(graph, 1, "LceBconv2d", abi::kBuiltinCustom, {5, {1, 2, 3, 4, 5}}, 6);
  set_node(graph, 2, nullptr, abi::kBuiltinAdd, {2, {6, 7}}, 8);
  set_node(graph, 3, nullptr, abi::kBuiltinPrelu, {2, {8, 7}}, 9);
  const int values[] = {channels, 1,     1, 0, static_cast<int>(bytes->below(2)), static_cast<int>(bytes->below(2)),
                        stride,   stride};
  graph->nodes[1].custom_initial_data = graph->options[1];
  graph->nodes[1].custom_initial_data_size = static_cast<int>(encode(kConvKeys, values, 8, graph->options[1]));
  graph->nodes[2].builtin_data = graph->options[2];
  graph->plan.size = static_cast<int>(1 + bytes->below(kMostNodes));
}

// x ─ CONV_2D ─ MAX_POOL_2D ─ LceQuantize, as a compiler would write it.
void make_stem(Bytes* bytes, Graph* graph) {
  const int size = static_cast<int>(1 + bytes->below(30));
  const int channels = static_cast<int>(1 + bytes->below(8));
  const int filters = static_cast<int>(1 + bytes->below(70));
  const int kernel = static_cast<int>(1 + bytes->below(7));
  const int stride = static_cast<int>(1 + bytes->below(3));
  const int dilation = static_cast<int>(1 + bytes->below(2));
  set_tensor(graph, 0, abi::kFloat32, false, 4, {1, size, size, channels});
  set_tensor(graph, 1, abi::kFloat32, true, 4, {filters, kernel, kernel, channels});
  set_tensor(graph, 2, abi::kFloat32, true, 1, {filters});
  const int output = (size + stride - 1) / stride;
  set_tensor(graph, 3, abi::kFloat32, false, 4, {1, output, output, filters});
  const int pooled = (output + 1) / 2;
  set_tensor(graph, 4, abi::kFloat32, false, 4, {1, pooled, pooled, filters});
  set_tensor(graph, 5, abi::kInt32, false, 4, {1, pooled, pooled, (filters + 31) / 32});
  for (int i = 6; i < kTensors; ++i) set_tensor(graph, i, abi::kFloat32, false, 1, {1});
  set_node(graph, 0, nullptr, abi::kBuiltinConv2d, {3, {0, 1, 2}}, 3);
  set_node(graph, 1, nullptr, abi::kBuiltinMaxPool2d, {1, {3}}, 4);
  set_node(graph, 2, "LceQuantize", abi::kBuiltinCustom, {1, {4}}, 5);
  *reinterpret_cast<abi::ConvParams*>(graph->options[0]) = {abi::kPaddingSame, stride,   stride,
                                                            abi::kActRelu,     dilation, dilation};
  *reinterpret_cast<abi::PoolParams*>(graph->options[1]) = {abi::kPaddingSame, 2, 2, 3, 3, abi::kActNone};
  graph->nodes[0].builtin_data = graph->options[0];
  graph->nodes[1].builtin_data = graph->options[1];
  graph->plan.size = 3;
}

// x ─ CONV_2D ─ AVERAGE_POOL_2D ─ ADD ─ LceQuantize, or FULLY_CONNECTED in front, of int8.
void make_integers(Bytes* bytes, Graph* graph) {
  const int size = static_cast<int>(1 + bytes->below(20));
  const int channels = static_cast<int>(1 + bytes->below(40));
  const int filters = static_cast<int>(1 + bytes->below(70));
  const int kernel = static_cast<int>(1 + bytes->below(5));
  const int stride = static_cast<int>(1 + bytes->below(3));
  const int output = (size + stride - 1) / stride;
  const bool is_matrix = bytes->below(4) == 0;
  const int pooled = is_matrix ? size : (output + 1) / 2;
  const int area = is_matrix ? size : output;
  set_tensor(graph, 0, abi::kInt8, false, 4, {1, size, size, channels});
  if (is_matrix) {
    set_tensor(graph, 1, abi::kInt8, true, 2, {filters, channels, 0, 0});
  } else {
    set_tensor(graph, 1, abi::kInt8, true, 4, {filters, kernel, kernel, channels});
  }
  set_scales(graph, 1, filters <= kMostListed ? filters : 1, 0);
  set_tensor(graph, 2, abi::kInt32, true, 1, {filters});
  set_tensor(graph, 3, abi::kInt8, false, 4, {1, area, area, filters});
  set_tensor(graph, 4, abi::kInt8, false, 4, {1, pooled, pooled, filters});
  set_tensor(graph, 5, abi::kInt8, bytes->below(2) == 0, 4, {1, 1, bytes->below(2) == 0 ? 1 : pooled, filters});
  set_tensor(graph, 6, abi::kInt8, false, 4, {1, pooled, pooled, filters});
  set_tensor(graph, 7, abi::kInt32, false, 4, {1, pooled, pooled, (filters + 31) / 32});
  for (int i = 8; i < kTensors; ++i) set_tensor(graph, i, abi::kFloat32, false, 1, {1});
  set_node(graph, 0, nullptr, is_matrix ? abi::kBuiltinFullyConnected : abi::kBuiltinConv2d, {3, {0, 1, 2}}, 3);
  set_node(graph, 1, nullptr, is_matrix ? abi::kBuiltinRelu : abi::kBuiltinAveragePool2d, {1, {3}}, 4);
  set_node(graph, 2, nullptr, bytes->below(2) == 0 ? abi::kBuiltinAdd : abi::kBuiltinMul, {2, {4, 5}}, 6);
  set_node(graph, 3, "LceQuantize", abi::kBuiltinCustom, {1, {6}}, 7);
  if (is_matrix) {
    *reinterpret_cast<abi::FullyConnectedParams*>(graph->options[0]) = {abi::kActRelu, 0, true};
  } else {
    *reinterpret_cast<abi::ConvParams*>(graph->options[0]) = {abi::kPaddingSame, stride, stride, abi::kActRelu, 1, 1};
  }
  *reinterpret_cast<abi::PoolParams*>(graph->options[1]) = {abi::kPaddingSame, 2, 2, 3, 3, abi::kActNone};
  for (int i = 0; i < 3; ++i) graph->nodes[i].builtin_data = graph->options[i];
  graph->plan.size = kMostNodes;
}

void make_graph(Bytes* bytes, Graph* graph) {
  const unsigned faults = bytes->next();
  if (faults < 128) {
    switch (faults % 16 / 4) {
      case 0: make_network(bytes, graph); break;
      case 1: make_stem(bytes, graph); break;
      default: make_integers(bytes, graph); break;
    }
    for (unsigned i = 0; i < faults % 4; ++i) {
      const unsigned kind = bytes->below(3);
      const int tensor = static_cast<int>(bytes->below(kTensors));
      const int node = static_cast<int>(bytes->below(kMostNodes));
      if (kind == 0) make_tensor(bytes, graph, tensor);
      if (kind == 1) make_node(bytes, graph, node);
      if (kind == 2 && graph->dims[tensor].size > 0) {
        graph->dims[tensor].data[bytes->below(static_cast<unsigned>(graph->dims[tensor].size))] = bytes->number();
        give_memory(&graph->tensors[tensor]);
      }
    }
  } else {
    for (int i = 0; i < kTensors; ++i) make_tensor(bytes, graph, i);
    graph->plan.size = static_cast<int>(1 + bytes->below(kMostNodes));
    for (int i = 0; i < graph->plan.size; ++i) make_node(bytes, graph, i);
  }
  for (int i = 0; i < graph->plan.size; ++i) graph->plan.data[i] = i;
}

}  // namespace
}  // namespace bnncc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bnncc;
  Bytes bytes(data, size);
  static Graph graph;
  graph = Graph();
  abi::Context& context = graph.context;
  context.tensors_size = kTensors;
  context.tensors = graph.tensors;
  context.impl_ = &graph;
  context.GetExecutionPlan = get_execution_plan;
  context.ResizeTensor = resize_tensor;
  context.ReportError = report_error;
  context.GetNodeAndRegistration = get_node;
  context.ReplaceNodeSubsetsWithDelegateKernels = replace_nodes;
  context.recommended_num_threads = 1;
  make_graph(&bytes, &graph);
  const char* const keys[] = {"fuse", "kernel"};
  const char* const values[] = {bytes.below(4) == 0 ? "0" : "1", bytes.below(2) == 0 ? "portable" : "auto"};
  abi::Delegate* const delegate = tflite_plugin_create_delegate(keys, values, 2, nullptr);
  delegate->Prepare(&context, delegate);
  tflite_plugin_destroy_delegate(delegate);
  for (abi::Tensor& tensor : graph.tensors) free(tensor.data);
  return 0;
}
