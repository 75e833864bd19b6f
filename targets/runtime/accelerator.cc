// The delegate as an accelerator of LiteRT's CompiledModel, which takes no delegates of its users.
//
// An environment of LiteRT looks in the folder of its option RuntimeLibraryDir (without it, where the system's loader
// looks) for a library called libLiteRtGpuAccelerator, and in that for the symbol LiteRtAcceleratorImpl.  Whatever
// library has this name is asked what it is: this one says that it serves the CPU, and comes before XNNPACK's, which is
// registered after it.  A custom operator that is added to a CompiledModel's options (LiteRtAddCustomOpKernelOption) will
// not do instead: all nodes of its name share one state, so that none knows its own options, strides and padding among
// them.
//
// The structs are those of LiteRT 2.2, 2.3 and 2.4's nightly.  Both sides write size and version into the first eight bytes:
// 2.1, whose structs have others, refuses this library (kLiteRtStatusErrorWrongVersion).
#include "delegate.h"
#include "export.h"

namespace bnncc {
namespace {

enum LiteRtStatus : int32_t { kLiteRtOk = 0, kLiteRtMemoryError = 2, kLiteRtUnsupported = 5 };

// Bits of LiteRtHwAcceleratorSet.
constexpr int32_t kLiteRtCpu = 1;
// LiteRtEnvOptionTag: none.
constexpr int32_t kNoTag = 255;

struct AbiHeader {
  uint16_t struct_size;
  uint16_t major_version;
  uint16_t minor_version;
  uint16_t reserved;
};

using WrapDelegate = LiteRtStatus (*)(abi::Delegate*, void (*destroy)(abi::Delegate*), void** wrapper);

// A prefix of LiteRtRuntimeContext: what LiteRT lends to accelerators.
struct RuntimeContext {
  AbiHeader header;
  void* others[17];
  WrapDelegate wrap_delegate;
};

struct Version {
  int32_t major;
  int32_t minor;
  int32_t patch;
};

// LiteRtAcceleratorDef.  Handles of LiteRT's are pointers.
struct AcceleratorDefinition {
  AbiHeader header;
  LiteRtStatus (*get_name)(void* accelerator, const char** name);
  LiteRtStatus (*get_version)(void* accelerator, Version* version);
  LiteRtStatus (*get_hardware_support)(void* accelerator, int32_t* hardware);
  LiteRtStatus (*is_delegate_responsible_for_jit)(void* accelerator, bool* is_responsible);
  LiteRtStatus (*create_delegate)(const RuntimeContext*, void* environment, void* accelerator, void* options,
                                  void** wrapper);
  void* destroy_delegate;
  void* start_metrics_collection;
  void* stop_metrics_collection;
  // Of tensors that lie elsewhere than in the CPU's memory.
  void* buffer_functions[6];
  int32_t buffer_tags[2];
  size_t buffer_type_count;
  int32_t buffer_types[16];
};

static_assert(sizeof(void*) != 8 || sizeof(AcceleratorDefinition) == 200);
static_assert(sizeof(void*) != 8 || offsetof(RuntimeContext, wrap_delegate) == 144);

LiteRtStatus get_name(void*, const char** name) {
  *name = "bnncc";
  return kLiteRtOk;
}

LiteRtStatus get_version(void*, Version* version) {
  *version = {1, 0, 0};
  return kLiteRtOk;
}

LiteRtStatus get_hardware_support(void*, int32_t* hardware) {
  *hardware = kLiteRtCpu;
  return kLiteRtOk;
}

// No: LiteRT then applies the delegate whichever hardware a model asks for.
LiteRtStatus is_delegate_responsible_for_jit(void*, bool* is_responsible) {
  *is_responsible = false;
  return kLiteRtOk;
}

LiteRtStatus create_delegate(const RuntimeContext* context, void*, void*, void*, void** wrapper) {
  constexpr size_t needed = offsetof(RuntimeContext, wrap_delegate) + sizeof(WrapDelegate);
  if (context->header.major_version != 1 || context->header.struct_size < needed) return kLiteRtUnsupported;
  abi::Delegate* const delegate = tflite_plugin_create_delegate(nullptr, nullptr, 0, nullptr);
  if (delegate == nullptr) return kLiteRtMemoryError;
  const LiteRtStatus status = context->wrap_delegate(delegate, tflite_plugin_destroy_delegate, wrapper);
  if (status != kLiteRtOk) tflite_plugin_destroy_delegate(delegate);
  return status;
}

}  // namespace
}  // namespace bnncc

BNNCC_EXPORT const bnncc::AcceleratorDefinition LiteRtAcceleratorImpl;

const bnncc::AcceleratorDefinition LiteRtAcceleratorImpl = {
    {sizeof(bnncc::AcceleratorDefinition), 1, 0, 0},
    bnncc::get_name,
    bnncc::get_version,
    bnncc::get_hardware_support,
    bnncc::is_delegate_responsible_for_jit,
    bnncc::create_delegate,
    nullptr,
    nullptr,
    nullptr,
    {},
    {bnncc::kNoTag, bnncc::kNoTag},
    0,
    {},
};
