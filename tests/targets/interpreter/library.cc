// The interpreter as a library for Python's ctypes.
#include "../../../targets/runtime/interpreter/interpreter.h"

using bnncc::Interpreter;
using bnncc::abi::Tensor;

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT Interpreter* interpreter_create(const void* file, size_t size, int threads, char* error, size_t error_size) {
  return Interpreter::create_from(file, size, threads, error, error_size);
}

EXPORT void interpreter_destroy(Interpreter* interpreter) { bnncc::destroy(interpreter); }

EXPORT int interpreter_inputs(const Interpreter* interpreter) { return interpreter->inputs(); }

EXPORT int interpreter_outputs(const Interpreter* interpreter) { return interpreter->outputs(); }

EXPORT const Tensor* interpreter_input(const Interpreter* interpreter, int i) { return &interpreter->input(i); }

EXPORT const Tensor* interpreter_output(const Interpreter* interpreter, int i) { return &interpreter->output(i); }

EXPORT int tensor_type(const Tensor* tensor) { return tensor->type; }

EXPORT const int* tensor_shape(const Tensor* tensor) { return &tensor->dims->size; }

EXPORT void* tensor_data(const Tensor* tensor) { return tensor->data; }

EXPORT int interpreter_invoke(Interpreter* interpreter) { return interpreter->invoke(); }
