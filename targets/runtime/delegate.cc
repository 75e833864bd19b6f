// The delegate: what the interpreter loads, and how it hands nodes over.
//
// Options (strings): threads (0: the interpreter's number), kernel (auto, or a name of kernels/dispatch.cc), fuse (1:
// take neighbours of LCE's operators and run them together; 0: LCE's operators alone, one after the other).
#include "delegate.h"

#include "abi.h"
#include "claim.h"
#include "export.h"
#include "partition.h"

namespace bnncc {
namespace {

struct DelegateData {
  abi::Delegate delegate = {};
  Settings settings;
};

void* init(abi::Context* context, const char* buffer, size_t) {
  const auto& parameters = *reinterpret_cast<const abi::DelegateParams*>(buffer);
  auto* const data = static_cast<DelegateData*>(parameters.delegate->data_);
  return Partition::create_from(context, parameters, &data->settings);
}

void free_partition(abi::Context*, void* user_data) { destroy(static_cast<Partition*>(user_data)); }

abi::Status prepare_partition(abi::Context* context, abi::Node* node) {
  if (node->user_data == nullptr) {
    context->ReportError(context, "bnncc: out of memory");
    return abi::kError;
  }
  return static_cast<Partition*>(node->user_data)->prepare(context);
}

abi::Status invoke_partition(abi::Context* context, abi::Node* node) {
  return static_cast<Partition*>(node->user_data)->invoke(context);
}

abi::Status prepare_delegate(abi::Context* context, abi::Delegate* delegate) {
  const auto& data = *static_cast<const DelegateData*>(delegate->data_);
  Array<int> nodes;
  if (!claim_nodes(context, data.settings.kernels, data.settings.fuses, &nodes)) return abi::kError;
  if (nodes[0] == 0) return abi::kOk;
  abi::Registration registration = {};
  registration.init = init;
  registration.free = free_partition;
  registration.prepare = prepare_partition;
  registration.invoke = invoke_partition;
  registration.builtin_code = abi::kBuiltinDelegate;
  registration.custom_name = "bnncc";
  registration.version = 1;
  return context->ReplaceNodeSubsetsWithDelegateKernels(context, registration,
                                                        reinterpret_cast<const abi::IntArray*>(nodes.data()), delegate);
}

// A number from 0 to `most`, or -1.
int parse_number(const char* text, int most) {
  int value = 0;
  if (*text == '\0') return -1;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9') return -1;
    value = 10 * value + (*text - '0');
    if (value > most) return -1;
  }
  return value;
}

// Null, or what is wrong.
const char* set_option(const char* key, const char* value, Settings* settings) {
  if (key == nullptr || value == nullptr) return "bnncc: an option without a key or a value";
  if (strcmp(key, "threads") == 0) {
    settings->threads = parse_number(value, ThreadPool::kMostThreads);
    return settings->threads < 0 ? "bnncc: threads must be a number from 0 to 64" : nullptr;
  }
  if (strcmp(key, "kernel") == 0) {
    if (strcmp(value, "auto") != 0) settings->kernels = find_kernels(value);
    return settings->kernels == nullptr ? "bnncc: this processor has no such kernel" : nullptr;
  }
  if (strcmp(key, "fuse") == 0) {
    const int fuse = parse_number(value, 1);
    settings->fuses = fuse == 1;
    return fuse < 0 ? "bnncc: fuse must be 0 or 1" : nullptr;
  }
  return "bnncc: the options are threads, kernel and fuse";
}

}  // namespace

ThreadPool* pool_of(abi::Delegate* delegate) { return &static_cast<DelegateData*>(delegate->data_)->settings.pool; }

}  // namespace bnncc

// Null after a report of what is wrong with an option.
BNNCC_EXPORT bnncc::abi::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                                 size_t count, bnncc::ReportFunction report) {
  using namespace bnncc;
  auto* const data = create<DelegateData>();
  if (data == nullptr) return nullptr;
  data->settings.kernels = available_kernels()[0];
  for (size_t i = 0; i < count; ++i) {
    const char* const problem = set_option(keys[i], values[i], &data->settings);
    if (problem == nullptr) continue;
    if (report != nullptr) report(problem);
    destroy(data);
    return nullptr;
  }
  data->delegate.data_ = data;
  data->delegate.Prepare = prepare_delegate;
  data->delegate.flags = abi::kFlagsAllowDynamicTensors;
  return &data->delegate;
}

BNNCC_EXPORT void tflite_plugin_destroy_delegate(bnncc::abi::Delegate* delegate) {
  using namespace bnncc;
  if (delegate != nullptr) destroy(static_cast<DelegateData*>(delegate->data_));
}

// The names of the kernels that run on this processor, the fastest first; a null after the last.
BNNCC_EXPORT const char* bnncc_kernel_name(int index) {
  const bnncc::Kernels* const* kernels = bnncc::available_kernels();
  for (; index > 0 && *kernels != nullptr; --index) ++kernels;
  return *kernels == nullptr ? nullptr : (*kernels)->name;
}
