#include "claim.h"

#include "operator.h"

namespace bnncc {
namespace {

class Claim {
 public:
  Claim(abi::Context* context, const abi::IntArray* plan, const Kernels* kernels)
      : context_(context), plan_(plan), kernels_(kernels) {}

  bool find(bool with_neighbours, Array<int>* nodes) {
    if (!claimed_.allocate(plan_->size) || !refused_.allocate(plan_->size) ||
        !touched_.allocate(static_cast<int64_t>(context_->tensors_size)) ||
        !nodes->allocate(int64_t{plan_->size} + 1)) {
      return false;
    }
    for (int i = 0; i < plan_->size; ++i) {
      if (is_lce(i) || (with_neighbours && has_integers(i) && can_take(i))) take(i);
    }
    // A neighbour may have neighbours: until nothing changes.
    for (bool grows = with_neighbours; grows;) {
      grows = false;
      for (int i = 0; i < plan_->size; ++i) {
        if (claimed_[i] || refused_[i] || !meets_claimed(i)) continue;
        if (!can_take(i)) {
          refused_[i] = 1;
          continue;
        }
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

  // Whether it reads or writes a map of integers of 8 or 16 bits with a scale.
  bool has_integers(int position) const {
    return any_map(position, [this](int index) {
      const abi::Tensor& tensor = context_->tensors[index];
      const bool is_integer = tensor.type == abi::kInt8 || tensor.type == abi::kUInt8 || tensor.type == abi::kInt16;
      return is_integer && tensor.params.scale > 0;
    });
  }

  void take(int position) {
    claimed_[position] = 1;
    any_map(position, [this](int index) {
      touched_[index] = 1;
      return false;
    });
  }

  bool meets_claimed(int position) const {
    return any_map(position, [this](int index) { return touched_[index] != 0; });
  }

  // Whether has(tensor) of one of the maps that the node reads or writes; none is asked behind it.
  template <typename Property>
  bool any_map(int position, const Property& has) const {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (!get(position, &node, &registration)) return false;
    const abi::IntArray* const lists[] = {node->inputs, node->outputs};
    for (const abi::IntArray* list : lists) {
      for (int i = 0; i < list->size; ++i) {
        if (is_map(list->data[i]) && has(list->data[i])) return true;
      }
    }
    return false;
  }

  bool is_tensor(int index) const { return index >= 0 && static_cast<size_t>(index) < context_->tensors_size; }
  bool is_constant(int index) const {
    return is_tensor(index) && context_->tensors[index].allocation_type == abi::kMmapRo;
  }
  bool is_map(int index) const { return is_tensor(index) && !is_constant(index); }

  // Whether the delegate has an operator for this neighbour that can be prepared on its tensors as they are now, and
  // gives its outputs the shapes that they are declared with: it then computes what the interpreter would.
  bool can_take(int position) const {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (!get(position, &node, &registration) || node->outputs->size < 1) return false;
    for (int part = 0; part < node->outputs->size; ++part) {
      Operator* const op = create_operator(*registration, first_type(*context_, *node));
      const bool is_prepared = op != nullptr && (part == 0 || op->is_one_of_several()) && prepare(*node, part, op);
      destroy(op);
      if (!is_prepared) return false;
    }
    return true;
  }

  bool prepare(const abi::Node& node, int part, Operator* op) const {
    Value values[kMaxInputs + 1];
    if (node.inputs->size > kMaxInputs) return false;
    op->part = part;
    op->input_count = node.inputs->size;
    for (int i = 0; i < op->input_count; ++i) {
      const int tensor = node.inputs->data[i];
      op->inputs[i] = tensor < 0 ? -1 : i;
      if (tensor < 0 && op->may_be_absent(i)) continue;
      if (!is_tensor(tensor) || read_tensor(context_->tensors[tensor], &values[i]) != nullptr) return false;
    }
    const int tensor = node.outputs->data[part];
    op->output = kMaxInputs;
    Value& y = values[op->output];
    y.writer = 0;
    if (!is_tensor(tensor) || read_tensor(context_->tensors[tensor], &y) != nullptr) return false;
    const Shape declared = y.shape;
    Preparation preparation(nullptr, values, kernels_);
    return op->parse(node) == nullptr && op->prepare(preparation) && y.shape == declared;
  }

  abi::Context* context_;
  const abi::IntArray* plan_;
  const Kernels* kernels_;
  Array<uint8_t> claimed_;  // by position in the plan
  Array<uint8_t> refused_;  // by position in the plan: neighbours that the delegate cannot take
  Array<uint8_t> touched_;  // by tensor: maps that a claimed node reads or writes
};

}  // namespace

bool claim_nodes(abi::Context* context, const Kernels* kernels, bool with_neighbours, Array<int>* nodes) {
  abi::IntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != abi::kOk || plan == nullptr) {
    context->ReportError(context, "bnncc: the interpreter has no execution plan");
    return false;
  }
  if (Claim(context, plan, kernels).find(with_neighbours, nodes)) return true;
  context->ReportError(context, "bnncc: out of memory");
  return false;
}

}  // namespace bnncc
