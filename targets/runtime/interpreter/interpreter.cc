#include "interpreter.h"

#include "../delegate.h"
#include "../marks.h"
#include "../planner.h"
#include "float_mode.h"

namespace bnncc {
namespace {

const char* const kOutOfMemory = "out of memory";

bool is_constant(const abi::Tensor& tensor) { return tensor.allocation_type != abi::kArenaRw; }

}  // namespace

Interpreter::~Interpreter() {
  for (int i = 0; i < step_count_; ++i) {
    Step& step = steps_[i];
    if (step.registration.free != nullptr) step.registration.free(&context_, step.node.user_data);
    destroy(step.builtin);
  }
  for (void* constant : constants_) free(constant);
  for (int i = 0; i < list_count_; ++i) free(lists_[i]);
  tflite_plugin_destroy_delegate(delegate_);
}

Interpreter* Interpreter::create_from(const void* file, size_t size, int threads, char* error, size_t error_size,
                                      int64_t most_bytes) {
  if (error_size > 0) error[0] = '\0';
  auto* const interpreter = create<Interpreter>();
  if (interpreter == nullptr) return nullptr;
  interpreter->error_ = error;
  interpreter->error_size_ = error_size;
  interpreter->most_bytes_ = most_bytes;
  if (interpreter->make(file, size, threads)) return interpreter;
  destroy(interpreter);
  return nullptr;
}

bool Interpreter::make(const void* file, size_t size, int threads) {
  const char* const problem = model_.parse(file, size);
  if (problem != nullptr) return fail("%s", problem);
  threads = max(1, min(threads, ThreadPool::kMostThreads));
  delegate_ = tflite_plugin_create_delegate(nullptr, nullptr, 0, nullptr);
  if (delegate_ == nullptr) return fail("%s", kOutOfMemory);
  ThreadPool* const pool = pool_of(delegate_);
  pool->resize(threads);
  team_ = Team(pool, threads);
  context_.recommended_num_threads = threads;
  return make_tensors() && make_nodes() && check_order() && delegate_nodes() && prepare_steps() && plan_memory();
}

bool Interpreter::make_tensors() {
  const Array<FileTensor>& entries = model_.tensors();
  if (!tensors_.allocate(entries.size()) || !shapes_.allocate(checked_product(entries.size(), kMaxRank + 1)) ||
      !constants_.allocate(entries.size())) {
    return fail("%s", kOutOfMemory);
  }
  for (int64_t i = 0; i < entries.size(); ++i) {
    const FileTensor& entry = entries[i];
    abi::Tensor& tensor = tensors_[i];
    tensor.type = entry.type;
    tensor.dims = reinterpret_cast<abi::IntArray*>(&shapes_[i * (kMaxRank + 1)]);
    tensor.dims->size = entry.shape.rank;
    for (int k = 0; k < entry.shape.rank; ++k) tensor.dims->data[k] = entry.shape.dims[k];
    tensor.name = entry.name;
    tensor.data = const_cast<void*>(entry.data);
    tensor.allocation_type = entry.data == nullptr ? abi::kArenaRw : abi::kMmapRo;
    tensor.bytes = static_cast<size_t>(entry.bytes);
    if (entry.bytes > most_bytes_) return fail("tensor %d, %s, is too large", static_cast<int>(i), entry.name);
    if (entry.scales.count == 1) {
      tensor.params.scale = entry.scales.at<float>(0);
      if (entry.zero_points.count == 1) tensor.params.zero_point = static_cast<int>(entry.zero_points.at<int64_t>(0));
    }
  }
  if (!make_scales()) return fail("%s", kOutOfMemory);
  context_.tensors_size = static_cast<size_t>(tensors_.size());
  context_.tensors = tensors_.data();
  return true;
}

// What the file says of scales as the delegate reads it.  False where there is no memory.
bool Interpreter::make_scales() {
  const auto words = [](const FlatbufferVector& vector) { return static_cast<int64_t>(vector.count) + 1; };
  int64_t size = 0;
  for (const FileTensor& entry : model_.tensors()) size += words(entry.scales) + words(entry.zero_points);
  if (!affine_.allocate(tensors_.size()) || !scale_words_.allocate(size)) return false;
  int32_t* next = scale_words_.data();
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    const FileTensor& entry = model_.tensors()[i];
    if (entry.scales.count == 0) continue;
    abi::AffineQuantization& affine = affine_[i];
    affine.scale = reinterpret_cast<abi::FloatArray*>(next);
    affine.scale->size = static_cast<int>(entry.scales.count);
    for (int k = 0; k < affine.scale->size; ++k) {
      affine.scale->data[k] = entry.scales.at<float>(static_cast<uint64_t>(k));
    }
    next += words(entry.scales);
    affine.zero_point = reinterpret_cast<abi::IntArray*>(next);
    affine.zero_point->size = static_cast<int>(entry.zero_points.count);
    for (int k = 0; k < affine.zero_point->size; ++k) {
      affine.zero_point->data[k] = static_cast<int>(entry.zero_points.at<int64_t>(static_cast<uint64_t>(k)));
    }
    next += words(entry.zero_points);
    affine.quantized_dimension = entry.axis;
    tensors_[i].quantization = {abi::kAffineQuantization, &affine};
  }
  return true;
}

// A list of so many numbers; null where there is no memory.
abi::IntArray* Interpreter::make_list(int64_t size) {
  auto* const list = static_cast<abi::IntArray*>(malloc(sizeof(int) * (static_cast<size_t>(size) + 1)));
  if (list == nullptr) return nullptr;
  list->size = static_cast<int>(size);
  lists_[list_count_++] = list;
  return list;
}

abi::IntArray* Interpreter::make_list(const TensorList& tensors) {
  abi::IntArray* const list = make_list(tensors.size());
  for (int i = 0; list != nullptr && i < tensors.size(); ++i) list->data[i] = tensors[i];
  return list;
}

bool Interpreter::make_nodes() {
  const Array<FileOperator>& entries = model_.operators();
  // Inputs and outputs of every operator and partition, the plan, and what a partition replaces.
  const int64_t most_lists = 5 * entries.size() + 1;
  if (!nodes_.allocate(entries.size()) || !registrations_.allocate(entries.size()) ||
      !options_.allocate(entries.size()) || !lists_.allocate(most_lists) || !steps_.allocate(entries.size())) {
    return fail("%s", kOutOfMemory);
  }
  plan_ = make_list(entries.size());
  if (plan_ == nullptr) return fail("%s", kOutOfMemory);
  for (int64_t i = 0; i < entries.size(); ++i) {
    const FileOperator& entry = entries[i];
    abi::Node& node = nodes_[i];
    plan_->data[i] = static_cast<int>(i);
    node.inputs = make_list(entry.inputs);
    node.outputs = make_list(entry.outputs);
    if (node.inputs == nullptr || node.outputs == nullptr) return fail("%s", kOutOfMemory);
    node.custom_initial_data = entry.custom_options;
    node.custom_initial_data_size = entry.custom_options_size;
    registrations_[i].builtin_code = entry.code;
    registrations_[i].custom_name = entry.custom_name;
    read_options(entry, &options_[i]);
    node.builtin_data = &options_[i];
  }
  return !model_.file().is_damaged() || fail("the file is damaged");
}

void Interpreter::read_options(const FileOperator& op, Options* options) {
  const FlatbufferTable& table = op.options;
  const auto activation = [&](int field) { return static_cast<abi::FusedActivation>(table.number<int8_t>(field, 0)); };
  // The first field; the schema counts from 0, the interpreter from 1.
  const auto padding = [&] { return static_cast<abi::Padding>(table.number<int8_t>(0, 0) + 1); };
  switch (op.code) {
    case code::kAdd:
    case code::kSub:
    case code::kMul:
    case code::kDiv: options->arithmetic = {activation(0)}; break;
    case code::kFullyConnected:
      options->fully_connected = {activation(0), table.number<int8_t>(1, 0), table.number<uint8_t>(2, 0) != 0};
      break;
    case code::kMean: options->reducer = {table.number<uint8_t>(0, 0) != 0}; break;
    case code::kLeakyRelu: options->leaky_relu = {table.number<float>(0, 0)}; break;
    case code::kSpaceToDepth:
    case code::kDepthToSpace: options->block = {table.number<int32_t>(0, 0)}; break;
    case code::kStridedSlice: options->slice = read_slice(table); break;
    case code::kConcatenation: options->concatenation = {table.number<int32_t>(0, 0), activation(1)}; break;
    case code::kConv2d:
      options->convolution = {padding(),     table.number<int32_t>(1, 0), table.number<int32_t>(2, 0),
                              activation(3), table.number<int32_t>(4, 1), table.number<int32_t>(5, 1)};
      break;
    case code::kDepthwiseConv2d:
      options->depthwise_convolution = {padding(),     table.number<int32_t>(1, 0), table.number<int32_t>(2, 0),
                                        table.number<int32_t>(3, 0), activation(4), table.number<int32_t>(5, 1),
                                        table.number<int32_t>(6, 1)};
      break;
    case code::kAveragePool2d:
    case code::kMaxPool2d:
      options->pool = {padding(),                     table.number<int32_t>(1, 0),
                       table.number<int32_t>(2, 0), table.number<int32_t>(3, 0), table.number<int32_t>(4, 0),
                       activation(5)};
      break;
    default: break;
  }
}

// Every tensor has one origin, and none is read before it is there.
bool Interpreter::check_order() {
  Array<uint8_t> is_there;
  if (!is_there.allocate(tensors_.size())) return fail("%s", kOutOfMemory);
  for (int64_t i = 0; i < tensors_.size(); ++i) is_there[i] = is_constant(tensors_[i]);
  for (int i = 0; i < inputs(); ++i) {
    const int tensor = model_.inputs()[i];
    if (is_there[tensor]) return fail("tensor %d is an input twice, or a constant as well", tensor);
    is_there[tensor] = 1;
  }
  for (int64_t i = 0; i < nodes_.size(); ++i) {
    const FileOperator& op = model_.operators()[i];
    for (int k = 0; k < op.inputs.size(); ++k) {
      if (op.inputs[k] < 0 || is_there[op.inputs[k]]) continue;
      return fail("operator %d reads tensor %d before it is written", static_cast<int>(i), op.inputs[k]);
    }
    for (int k = 0; k < op.outputs.size(); ++k) {
      if (is_there[op.outputs[k]]) return fail("tensor %d is written twice", op.outputs[k]);
      is_there[op.outputs[k]] = 1;
    }
  }
  for (int i = 0; i < outputs(); ++i) {
    if (!is_there[model_.outputs()[i]]) return fail("output %d is never written", i);
  }
  return true;
}

bool Interpreter::delegate_nodes() {
  context_.impl_ = this;
  context_.GetExecutionPlan = get_execution_plan;
  context_.GetNodeAndRegistration = get_node;
  context_.ReplaceNodeSubsetsWithDelegateKernels = replace_nodes;
  context_.ResizeTensor = resize_tensor;
  context_.ReportError = report_error;
  if (delegate_->Prepare(&context_, delegate_) != abi::kOk) return false;
  if (step_count_ > 0 || nodes_.size() == 0) return true;
  // The delegate took nothing.
  for (int64_t i = 0; i < nodes_.size(); ++i)
    (new (InPlace{}, &steps_[step_count_++]) Step())->op = static_cast<int>(i);
  return true;
}

// Partitions are as large as they can be: the operators go into epochs, in turns all of the delegate's that can run,
// and all others.
bool Interpreter::replace(abi::Registration registration, const abi::IntArray& nodes, abi::Delegate* delegate) {
  Array<int> epochs;  // of the nodes, from 1; 0: none yet
  Array<uint8_t> is_delegated;
  Array<uint8_t> is_missing;  // by tensor: it will be written in a later epoch
  if (!epochs.allocate(nodes_.size()) || !is_delegated.allocate(nodes_.size()) ||
      !is_missing.allocate(tensors_.size())) {
    return fail("%s", kOutOfMemory);
  }
  for (int i = 0; i < nodes.size; ++i) is_delegated[nodes.data[i]] = 1;
  for (const abi::Node& node : nodes_) {
    for (int k = 0; k < node.outputs->size; ++k) is_missing[node.outputs->data[k]] = 1;
  }
  int64_t left = nodes_.size();
  for (int epoch = 1; left > 0; ++epoch) {
    const uint8_t takes = epoch % 2 == 0;
    bool is_empty = true;
    for (int64_t i = 0; i < nodes_.size(); ++i) {
      if (epochs[i] != 0 || is_delegated[i] != takes) continue;
      bool can_run = true;
      const abi::IntArray& needs = *nodes_[i].inputs;
      for (int k = 0; k < needs.size; ++k) can_run = can_run && (needs.data[k] < 0 || !is_missing[needs.data[k]]);
      if (!can_run) continue;
      epochs[i] = epoch;
      is_empty = false;
      --left;
      for (int k = 0; k < nodes_[i].outputs->size; ++k) is_missing[nodes_[i].outputs->data[k]] = 0;
      if (!takes) (new (InPlace{}, &steps_[step_count_++]) Step())->op = static_cast<int>(i);
    }
    if (takes && !is_empty && !make_partition(registration, delegate, epochs.data(), epoch)) return false;
  }
  return true;
}

bool Interpreter::make_partition(const abi::Registration& registration, abi::Delegate* delegate, const int* epochs,
                                 int epoch) {
  // By tensor: how it meets the partition.
  Array<uint8_t> roles;
  constexpr uint8_t kRead = 1, kWritten = 2, kReadOutside = 4;
  if (!roles.allocate(tensors_.size())) return fail("%s", kOutOfMemory);
  int64_t count = 0;
  for (int64_t i = 0; i < nodes_.size(); ++i) {
    const bool is_inside = epochs[i] == epoch;
    count += is_inside;
    for (int k = 0; k < nodes_[i].inputs->size; ++k) {
      const int tensor = nodes_[i].inputs->data[k];
      if (tensor >= 0) roles[tensor] |= is_inside ? kRead : kReadOutside;
    }
    for (int k = 0; is_inside && k < nodes_[i].outputs->size; ++k) roles[nodes_[i].outputs->data[k]] |= kWritten;
  }
  for (int i = 0; i < outputs(); ++i) roles[model_.outputs()[i]] |= kReadOutside;
  const auto comes_in = [](uint8_t role) { return (role & (kRead | kWritten)) == kRead; };
  const auto goes_out = [](uint8_t role) { return (role & kWritten) != 0 && (role & kReadOutside) != 0; };
  int64_t in = 0;
  int64_t out = 0;
  for (const uint8_t role : roles) {
    in += comes_in(role);
    out += goes_out(role);
  }
  Step& step = *new (InPlace{}, &steps_[step_count_]) Step();
  abi::IntArray* const replaced = make_list(count);
  step.node.inputs = make_list(in);
  step.node.outputs = make_list(out);
  if (replaced == nullptr || step.node.inputs == nullptr || step.node.outputs == nullptr) {
    return fail("%s", kOutOfMemory);
  }
  int at = 0;
  for (int64_t i = 0; i < nodes_.size(); ++i) {
    if (epochs[i] == epoch) replaced->data[at++] = static_cast<int>(i);
  }
  int in_at = 0;
  int out_at = 0;
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    if (comes_in(roles[i])) step.node.inputs->data[in_at++] = static_cast<int>(i);
    if (goes_out(roles[i])) step.node.outputs->data[out_at++] = static_cast<int>(i);
  }
  const abi::DelegateParams parameters = {delegate, replaced, step.node.inputs, step.node.outputs};
  step.registration = registration;
  step.node.delegate = delegate;
  ++step_count_;
  step.node.user_data = registration.init(&context_, reinterpret_cast<const char*>(&parameters), sizeof(parameters));
  return true;
}

bool Interpreter::prepare_steps() {
  for (int i = 0; i < step_count_; ++i) {
    Step& step = steps_[i];
    if (step.op >= 0 ? !prepare_builtin(&step) : step.registration.prepare(&context_, &step.node) != abi::kOk) {
      return false;
    }
  }
  return true;
}

bool Interpreter::prepare_builtin(Step* step) {
  const FileOperator& op = model_.operators()[step->op];
  if (op.code == code::kCustom) {
    return fail("operator %d, %s, is not known", step->op, op.custom_name == nullptr ? "CUSTOM" : op.custom_name);
  }
  step->entry = find_builtin(op.code);
  if (step->entry == nullptr) return fail("operator %d, of code %d, is not known", step->op, op.code);
  step->builtin = step->entry->create(op.code);
  if (step->builtin == nullptr) return fail("%s", kOutOfMemory);
  Setup setup(model_, tensors_.data(), op, most_bytes_, available_kernels()[0]);
  const bool is_prepared = step->builtin->prepare(setup, team_);
  if (model_.file().is_damaged()) return fail("the file is damaged");
  if (!is_prepared) return fail("operator %d, %s: %s", step->op, step->entry->name, setup.problem());
  return !are_constants(op.inputs) || run_once(step);
}

bool Interpreter::are_constants(const TensorList& tensors) const {
  for (int i = 0; i < tensors.size(); ++i) {
    if (tensors[i] >= 0 && !is_constant(tensors_[tensors[i]])) return false;
  }
  return true;
}

// The outputs become constants.
bool Interpreter::run_once(Step* step) {
  const FileOperator& op = model_.operators()[step->op];
  for (int i = 0; i < op.outputs.size(); ++i) {
    abi::Tensor& tensor = tensors_[op.outputs[i]];
    tensor.data = constants_[op.outputs[i]] = malloc(tensor.bytes);
    if (tensor.data == nullptr) return fail("%s", kOutOfMemory);
  }
  step->builtin->run(Call(tensors_.data(), op, team_));
  for (int i = 0; i < op.outputs.size(); ++i) tensors_[op.outputs[i]].allocation_type = abi::kPersistentRo;
  step->is_done = true;
  return true;
}

// Inputs live from the beginning to the end, so that a network can run twice on one input; outputs to the end.
bool Interpreter::plan_memory() {
  Array<Block> blocks;  // by tensor; a size of -1: none
  if (!blocks.allocate(tensors_.size())) return fail("%s", kOutOfMemory);
  const int end = step_count_;
  for (Block& block : blocks) block = {end, -1, -1, 0};
  const auto use = [&](int tensor, int from, int to) {
    if (tensor < 0 || is_constant(tensors_[tensor])) return;
    Block& block = blocks[tensor];
    block.first = min(block.first, from);
    block.last = max(block.last, to);
    block.size = static_cast<int64_t>(tensors_[tensor].bytes);
  };
  for (int i = 0; i < inputs(); ++i) use(model_.inputs()[i], 0, end);
  for (int i = 0; i < outputs(); ++i) use(model_.outputs()[i], end, end);
  for (int i = 0; i < step_count_; ++i) {
    const Step& step = steps_[i];
    const abi::Node& node = step.op >= 0 ? nodes_[step.op] : step.node;
    for (int k = 0; k < node.inputs->size; ++k) use(node.inputs->data[k], i, i);
    for (int k = 0; k < node.outputs->size; ++k) use(node.outputs->data[k], i, i);
  }
  Array<int> owners;
  if (!owners.allocate(tensors_.size())) return fail("%s", kOutOfMemory);
  int64_t count = 0;
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    if (blocks[i].size < 0) continue;
    owners[count] = static_cast<int>(i);
    blocks[count++] = blocks[i];
  }
  const int64_t bytes = plan(blocks.data(), count);
  if (bytes < 0 || bytes > most_bytes_) return fail("the network's maps are too large");
  if (!arena_.allocate(bytes)) return fail("%s", kOutOfMemory);
  for (int64_t i = 0; i < count; ++i) tensors_[owners[i]].data = arena_.data() + blocks[i].offset;
  return true;
}

bool Interpreter::invoke() {
  if (error_size_ > 0) error_[0] = '\0';
  const FlushDenormals mode;
  for (int i = 0; i < step_count_; ++i) {
    Step& step = steps_[i];
    if (step.is_done) continue;
    mark(step.op);
    if (step.op >= 0) {
      step.builtin->run(Call(tensors_.data(), model_.operators()[step.op], team_));
    } else if (step.registration.invoke(&context_, &step.node) != abi::kOk) {
      return false;
    }
  }
  mark(kInferenceEnds);
  return true;
}

void Interpreter::append(char* text, size_t size, const char* format, va_list arguments) {
  const size_t used = size == 0 ? 0 : strlen(text);
  if (used < size) vsnprintf(text + used, size - used, format, arguments);
}

bool Interpreter::fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  append(error_, error_size_, format, arguments);
  va_end(arguments);
  return false;
}

// What the delegate says in two calls becomes one text.
void Interpreter::report_error(abi::Context* context, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  append(of(context)->error_, of(context)->error_size_, format, arguments);
  va_end(arguments);
}

abi::Status Interpreter::get_execution_plan(abi::Context* context, abi::IntArray** plan) {
  *plan = of(context)->plan_;
  return abi::kOk;
}

abi::Status Interpreter::get_node(abi::Context* context, int index, abi::Node** node,
                                  abi::Registration** registration) {
  Interpreter& self = *of(context);
  if (index < 0 || index >= self.nodes_.size()) return abi::kError;
  *node = &self.nodes_[index];
  *registration = &self.registrations_[index];
  return abi::kOk;
}

abi::Status Interpreter::replace_nodes(abi::Context* context, abi::Registration registration,
                                       const abi::IntArray* nodes, abi::Delegate* delegate) {
  return of(context)->replace(registration, *nodes, delegate) ? abi::kOk : abi::kError;
}

abi::Status Interpreter::resize_tensor(abi::Context* context, abi::Tensor* tensor, abi::IntArray* shape) {
  int64_t bytes = element_size(tensor->type);
  bool fits = shape->size <= kMaxRank;
  for (int i = 0; fits && i < shape->size; ++i) {
    tensor->dims->data[i] = shape->data[i];
    bytes = checked_product(bytes, shape->data[i]);
  }
  fits = fits && bytes >= 0 && bytes <= of(context)->most_bytes_;
  if (fits) {
    tensor->dims->size = shape->size;
    tensor->bytes = static_cast<size_t>(bytes);
  }
  free(shape);
  return fits ? abi::kOk : abi::kError;
}

}  // namespace bnncc
