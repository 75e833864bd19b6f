// Runs .tflite files in the interpreter, under sanitizers: prints for each what is wrong with it, or "ran".
//
//   run_files FILE…                      each file as it is
//   run_files --truncate STEP FILE       its first 0, STEP, 2·STEP, … bytes; prints how often which outcome came
//   run_files --mutate SEED COUNT FILE   COUNT times, with a few random bytes changed
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "../../../targets/runtime/interpreter/interpreter.h"

namespace {

constexpr int64_t kMostBytes = 1 << 22;

std::vector<char> read(const char* path) {
  std::vector<char> content;
  FILE* const file = fopen(path, "rb");
  if (file == nullptr) abort();
  char block[4096];
  for (size_t size; (size = fread(block, 1, sizeof(block), file)) > 0;)
    content.insert(content.end(), block, block + size);
  fclose(file);
  return content;
}

// The file is a block of memory of its own, so that AddressSanitizer sees one byte too many.
std::string outcome(const char* data, size_t size) {
  char error[512];
  char* const begin = static_cast<char*>(malloc(size));
  memcpy(begin, data, size);
  bnncc::Interpreter* const interpreter =
      bnncc::Interpreter::create_from(begin, size, 1, error, sizeof(error), kMostBytes);
  std::string result = interpreter == nullptr ? error : "ran";
  if (interpreter != nullptr) {
    for (int i = 0; i < interpreter->inputs(); ++i) {
      const bnncc::abi::Tensor& input = interpreter->input(i);
      if (input.type != bnncc::abi::kFloat32) continue;
      for (size_t k = 0; k < input.bytes / sizeof(float); ++k) {
        static_cast<float*>(input.data)[k] = static_cast<float>(k * 7 % 11) - 5;
      }
    }
    if (!interpreter->invoke()) result = error;
  }
  bnncc::destroy(interpreter);
  free(begin);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, int> outcomes;
  if (argc == 4 && strcmp(argv[1], "--truncate") == 0) {
    const std::vector<char> content = read(argv[3]);
    const size_t step = static_cast<size_t>(atoi(argv[2]));
    for (size_t size = 0; size < content.size(); size += step) ++outcomes[outcome(content.data(), size)];
  } else if (argc == 5 && strcmp(argv[1], "--mutate") == 0) {
    const std::vector<char> content = read(argv[4]);
    std::mt19937 random(static_cast<unsigned>(atoi(argv[2])));
    const unsigned char odd[] = {0, 1, 2, 3, 4, 8, 16, 32, 127, 128, 254, 255};
    for (int i = 0; i < atoi(argv[3]); ++i) {
      std::vector<char> changed = content;
      for (unsigned edits = 1 + random() % 3; edits > 0; --edits) {
        char& byte = changed[random() % changed.size()];
        byte = static_cast<char>(random() % 2 == 0 ? odd[random() % sizeof(odd)] : random());
      }
      ++outcomes[outcome(changed.data(), changed.size())];
    }
  } else {
    for (int i = 1; i < argc; ++i) {
      const std::vector<char> content = read(argv[i]);
      printf("%s: %s\n", argv[i], outcome(content.data(), content.size()).c_str());
      fflush(stdout);
    }
  }
  for (const auto& [text, count] : outcomes) printf("%d %s\n", count, text.c_str());
}
