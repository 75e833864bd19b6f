// The interpreter for other languages, as functions of a shared library: bnncc/runtime/interpreter.py calls them.
#include "../export.h"
#include "../interpreter/interpreter.h"

using bnncc::Interpreter;
using bnncc::abi::Tensor;

// Null after a failure, which `error` then names.  The bytes of the file and those of `error` must outlive it.
BNNCC_EXPORT Interpreter* bnncc_interpreter_create(const void* file, size_t size, int threads, char* error,
                                                   size_t error_size) {
  return Interpreter::create_from(file, size, threads, error, error_size);
}

BNNCC_EXPORT void bnncc_interpreter_destroy(Interpreter* interpreter) { bnncc::destroy(interpreter); }

BNNCC_EXPORT int bnncc_interpreter_inputs(const Interpreter* interpreter) { return interpreter->inputs(); }

BNNCC_EXPORT int bnncc_interpreter_outputs(const Interpreter* interpreter) { return interpreter->outputs(); }

BNNCC_EXPORT const Tensor* bnncc_interpreter_input(const Interpreter* interpreter, int i) {
  return &interpreter->input(i);
}

BNNCC_EXPORT const Tensor* bnncc_interpreter_output(const Interpreter* interpreter, int i) {
  return &interpreter->output(i);
}

// A number of TfLiteType.
BNNCC_EXPORT int bnncc_tensor_type(const Tensor* tensor) { return tensor->type; }

// The number of dimensions, and behind it their sizes.
BNNCC_EXPORT const int* bnncc_tensor_shape(const Tensor* tensor) { return &tensor->dims->size; }

BNNCC_EXPORT void* bnncc_tensor_data(const Tensor* tensor) { return tensor->data; }

// What its integers q stand for: scale * (q - zero_point); the scale is 0 where they stand for themselves.
BNNCC_EXPORT float bnncc_tensor_scale(const Tensor* tensor) { return tensor->params.scale; }

BNNCC_EXPORT int bnncc_tensor_zero_point(const Tensor* tensor) { return tensor->params.zero_point; }

// 0 after a failure, which the interpreter's `error` then names.
BNNCC_EXPORT int bnncc_interpreter_invoke(Interpreter* interpreter) { return interpreter->invoke(); }
