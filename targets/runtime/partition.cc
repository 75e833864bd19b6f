#include "partition.h"

#include "marks.h"

namespace bnncc {
namespace {

// A tile's scratch should stay in the second-level cache, beside the filters: 1 MB and more for each core on x86-64,
// 512 kB for four cores on a Cortex-A53.
#if defined(__x86_64__)
constexpr int64_t kTileBytes = 256 * 1024;
#else
constexpr int64_t kTileBytes = 128 * 1024;
#endif

// The fewest pixels that fill the blocks of the kernels (kernels/body.h).
constexpr int64_t kSmallestTile = 8;

const char* const kOutOfMemory = "out of memory";

int64_t bytes_of(const Value& value) { return checked_product(value.pixels, value.row_bytes); }

// What the interpreter frees with free().
abi::IntArray* to_int_array(const Shape& shape) {
  auto* const array = static_cast<abi::IntArray*>(malloc(sizeof(int) * (static_cast<size_t>(shape.rank) + 1)));
  if (array == nullptr) return nullptr;
  array->size = shape.rank;
  for (int i = 0; i < shape.rank; ++i) array->data[i] = shape.dims[i];
  return array;
}

bool has_shape(const abi::Tensor& tensor, const Shape& shape) {
  if (tensor.dims == nullptr || tensor.dims->size != shape.rank) return false;
  for (int i = 0; i < shape.rank; ++i) {
    if (tensor.dims->data[i] != shape.dims[i]) return false;
  }
  return true;
}

bool is_constant(const abi::Tensor& tensor) {
  return tensor.allocation_type == abi::kMmapRo || tensor.allocation_type == abi::kPersistentRo;
}

}  // namespace

Partition::~Partition() {
  for (Operator* op : operators_) destroy(op);
}

Partition* Partition::create_from(abi::Context* context, const abi::DelegateParams& parameters, Settings* settings) {
  Partition* const partition = create<Partition>();
  if (partition == nullptr) return nullptr;
  partition->settings_ = settings;
  if (partition->read_nodes(context, parameters)) return partition;
  destroy(partition);
  return nullptr;
}

bool Partition::read_nodes(abi::Context* context, const abi::DelegateParams& parameters) {
  const abi::IntArray& nodes = *parameters.nodes_to_replace;
  const int64_t most_values = int64_t{nodes.size} * (kMaxInputs + 1);
  if (!operators_.allocate(nodes.size) || !groups_.allocate(nodes.size) || !values_.allocate(most_values) ||
      !blocks_.allocate(2 * int64_t{nodes.size}) ||
      !value_of_tensor_.allocate(static_cast<int64_t>(context->tensors_size))) {
    return false;
  }
  for (int i = 0; i < nodes.size; ++i) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, nodes.data[i], &node, &registration) != abi::kOk) return false;
    Operator* const op = create_operator(*registration);
    if (op == nullptr) return false;
    operators_[i] = op;
    op->node = nodes.data[i];
    const char* const problem = read_node(*node, i);
    if (problem != nullptr && problem_ == nullptr) {
      problem_ = problem;
      problem_operator_ = op;
    }
  }
  for (int i = 0; i < parameters.output_tensors->size; ++i) {
    const int tensor = parameters.output_tensors->data[i];
    if (tensor < 0 || tensor >= value_of_tensor_.size() || value_of_tensor_[tensor] == 0) continue;
    values_[value_of_tensor_[tensor] - 1].leaves = true;
  }
  return true;
}

// Null, or what is wrong with the node.
const char* Partition::read_node(const abi::Node& node, int index) {
  Operator& op = *operators_[index];
  if (node.outputs->size != 1) return "it has not exactly one output";
  if (node.inputs->size > kMaxInputs) return "it has too many inputs";
  op.input_count = node.inputs->size;
  for (int i = 0; i < op.input_count; ++i) {
    op.inputs[i] = value_of(node.inputs->data[i]);
    if (op.inputs[i] >= 0) values_[op.inputs[i]].last_reader = index;
  }
  op.output = value_of(node.outputs->data[0]);
  if (op.output < 0) return "its output is no tensor of the graph";
  // Shapes flow forward: what an operator reads must not change later.
  Value& y = values_[op.output];
  if (y.writer >= 0 || y.last_reader >= 0) return "its output is written twice, or read before it is written";
  y.writer = index;
  return op.parse(node);
}

// The value of a tensor, or -1 where there is no such tensor.
int Partition::value_of(int tensor) {
  if (tensor < 0 || tensor >= value_of_tensor_.size()) return -1;
  int& entry = value_of_tensor_[tensor];
  if (entry == 0) {
    new (InPlace{}, &values_[value_count_]) Value();
    values_[value_count_].tensor = tensor;
    entry = ++value_count_;
  }
  return entry - 1;
}

abi::Status Partition::prepare(abi::Context* context) {
  if (problem_ != nullptr) {
    context->ReportError(context, "bnncc: node %d, %s: %s", problem_operator_->node, problem_operator_->name(),
                         problem_);
    return abi::kError;
  }
  const int wanted = settings_->threads > 0 ? settings_->threads : context->recommended_num_threads;
  threads_ = max(1, min(wanted, ThreadPool::kMostThreads));
  settings_->pool.resize(threads_);
  if (!read_tensors(context) || !prepare_operators(context)) return abi::kError;
  form_groups();
  find_homes();
  if (!plan_arena() || !plan_scratch()) {
    context->ReportError(context, "bnncc: %s", kOutOfMemory);
    return abi::kError;
  }
  return write_shapes(context) ? abi::kOk : abi::kError;
}

bool Partition::read_tensors(abi::Context* context) {
  for (int i = 0; i < value_count_; ++i) {
    Value& value = values_[i];
    const char* const problem = read_tensor(context->tensors[value.tensor], &value);
    if (problem == nullptr) continue;
    context->ReportError(context, "bnncc: tensor %d %s", value.tensor, problem);
    return false;
  }
  return true;
}

// Null, or what is wrong with the tensor.
const char* Partition::read_tensor(const abi::Tensor& tensor, Value* value) const {
  value->type = tensor.type;
  value->quantization = tensor.params;
  value->constant = nullptr;
  value->shape = Shape();
  if (tensor.dims == nullptr || tensor.dims->size < 0 || tensor.dims->size > kMaxRank)
    return "has no shape or too many axes";
  value->shape.rank = tensor.dims->size;
  for (int i = 0; i < tensor.dims->size; ++i) value->shape.dims[i] = tensor.dims->data[i];
  // The operator that writes it gives it its shape; only the number of channels may be read before.
  if (value->writer >= 0) return is_constant(tensor) ? "is written although it is a constant" : nullptr;
  for (int i = 0; i < value->shape.rank; ++i) {
    if (value->shape.dims[i] < 1) return "has an axis without elements";
  }
  const bool is_wide = value->type == abi::kFloat32 || value->type == abi::kInt32;
  value->row_bytes = checked_product(value->shape.channels(), is_wide ? 4 : 1);
  value->pixels = value->shape.elements() / value->shape.channels();
  if (value->shape.elements() < 0 || bytes_of(*value) < 0) return "is too large";
  if (!is_constant(tensor)) return nullptr;
  if (tensor.data == nullptr || tensor.bytes < static_cast<size_t>(bytes_of(*value))) return "has too little data";
  if (is_wide && reinterpret_cast<uintptr_t>(tensor.data) % 4 != 0) return "has data that is not aligned";
  value->constant = tensor.data;
  return nullptr;
}

bool Partition::prepare_operators(abi::Context* context) {
  Preparation preparation(context, values_.data(), settings_->kernels);
  for (Operator* op : operators_) {
    preparation.enter(op->node, op->name());
    for (int i = 0; i < op->input_count; ++i) {
      if (op->inputs[i] < 0 && !op->may_be_absent(i)) return preparation.fail("its input %d is absent", i);
    }
    if (!op->prepare(preparation)) return false;
  }
  return true;
}

// Operators go into one group as long as their outputs have the same number of pixels and no operator needs other
// pixels of the group's results than its own.
void Partition::form_groups() {
  group_count_ = 0;
  for (int i = 0; i < operators_.size(); ++i) {
    if (group_count_ == 0 || !settings_->fuses || starts_group(i, groups_[group_count_ - 1].first)) {
      groups_[group_count_++] = {i, i, values_[operators_[i]->output].pixels, 0, 0};
    }
    groups_[group_count_ - 1].last = i;
    operators_[i]->group = group_count_ - 1;
  }
}

bool Partition::starts_group(int index, int first) const {
  const Operator& op = *operators_[index];
  if (values_[op.output].pixels != values_[operators_[first]->output].pixels) return true;
  if (op.is_pointwise()) return false;
  for (int i = 0; i < op.input_count; ++i) {
    if (op.inputs[i] >= 0 && values_[op.inputs[i]].writer >= first) return true;
  }
  return false;
}

void Partition::find_homes() {
  for (int i = 0; i < value_count_; ++i) {
    Value& value = values_[i];
    value.base = static_cast<char*>(const_cast<void*>(value.constant));
    if (value.writer < 0 || value.leaves) {
      value.home = Value::Home::kTensor;
    } else if (value.last_reader < 0 || operators_[value.last_reader]->group == operators_[value.writer]->group) {
      value.home = Value::Home::kTile;
    } else {
      value.home = Value::Home::kArena;
    }
  }
}

// The arena holds, as long as they are needed, what later groups read.
bool Partition::plan_arena() {
  int count = 0;
  for (int i = 0; i < value_count_; ++i) {
    const Value& value = values_[i];
    if (value.home != Value::Home::kArena) continue;
    blocks_[count++] = {operators_[value.writer]->group, operators_[value.last_reader]->group, bytes_of(value), 0};
  }
  const int64_t bytes = plan(blocks_.data(), count);
  if (bytes < 0 || !arena_.allocate(bytes)) return false;
  count = 0;
  for (int i = 0; i < value_count_; ++i) {
    Value& value = values_[i];
    if (value.home == Value::Home::kArena) value.base = arena_.data() + blocks_[count++].offset;
  }
  return true;
}

// A tile is as large as its scratch may be, but small enough that every thread gets as many.
bool Partition::plan_scratch() {
  scratch_bytes_ = 0;
  for (int i = 0; i < group_count_; ++i) {
    Group& group = groups_[i];
    if (!plan_tile(&group, 1)) return false;
    const int64_t fitting = max(kTileBytes / max<int64_t>(group.scratch, 1), kSmallestTile);
    const int64_t tiles = round_up(ceil_div(group.pixels, fitting), threads_);
    if (!plan_tile(&group, max(ceil_div(group.pixels, tiles), min(kSmallestTile, group.pixels)))) return false;
    scratch_bytes_ = max(scratch_bytes_, round_up(group.scratch, kAlignment));
  }
  return scratch_.allocate(checked_product(scratch_bytes_, threads_));
}

// Places what lives within a tile of so many pixels: values, and scratch of operators.
bool Partition::plan_tile(Group* group, int64_t pixels) {
  int count = 0;
  for (int i = group->first; i <= group->last; ++i) {
    const Operator& op = *operators_[i];
    const Value& y = values_[op.output];
    blocks_[count++] = {i, i, op.scratch_bytes(pixels), 0};
    if (y.home == Value::Home::kTile) {
      blocks_[count++] = {i, max(i, y.last_reader), checked_product(y.row_bytes, pixels), 0};
    }
  }
  group->tile = pixels;
  group->scratch = plan(blocks_.data(), count);
  if (group->scratch < 0) return false;
  count = 0;
  for (int i = group->first; i <= group->last; ++i) {
    Operator& op = *operators_[i];
    Value& y = values_[op.output];
    op.scratch_offset = blocks_[count++].offset;
    if (y.home == Value::Home::kTile) y.offset = blocks_[count++].offset;
  }
  return true;
}

bool Partition::write_shapes(abi::Context* context) const {
  for (int i = 0; i < value_count_; ++i) {
    const Value& value = values_[i];
    if (value.writer < 0 || !value.leaves) continue;
    abi::Tensor* const tensor = &context->tensors[value.tensor];
    if (has_shape(*tensor, value.shape)) continue;
    abi::IntArray* const shape = to_int_array(value.shape);
    if (shape == nullptr || context->ResizeTensor(context, tensor, shape) != abi::kOk) {
      context->ReportError(context, "bnncc: tensor %d cannot be resized", value.tensor);
      return false;
    }
  }
  return true;
}

// The interpreter may move tensors between two runs.
bool Partition::find_data(abi::Context* context) {
  for (int i = 0; i < value_count_; ++i) {
    Value& value = values_[i];
    if (value.home != Value::Home::kTensor || value.constant != nullptr) continue;
    const bool is_used = value.writer >= 0 || value.last_reader >= 0;
    if (!is_used) continue;
    const abi::Tensor& tensor = context->tensors[value.tensor];
    if (tensor.data == nullptr || tensor.bytes < static_cast<size_t>(bytes_of(value))) {
      context->ReportError(context, "bnncc: tensor %d has no memory, or less than when it was prepared", value.tensor);
      return false;
    }
    value.base = static_cast<char*>(tensor.data);
  }
  return true;
}

namespace {

struct Job {
  const void* partition;
  int group;
};

}  // namespace

abi::Status Partition::invoke(abi::Context* context) {
  if (!find_data(context)) return abi::kError;
  for (int i = 0; i < group_count_; ++i) {
    const Job job = {this, i};
    settings_->pool.run(run_tile, &job, ceil_div(groups_[i].pixels, groups_[i].tile), threads_);
  }
  return abi::kOk;
}

void Partition::run_tile(const void* argument, int64_t index, int thread) {
  const Job& job = *static_cast<const Job*>(argument);
  const Partition& partition = *static_cast<const Partition*>(job.partition);
  const Group& group = partition.groups_[job.group];
  Tile tile;
  tile.begin = index * group.tile;
  tile.end = min(tile.begin + group.tile, group.pixels);
  tile.values = partition.values_.data();
  tile.scratch = partition.scratch_.data() + thread * partition.scratch_bytes_;
  for (int i = group.first; i <= group.last; ++i) {
    mark(partition.operators_[i]->node);
    partition.operators_[i]->run(tile);
  }
  mark(kBetweenOperators);
}

}  // namespace bnncc
