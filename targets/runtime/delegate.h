// What an interpreter that is linked with the delegate calls; others find the functions in the library by name.
#pragma once

#include "abi.h"
#include "threads.h"

namespace bnncc {

using ReportFunction = void (*)(const char*);

// The threads that run the delegate's partitions: an interpreter's own operators may share them.
ThreadPool* pool_of(abi::Delegate* delegate);

}  // namespace bnncc

extern "C" {
bnncc::abi::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                                    bnncc::ReportFunction report);
void tflite_plugin_destroy_delegate(bnncc::abi::Delegate* delegate);
}
