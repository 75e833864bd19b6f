// What an app does with a bundle: TensorFlow Lite for Android, through its C API, runs model.tflite with the delegate.
//
//   app LIBTENSORFLOWLITE LIBBNNCC_RUNTIME MODEL IMAGE     IMAGE: the input's float32 numbers; prints the output's
#include "../../targets/runtime/program/libc.h"

extern "C" {
void* dlopen(const char* path, int flags);
void* dlsym(void* library, const char* name);
char* dlerror();
int dprintf(int file, const char* format, ...) __attribute__((format(printf, 2, 3)));
}

namespace {

[[noreturn]] void fail(const char* what) {
  dprintf(2, "%s\n", what);
  exit(2);
}

void* open_library(const char* path) {
  constexpr int kNow = 2;
  void* const library = dlopen(path, kNow);
  if (library == nullptr) fail(dlerror());
  return library;
}

template <typename Result, typename... Arguments>
Result call(void* library, const char* name, Arguments... arguments) {
  auto* const function = reinterpret_cast<Result (*)(Arguments...)>(dlsym(library, name));
  if (function == nullptr) fail(name);
  return function(arguments...);
}

}  // namespace

extern "C" int main(int argc, char** argv) {
  if (argc != 5) fail("app LIBTENSORFLOWLITE LIBBNNCC_RUNTIME MODEL IMAGE");
  void* const tflite = open_library(argv[1]);
  void* const none = nullptr;
  void* const delegate =
      call<void*>(open_library(argv[2]), "tflite_plugin_create_delegate", none, none, size_t{0}, none);
  void* const model = call<void*>(tflite, "TfLiteModelCreateFromFile", static_cast<const char*>(argv[3]));
  void* const options = call<void*>(tflite, "TfLiteInterpreterOptionsCreate");
  call<void>(tflite, "TfLiteInterpreterOptionsAddDelegate", options, delegate);
  void* const interpreter = call<void*>(tflite, "TfLiteInterpreterCreate", model, options);
  if (interpreter == nullptr || call<int>(tflite, "TfLiteInterpreterAllocateTensors", interpreter) != 0) {
    fail("TensorFlow Lite does not take the file with the delegate");
  }
  void* const input = call<void*>(tflite, "TfLiteInterpreterGetInputTensor", interpreter, int32_t{0});
  const size_t size = call<size_t>(tflite, "TfLiteTensorByteSize", input);
  FILE* const file = fopen(argv[4], "rb");
  if (file == nullptr || fread(call<void*>(tflite, "TfLiteTensorData", input), 1, size, file) != size) fail(argv[4]);
  if (call<int>(tflite, "TfLiteInterpreterInvoke", interpreter) != 0) fail("TensorFlow Lite cannot run the file");
  void* const output = call<void*>(tflite, "TfLiteInterpreterGetOutputTensor", interpreter, int32_t{0});
  const auto* const logits = static_cast<const float*>(call<void*>(tflite, "TfLiteTensorData", output));
  const size_t count = call<size_t>(tflite, "TfLiteTensorByteSize", output) / sizeof(float);
  for (size_t i = 0; i < count; ++i) printf("%.9g\n", static_cast<double>(logits[i]));
  exit(0);
}
