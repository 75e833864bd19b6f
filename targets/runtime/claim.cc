#include "claim.h"

#include "operator.h"

namespace bnncc {
namespace {

class Claim {
 public:
  Claim(abi::Context* context, const abi::IntArray* plan) : context_(context), plan_(plan) {}

  bool find(bool with_neighbours, Array<int>* nodes) {
    if (!claimed_.allocate(plan_->size) || !touched_.allocate(static_cast<int64_t>(context_->tensors_size)) ||
        !nodes->allocate(int64_t{plan_->size} + 1)) {
      return false;
    }
    for (int i = 0; i < plan_->size; ++i) {
      if (is_lce(i)) take(i);
    }
    // A neighbour may have neighbours: until nothing changes.
    for (bool grows = with_neighbours; grows;) {
      grows = false;
      for (int i = 0; i < plan_->size; ++i) {
        if (claimed_[i] || !meets_claimed(i) || !is_known(i)) continue;
        take(i);
        grows = true;
      }
    }
    int size = 0;
    for (int i = 0; i < plan_->size; ++i) {
      if (claimed_[i]) (*nodes)[++size] = plan_->data[i];
    }
    (*nodes)[0] = size;
    return true;
  }

 private:
  bool get(int position, abi::Node** node, abi::Registration** registration) const {
    return context_->GetNodeAndRegistration(context_, plan_->data[position], node, registration) == abi::kOk &&
           *node != nullptr && *registration != nullptr && (*node)->inputs != nullptr && (*node)->outputs != nullptr;
  }

  bool is_lce(int position) const {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    return get(position, &node, &registration) && is_lce_operator(*registration);
  }

  void take(int position) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (!get(position, &node, &registration)) return;
    claimed_[position] = 1;
    const abi::IntArray* const lists[] = {node->inputs, node->outputs};
    for (const abi::IntArray* list : lists) {
      for (int i = 0; i < list->size; ++i) {
        if (is_map(list->data[i])) touched_[list->data[i]] = 1;
      }
    }
  }

  bool meets_claimed(int position) const {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (!get(position, &node, &registration)) return false;
    const abi::IntArray* const lists[] = {node->inputs, node->outputs};
    for (const abi::IntArray* list : lists) {
      for (int i = 0; i < list->size; ++i) {
        if (is_map(list->data[i]) && touched_[list->data[i]]) return true;
      }
    }
    return false;
  }

  bool is_tensor(int index) const { return index >= 0 && static_cast<size_t>(index) < context_->tensors_size; }
  bool is_constant(int index) const {
    return is_tensor(index) && context_->tensors[index].allocation_type == abi::kMmapRo;
  }
  bool is_map(int index) const { return is_tensor(index) && !is_constant(index); }

  bool is_float(int index) const {
    return is_tensor(index) && context_->tensors[index].type == abi::kFloat32 &&
           context_->tensors[index].dims != nullptr && context_->tensors[index].dims->size > 0 &&
           context_->tensors[index].dims->size <= kMaxRank;
  }

  int channels(int index) const {
    const abi::IntArray& dims = *context_->tensors[index].dims;
    return dims.data[dims.size - 1];
  }

  bool same_shape(int a, int b) const {
    const abi::IntArray& x = *context_->tensors[a].dims;
    const abi::IntArray& y = *context_->tensors[b].dims;
    if (x.size != y.size) return false;
    for (int i = 0; i < x.size; ++i) {
      if (x.data[i] != y.data[i]) return false;
    }
    return true;
  }

  // A constant of as many elements as `map` has channels, along the last axis.
  bool is_per_channel(int constant, int map) const {
    if (!is_constant(constant) || channels(constant) != channels(map)) return false;
    const abi::IntArray& dims = *context_->tensors[constant].dims;
    if (dims.size > context_->tensors[map].dims->size) return false;
    for (int i = 0; i + 1 < dims.size; ++i) {
      if (dims.data[i] != 1) return false;
    }
    return true;
  }

  static bool is_padding(abi::Padding padding) {
    return padding == abi::kPaddingSame || padding == abi::kPaddingValid;
  }

  int rank(int index) const { return context_->tensors[index].dims->size; }

  // Whether filters and bias are constants, and the former as deep as the map: not of several groups.
  bool is_convolution(const abi::Node& node) const {
    const auto* const options = static_cast<const abi::ConvParams*>(node.builtin_data);
    const abi::IntArray& inputs = *node.inputs;
    if (options == nullptr || inputs.size < 2 || inputs.size > 3) return false;
    if (inputs.size == 3 && inputs.data[2] >= 0 && !is_constant(inputs.data[2])) return false;
    const int map = inputs.data[0];
    const int filters = inputs.data[1];
    return is_constant(filters) && rank(map) == 4 && rank(filters) == 4 && channels(map) == channels(filters) &&
           is_padding(options->padding) && options->activation >= abi::kActNone &&
           options->activation <= abi::kActRelu6;
  }

  // Whether the delegate computes this neighbour as the interpreter would.
  bool is_known(int position) const {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (!get(position, &node, &registration)) return false;
    const abi::IntArray& inputs = *node->inputs;
    if (node->outputs->size != 1 || inputs.size < 1 || inputs.size > kMaxInputs) return false;
    for (int i = 0; i < inputs.size; ++i) {
      const bool is_absent = inputs.data[i] < 0 && registration->builtin_code == abi::kBuiltinConv2d && i == 2;
      if (!is_absent && !is_float(inputs.data[i])) return false;
    }
    if (!is_float(node->outputs->data[0])) return false;
    const int a = inputs.data[0];
    const int b = inputs.data[inputs.size - 1];
    switch (registration->builtin_code) {
      case abi::kBuiltinAdd: {
        const auto* const options = static_cast<const abi::AddParams*>(node->builtin_data);
        return options != nullptr && options->activation == abi::kActNone && inputs.size == 2 &&
               (same_shape(a, b) || is_per_channel(b, a) || is_per_channel(a, b));
      }
      case abi::kBuiltinPrelu: return inputs.size == 2 && is_per_channel(b, a);
      case abi::kBuiltinConcatenation: {
        const auto* const options = static_cast<const abi::ConcatenationParams*>(node->builtin_data);
        const int rank = context_->tensors[a].dims->size;
        return options != nullptr && options->activation == abi::kActNone &&
               (options->axis == rank - 1 || options->axis == -1);
      }
      case abi::kBuiltinConv2d: return is_convolution(*node);
      case abi::kBuiltinMaxPool2d:
      case abi::kBuiltinAveragePool2d: {
        const auto* const options = static_cast<const abi::PoolParams*>(node->builtin_data);
        return options != nullptr && options->activation == abi::kActNone && inputs.size == 1 &&
               context_->tensors[a].dims->size == 4 &&
               is_padding(options->padding);
      }
      default: return false;
    }
  }

  abi::Context* context_;
  const abi::IntArray* plan_;
  Array<uint8_t> claimed_;  // by position in the plan
  Array<uint8_t> touched_;  // by tensor: maps that a claimed node reads or writes
};

}  // namespace

bool claim_nodes(abi::Context* context, bool with_neighbours, Array<int>* nodes) {
  abi::IntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != abi::kOk || plan == nullptr) {
    context->ReportError(context, "bnncc: the interpreter has no execution plan");
    return false;
  }
  if (Claim(context, plan).find(with_neighbours, nodes)) return true;
  context->ReportError(context, "bnncc: out of memory");
  return false;
}

}  // namespace bnncc
