// A libFuzzer target: the interpreter's reader, preparation and one run, on the fuzzer's bytes as a file.
//
//   cmake -B BUILD -DBNNCC_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ && cmake --build BUILD --target fuzz_interpreter
//   BUILD/fuzz_interpreter CORPUS -max_total_time=60
//
// CORPUS: a folder that holds a few small .tflite files to begin with.
#include "../interpreter/interpreter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bnncc;
  // Files that ask for more memory are refused, so that no run takes long.
  constexpr int64_t kMostBytes = 1 << 20;
  char error[256];
  Interpreter* const interpreter = Interpreter::create_from(data, size, 1, error, sizeof(error), kMostBytes);
  if (interpreter != nullptr) interpreter->invoke();
  destroy(interpreter);
  return 0;
}
