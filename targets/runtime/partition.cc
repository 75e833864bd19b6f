#include "partition.h"

#include "marks.h"

namespace bnncc {
namespace {

// Units of a group that each thread has at least: few of them do not divide evenly.
constexpr int64_t kFewestUnits = 7;

// A tile's scratch is to stay in the second-level cache, beside the filters.  On x86 a larger cache follows; on boards
// it is the last, or nearly so, and keeps the maps between groups as well: there an eighth, and 128 kB, lead to the
// least traffic with DRAM (counted by benchmarks/arm.py: Bi-Real-Net-18 and ReActNet-A on a Cortex-A72).
#if defined(__x86_64__)
constexpr int64_t kTileShare = 2;
#else
constexpr int64_t kTileShare = 8;
#endif
constexpr int64_t kLeastTileBytes = 128 * 1024;

// The tile of which two have so much more scratch than one as its pixels take.
constexpr int64_t kProbedTile = 64;

const char* const kOutOfMemory = "out of memory";

int64_t greatest_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_divisor(b, a % b); }

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

}  // namespace

Partition::~Partition() {
  for (int i = 0; i < operator_count_; ++i) destroy(operators_[i]);
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
  int64_t most_operators = 0;
  for (int i = 0; i < nodes.size; ++i) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, nodes.data[i], &node, &registration) != abi::kOk) return false;
    most_operators += max(node->outputs->size, 1);
  }
  if (!operators_.allocate(most_operators) || !groups_.allocate(most_operators) ||
      !values_.allocate(most_operators * (kMaxInputs + 1)) || !blocks_.allocate(2 * most_operators) ||
      !value_of_tensor_.allocate(static_cast<int64_t>(context->tensors_size))) {
    return false;
  }
  for (int i = 0; i < nodes.size; ++i) {
    if (!read_node(context, nodes.data[i])) return false;
  }
  for (int i = 0; i < parameters.output_tensors->size; ++i) {
    const int tensor = parameters.output_tensors->data[i];
    if (tensor < 0 || tensor >= value_of_tensor_.size() || value_of_tensor_[tensor] == 0) continue;
    values_[value_of_tensor_[tensor] - 1].leaves = true;
  }
  if (problem_ != nullptr) return true;
  if (settings_->fuses) take_paddings(context);
  order_operators();
  return true;
}

// Operators that can do with a map that was not padded read it, and what pads it for nobody else is gone.
void Partition::take_paddings(abi::Context* context) {
  for (int i = 0; i < operator_count_; ++i) {
    Operator& op = *operators_[i];
    if (op.input_count == 0 || op.inputs[0] < 0) continue;
    Value& padded = values_[op.inputs[0]];
    if (padded.writer < 0 || padded.reads != 1 || padded.leaves) continue;
    Operator& padding = *operators_[padded.writer];
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, padding.node, &node, &registration) != abi::kOk) return;
    Padding amounts;
    if (!padding.is_padding(*context, *node, &amounts) || !op.take_padding(amounts)) continue;
    op.inputs[0] = padding.inputs[0];
    padded.reads = 0;
    padded.last_reader = -1;
    remove_operator(padded.writer);
    --i;
  }
}

// Of one whose output nothing reads any more.
void Partition::remove_operator(int index) {
  Operator* const removed = operators_[index];
  for (int k = 1; k < removed->input_count; ++k) {
    if (removed->inputs[k] >= 0) --values_[removed->inputs[k]].reads;
  }
  removed->input_count = 0;
  move_operator(index, operator_count_ - 1);
  values_[removed->output].writer = -1;
  --operator_count_;
  destroy(removed);
}

// Puts what an operator of a chain might take from registers right in front of it: what would start or continue a
// chain, where nothing else reads it.
void Partition::order_operators() {
  for (int i = operator_count_ - 1; i > 0; --i) {
    Operator* const op = operators_[i];
    if (!op->is_chainable()) continue;
    int latest = -1;
    for (int k = 0; k < op->input_count; ++k) {
      if (op->inputs[k] < 0) continue;
      const Value& x = values_[op->inputs[k]];
      const bool is_own = x.writer >= 0 && x.reads == 1 && !x.leaves;
      if (is_own && operators_[x.writer]->is_chainable()) latest = max(latest, x.writer);
    }
    if (latest < 0) continue;
    move_operator(latest, i - 1);
  }
}

void Partition::move_operator(int from, int to) {
  Operator* const moved = operators_[from];
  for (; from < to; ++from) operators_[from] = operators_[from + 1];
  for (; from > to; --from) operators_[from] = operators_[from - 1];
  operators_[to] = moved;
  for (int i = 0; i < operator_count_; ++i) {
    const Operator& op = *operators_[i];
    values_[op.output].writer = i;
    for (int k = 0; k < op.input_count; ++k) {
      if (op.inputs[k] >= 0) values_[op.inputs[k]].last_reader = i;
    }
  }
}

// Makes the operator of a node, or one for each of its outputs; false where there is no memory.
bool Partition::read_node(abi::Context* context, int number) {
  abi::Node* node = nullptr;
  abi::Registration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, number, &node, &registration) != abi::kOk) return false;
  int parts = 1;
  for (int part = 0; part < parts; ++part) {
    Operator* const op = create_operator(*registration, first_type(*context, *node));
    if (op == nullptr) return false;
    if (op->is_one_of_several()) parts = node->outputs->size;
    op->node = number;
    op->part = part;
    operators_[operator_count_] = op;
    const char* const problem = connect(*node, operator_count_++);
    if (problem != nullptr && problem_ == nullptr) {
      problem_ = problem;
      problem_operator_ = op;
    }
  }
  return true;
}

// Null, or what is wrong with the node.
const char* Partition::connect(const abi::Node& node, int index) {
  Operator& op = *operators_[index];
  if (op.part >= node.outputs->size || (node.outputs->size != 1 && !op.is_one_of_several())) {
    return "it has not exactly one output";
  }
  if (node.inputs->size > kMaxInputs) return "it has too many inputs";
  op.input_count = node.inputs->size;
  for (int i = 0; i < op.input_count; ++i) {
    op.inputs[i] = value_of(node.inputs->data[i]);
    if (op.inputs[i] < 0) continue;
    values_[op.inputs[i]].last_reader = index;
    ++values_[op.inputs[i]].reads;
  }
  op.output = value_of(node.outputs->data[op.part]);
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
  cache_bytes_ = second_level_cache(threads_);
  if (!read_tensors(context) || !prepare_operators(context)) return abi::kError;
  advance_poolings();
  form_groups();
  form_chains();
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

bool Partition::prepare_operators(abi::Context* context) {
  Preparation preparation(context, values_.data(), settings_->kernels);
  for (int i = 0; i < operator_count_; ++i) {
    Operator& op = *operators_[i];
    preparation.enter(op.node, op.name());
    for (int k = 0; k < op.input_count; ++k) {
      if (op.inputs[k] < 0 && !op.may_be_absent(k)) return preparation.fail("its input %d is absent", k);
    }
    if (!op.prepare(preparation)) return false;
  }
  return true;
}

// What makes a map smaller, line by line, goes in front of the first operator that begins another group: where it alone
// reads that map there, the map never is as a whole.
void Partition::advance_poolings() {
  for (int i = 0; i < operator_count_; ++i) {
    const Locality locality = operators_[i]->locality();
    if (locality.output == 0 || locality.input <= locality.output) continue;
    int place = 0;
    for (int k = 0; k < operators_[i]->input_count; ++k) {
      if (operators_[i]->inputs[k] >= 0) place = max(place, values_[operators_[i]->inputs[k]].writer + 1);
    }
    while (place < i && operators_[place]->locality().output != 0) ++place;
    if (place < i) move_operator(i, place);
  }
}

// Operators go into one group as long as they need no other pixels of the group's results than those of their own
// tile, and else as long as their outputs have the same number of pixels.
void Partition::form_groups() {
  group_count_ = 0;
  for (int i = 0; i < operator_count_; ++i) {
    operators_[i]->source = nullptr;
    operators_[i]->made_at_once = 0;
  }
  for (int i = 0; i < operator_count_; ++i) {
    if (draws_on_last_group(i)) continue;
    if (group_count_ == 0 || !settings_->fuses || !joins_group(i, &groups_[group_count_ - 1])) {
      const int64_t parts = operators_[i]->parts();
      groups_[group_count_++] = {i, i, parts > 0 ? parts : values_[operators_[i]->output].pixels, 1, 0, 0};
      operators_[i]->unit = 1;
    }
    groups_[group_count_ - 1].last = i;
    operators_[i]->group = group_count_ - 1;
  }
}

// Makes the operator that is the last group the source of this one, where it can be.
bool Partition::draws_on_last_group(int index) {
  Operator& op = *operators_[index];
  if (group_count_ == 0 || !settings_->fuses || op.drawing_pixels() == 0) return false;
  Group& group = groups_[group_count_ - 1];
  Operator& source = *operators_[index - 1];
  const Value& between = values_[source.output];
  if (group.first != index - 1 || op.inputs[0] != source.output || between.reads != 1 || between.leaves) return false;
  const int64_t units = values_[op.output].pixels / op.drawing_pixels();
  if (!source.makes_on_demand() || units < kFewestUnits * threads_) return false;
  source.made_at_once = op.drawn_pixels();
  op.source = &source;
  op.unit = source.unit = op.drawing_pixels();
  op.group = source.group;
  group = {index - 1, index, units, 1, 0, 0};
  return true;
}

bool Partition::joins_group(int index, Group* group) {
  Operator& op = *operators_[index];
  if (op.parts() > 0 || operators_[group->last]->parts() > 0) return false;
  const Locality locality = op.locality();
  const int64_t pixels = values_[op.output].pixels;
  int source = -1;
  for (int i = 0; i < op.input_count; ++i) {
    if (op.inputs[i] < 0 || values_[op.inputs[i]].writer < group->first) continue;
    const Value& x = values_[op.inputs[i]];
    if (locality.output == 0 || x.pixels * locality.output != pixels * locality.input) return false;
    source = x.writer;
  }
  if (source < 0) {
    const Operator& last = *operators_[group->last];
    op.unit = last.unit;
    return values_[last.output].pixels == pixels;
  }
  const int64_t factor = locality.input / greatest_divisor(operators_[source]->unit, locality.input);
  if (factor > 1 && !enlarge_units(group, factor)) return false;
  op.unit = operators_[source]->unit / locality.input * locality.output;
  return true;
}

// False, and nothing has changed, where units would be too large for the cache, or too few for the threads.
bool Partition::enlarge_units(Group* group, int64_t factor) {
  if (group->units % factor != 0 || group->units / factor < kFewestUnits * threads_) return false;
  for (int i = group->first; i <= group->last; ++i) {
    const Operator& op = *operators_[i];
    const int64_t bytes = checked_product(values_[op.output].row_bytes, op.unit * factor);
    if (bytes < 0 || bytes > cache_bytes_ / 4) return false;
  }
  for (int i = group->first; i <= group->last; ++i) operators_[i]->unit *= factor;
  group->units /= factor;
  return true;
}

void Partition::form_chains() {
  for (int i = 0; i < operator_count_; ++i) {
    operators_[i]->next_of_chain = nullptr;
    operators_[i]->step = i;
    if (operators_[i]->source != nullptr) operators_[i - 1]->step = i;
  }
  for (int i = 1; settings_->fuses && i < operator_count_; ++i) {
    Operator& before = *operators_[i - 1];
    Operator& op = *operators_[i];
    const bool is_together = op.group == before.group && i - before.step < kMostChained;
    if (!is_together || !before.starts_chain() || !op.continues_chain(before.output)) continue;
    before.next_of_chain = &op;
    op.step = before.step;
  }
}

void Partition::find_homes() {
  for (int i = 0; i < value_count_; ++i) {
    Value& value = values_[i];
    value.base = static_cast<char*>(const_cast<void*>(value.constant));
    if (value.writer < 0 || value.leaves) {
      value.home = Value::Home::kTensor;
    } else if (operators_[value.writer]->made_at_once > 0) {
      value.home = Value::Home::kBuffer;
    } else if (operators_[value.writer]->next_of_chain != nullptr && value.reads == 1) {
      value.home = Value::Home::kRegister;
    } else if (operators_[value.writer]->parts() > 0 || is_read_later(value)) {
      value.home = Value::Home::kArena;
    } else {
      value.home = Value::Home::kTile;
    }
  }
}

bool Partition::is_read_later(const Value& value) const {
  return value.last_reader >= 0 && operators_[value.last_reader]->group != operators_[value.writer]->group;
}

// The arena holds, as long as they are needed, what later groups read and what has parts.
bool Partition::plan_arena() {
  int count = 0;
  for (int i = 0; i < value_count_; ++i) {
    const Value& value = values_[i];
    if (value.home != Value::Home::kArena) continue;
    const int last = max(value.last_reader, value.writer);
    blocks_[count++] = {operators_[value.writer]->group, operators_[last]->group, bytes_of(value), 0};
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

// A tile is as large as its scratch may be, but small enough that every thread gets as many.  Each reads the filters of
// all its operators: where these do not stay in the cache from one tile to the next, a scratch of their size, which
// does not stay there either, is the better bargain.
bool Partition::plan_scratch() {
  scratch_bytes_ = 0;
  for (int i = 0; i < group_count_; ++i) {
    Group& group = groups_[i];
    const int64_t unit = operators_[group.first]->unit;
    const bool has_parts = operators_[group.first]->parts() > 0;
    group.block = has_parts ? 1 : ceil_div(settings_->kernels->block_pixels, unit);
    const int64_t probed = ceil_div(kProbedTile, unit);
    if (!plan_tile(&group, probed)) return false;
    const int64_t of_one = group.scratch;
    if (!plan_tile(&group, 2 * probed)) return false;
    const int64_t growing = group.scratch - of_one;
    const int64_t filters = filter_bytes(group);
    const int64_t most_bytes = filters > cache_bytes_ / 2 ? filters : max(cache_bytes_ / kTileShare, kLeastTileBytes);
    const int64_t fitting = max(most_bytes / max<int64_t>(growing / probed, 1) / group.block, int64_t{1});
    group.tiles = min(round_up(ceil_div(group.blocks(), fitting), threads_), group.blocks());
    if (!plan_tile(&group, group.largest_tile())) return false;
    scratch_bytes_ = max(scratch_bytes_, round_up(group.scratch, kAlignment));
  }
  return scratch_.allocate(checked_product(scratch_bytes_, threads_));
}

int64_t Partition::filter_bytes(const Group& group) const {
  int64_t bytes = 0;
  for (int i = group.first; i <= group.last; ++i) bytes += operators_[i]->filter_bytes();
  return bytes;
}

// Places what lives within a tile of so many units: values, and scratch of operators.
bool Partition::plan_tile(Group* group, int64_t units) {
  int count = 0;
  for (int i = group->first; i <= group->last; ++i) {
    const Operator& op = *operators_[i];
    const Value& y = values_[op.output];
    const int64_t pixels = op.made_at_once > 0 ? op.made_at_once : units * op.unit;
    blocks_[count++] = {op.step, op.step, op.scratch_bytes(pixels), 0};
    if (y.home == Value::Home::kTile) {
      const int last = y.last_reader < 0 ? op.step : operators_[y.last_reader]->step;
      blocks_[count++] = {op.step, last, checked_product(y.row_bytes, pixels), 0};
    }
  }
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
    settings_->pool.run(run_tile, &job, groups_[i].tiles, threads_);
  }
  return abi::kOk;
}

void Partition::run_tile(const void* argument, int64_t index, int thread) {
  const Job& job = *static_cast<const Job*>(argument);
  const Partition& partition = *static_cast<const Partition*>(job.partition);
  const Group& group = partition.groups_[job.group];
  Tile tile;
  const int64_t first = group.begin(index);
  const int64_t end = group.begin(index + 1);
  tile.values = partition.values_.data();
  tile.scratch = partition.scratch_.data() + thread * partition.scratch_bytes_;
  for (int i = group.first; i <= group.last; ++i) {
    const Operator& op = *partition.operators_[i];
    if (op.step != i) continue;
    tile.begin = first * op.unit;
    tile.end = end * op.unit;
    mark(op.node);
    op.run(tile);
  }
  mark(kBetweenOperators);
}

}  // namespace bnncc
