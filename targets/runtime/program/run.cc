// Runs a network on a command line, in `adb shell` for example, with nothing else on the device: the model.tflite of its
// own folder, or the file of --model.  What it reads beside images.npy lies in the folder of the network.
//
//   ./bnncc_run images.npy    prints the classes with the largest logits of each image
//   ./bnncc_run --check       compares with the outputs of the computer that made the folder
//   ./bnncc_run --bench       measures how long an image takes
//
// Options: --model FILE, --threads N (4), --top N (5), --runs N (50).  images.npy: [count, …] as the network takes them,
// float32 or bytes.
#include "../interpreter/interpreter.h"
#include "digest.h"
#include "host.h"
#include "libc.h"

namespace {

constexpr int kWarmUp = 5;
constexpr int kCheckFailed = 3;  // exit code: no other failure has it
// An image agrees where its outputs differ by so much at most, as a share of the largest output; a check passes where
// so large a share of the images agrees.  What is wrong differs on every image; but a float next to a sign's threshold
// may fall on its other side by rounding, and change a single image.
constexpr double kClose = 1e-2;
constexpr double kLeastAgreement = 0.5;

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  char text[8192];  // a path and a few words fit
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  bnncc::host::print_error(text);
  bnncc::host::print_error("\n");
  exit(2);
}

double absolute(double x) { return x < 0 ? -x : x; }

void* allocate(size_t size) {
  void* const memory = malloc(size);
  if (memory == nullptr) fail("out of memory");
  return memory;
}

// The path of the file `name` in the folder of `path`.
const char* beside(const char* path, const char* name) {
  const char* const slash = strrchr(path, '/');
  const size_t length = slash == nullptr ? 0 : static_cast<size_t>(slash + 1 - path);
  const size_t size = length + strlen(name) + 1;
  char* const found = static_cast<char*>(allocate(size));
  memcpy(found, path, length);
  memcpy(found + length, name, size - length);
  return found;
}

const char* model_of_this_folder() {
  char path[4096];
  bnncc::host::program_path(path, sizeof(path));
  return beside(path, "model.tflite");
}

struct Content {
  char* bytes;  // a zero follows
  long size;
};

// Null where there is no such file.
Content read(const char* path) {
  FILE* const file = fopen(path, "rb");
  if (file == nullptr) return {nullptr, 0};
  fseek(file, 0, 2);
  const long size = ftell(file);
  if (size < 0) fail("%s cannot be read", path);
  fseek(file, 0, 0);
  char* const bytes = static_cast<char*>(allocate(static_cast<size_t>(size) + 1));
  if (fread(bytes, 1, static_cast<size_t>(size), file) != static_cast<size_t>(size)) fail("%s cannot be read", path);
  fclose(file);
  bytes[size] = '\0';
  return {bytes, size};
}

// [count, size] of some type, of a .npy file of any shape.
struct Rows {
  const char* values;
  int64_t count;
  int64_t size;
};

int64_t element_size(bnncc::abi::Type type) {
  return type == bnncc::abi::kUInt8 || type == bnncc::abi::kInt8 ? 1 : static_cast<int64_t>(sizeof(float));
}

Rows read_rows(const char* path, bnncc::abi::Type type) {
  const Content file = read(path);
  if (file.bytes == nullptr) fail("%s cannot be opened", path);
  constexpr long kPrefix = 10;  // the magic string, two bytes of version, two of the header's length
  if (file.size < kPrefix || memcmp(file.bytes, "\x93NUMPY\x01", 7) != 0) fail("%s is no .npy file", path);
  const unsigned char* const length = reinterpret_cast<const unsigned char*>(file.bytes + 8);
  const long begin = kPrefix + length[0] + 256 * length[1];
  if (begin > file.size) fail("%s is cut off", path);
  char* const header = file.bytes + kPrefix;
  file.bytes[begin - 1] = '\0';  // a newline
  const char* at = strstr(header, "'shape': (");
  const char* const wanted = type == bnncc::abi::kUInt8 ? "'|u1'" : type == bnncc::abi::kInt8 ? "'|i1'" : "'<f4'";
  const char* const name = type == bnncc::abi::kUInt8 ? "uint8" : type == bnncc::abi::kInt8 ? "int8" : "float32";
  if (strstr(header, wanted) == nullptr || strstr(header, "'fortran_order': False") == nullptr || at == nullptr) {
    fail("%s does not hold %s in C order", path, name);
  }
  Rows rows = {nullptr, -1, 1};
  const int64_t most = (file.size - begin) / element_size(type);
  for (at += strlen("'shape': ("); *at >= '0' && *at <= '9'; at += *at == ',' ? 1 : 0, at += *at == ' ' ? 1 : 0) {
    char* end;
    const int64_t size = strtol(at, &end, 10);
    if (size > most) fail("%s is cut off", path);
    if (rows.count < 0)
      rows.count = size;
    else
      rows.size = rows.size > most ? rows.size : rows.size * size;
    at = end;
  }
  if (rows.count < 1 || rows.size < 1 || rows.count > most / rows.size) fail("%s is empty or cut off", path);
  const size_t bytes = static_cast<size_t>(rows.count * rows.size * element_size(type));
  char* const values = static_cast<char*>(allocate(bytes));
  memcpy(values, file.bytes + begin, bytes);
  rows.values = values;
  return rows;
}

class Network {
 public:
  Network(const char* path, int threads) : path_(path) {
    const Content file = read(path);
    if (file.bytes == nullptr) fail("%s cannot be opened", path);
    if (bnncc::is_damaged(file.bytes, static_cast<size_t>(file.size))) {
      fail("%s is damaged: its bytes are not those of the digest that it carries; copy it again", path);
    }
    interpreter_ =
        bnncc::Interpreter::create_from(file.bytes, static_cast<size_t>(file.size), threads, error_, sizeof(error_));
    if (interpreter_ == nullptr) fail("%s: %s", path, error_);
    if (interpreter_->inputs() != 1) fail("the network takes several inputs");
    const bnncc::abi::Tensor& input = interpreter_->input(0);
    batch_ = input.dims->size == 0 ? 1 : input.dims->data[0];
    input_size_ = elements(input);
    input_type_ = input.type;
    if (input.type == bnncc::abi::kInt32) fail("the network takes int32, no images");
    if (interpreter_->outputs() < 1) fail("the network has no outputs");
    const bnncc::abi::Tensor& logits = interpreter_->output(0);
    if (logits.dims->size == 2 && logits.dims->data[1] > 1) classes_ = elements(logits);
    yields_class_ = logits.dims->size == 1 && logits.type == bnncc::abi::kInt32;
    if (logits.type != bnncc::abi::kInt32 && logits.params.scale > 0) {
      scale_ = static_cast<double>(logits.params.scale);
      zero_point_ = logits.params.zero_point;
    }
    for (int i = 0; i < interpreter_->outputs(); ++i) output_size_ += elements(interpreter_->output(i));
    outputs_ = static_cast<float*>(allocate(sizeof(float) * static_cast<size_t>(output_size_)));
  }

  // The path of a file of the network's folder.
  const char* beside(const char* name) const { return ::beside(path_, name); }

  // Numbers of one image's input, and of its outputs; how many of the latter are logits, 0 where they are none.
  int64_t input_size() const { return input_size_; }
  int64_t output_size() const { return output_size_; }
  int64_t classes() const { return classes_; }
  // Whether the first output is the class itself.
  bool yields_class() const { return yields_class_; }
  bnncc::abi::Type input_type() const { return input_type_; }
  // What a number of the first output stands for.
  double score(float number) const { return scale_ * (static_cast<double>(number) - zero_point_); }

  // Image `index` of `images`; a batch is filled with it.
  void set(const Rows& images, int64_t index) {
    char* const input = static_cast<char*>(interpreter_->input(0).data);
    const size_t size = static_cast<size_t>(input_size_ * element_size(input_type_));
    const char* const image = images.values + static_cast<size_t>(index) * size;
    for (int i = 0; i < batch_; ++i) memcpy(input + static_cast<size_t>(i) * size, image, size);
  }

  void invoke() {
    if (!interpreter_->invoke()) fail("the network cannot run: %s", error_);
  }

  // All outputs of one image, one behind the other; valid until the next call.
  const float* run(const Rows& images, int64_t index) {
    set(images, index);
    invoke();
    float* at = outputs_;
    for (int i = 0; i < interpreter_->outputs(); ++i) {
      const bnncc::abi::Tensor& tensor = interpreter_->output(i);
      for (int64_t k = 0; k < elements(tensor); ++k) *at++ = number(tensor, k);
    }
    return outputs_;
  }

 private:
  // Of one image.
  int64_t elements(const bnncc::abi::Tensor& tensor) const {
    const bool is_known = tensor.type == bnncc::abi::kFloat32 || tensor.type == bnncc::abi::kInt32 ||
                          tensor.type == bnncc::abi::kUInt8 || tensor.type == bnncc::abi::kInt8;
    if (!is_known) fail("the network's inputs and outputs must be float32, int32 or bytes");
    return static_cast<int64_t>(tensor.bytes) / element_size(tensor.type) / batch_;
  }

  static float number(const bnncc::abi::Tensor& tensor, int64_t index) {
    switch (tensor.type) {
      case bnncc::abi::kUInt8: return static_cast<float>(static_cast<const uint8_t*>(tensor.data)[index]);
      case bnncc::abi::kInt8: return static_cast<float>(static_cast<const int8_t*>(tensor.data)[index]);
      case bnncc::abi::kInt32: return static_cast<float>(static_cast<const int32_t*>(tensor.data)[index]);
      default: return static_cast<const float*>(tensor.data)[index];
    }
  }

  const char* path_;
  bnncc::Interpreter* interpreter_ = nullptr;
  char error_[512] = "";
  int batch_ = 1;
  int64_t input_size_ = 0;
  int64_t output_size_ = 0;
  int64_t classes_ = 0;
  bool yields_class_ = false;
  bnncc::abi::Type input_type_ = bnncc::abi::kFloat32;
  double scale_ = 1;
  int zero_point_ = 0;
  float* outputs_ = nullptr;
};

int64_t largest(const float* values, int64_t count) {
  int64_t found = 0;
  for (int64_t i = 1; i < count; ++i) found = values[i] > values[found] ? i : found;
  return found;
}

// Prints line `index` of labels.txt, or the number where there is none.
void print_label(const char* labels, int64_t index) {
  for (int64_t line = 0; labels != nullptr && *labels != '\0'; ++line) {
    const char* const end = strchr(labels, '\n');
    const int length = static_cast<int>(end == nullptr ? strlen(labels) : static_cast<size_t>(end - labels));
    if (line == index) {
      printf("%.*s\n", length, labels);
      return;
    }
    labels += length + (end == nullptr ? 0 : 1);
  }
  printf("%lld\n", static_cast<long long>(index));
}

Rows read_images(const char* path, const Network& network) {
  const Rows images = read_rows(path, network.input_type());
  if (images.size != network.input_size()) {
    fail("%s: images of %lld numbers, and the network takes %lld", path, static_cast<long long>(images.size),
         static_cast<long long>(network.input_size()));
  }
  return images;
}

void classify(Network* network, const char* path, long top) {
  const Rows images = read_images(path, *network);
  if (network->classes() == 0 && !network->yields_class()) fail("the network's output is no row of logits");
  const char* const labels = read(network->beside("labels.txt")).bytes;
  bool* const printed = static_cast<bool*>(allocate(static_cast<size_t>(network->classes())));
  for (int64_t image = 0; image < images.count; ++image) {
    const float* const logits = network->run(images, image);
    printf("%s: image %lld\n", path, static_cast<long long>(image));
    if (network->yields_class()) {
      printf("%12s  ", "");
      print_label(labels, static_cast<int64_t>(logits[0]));
    }
    for (int64_t i = 0; i < network->classes(); ++i) printed[i] = false;
    for (long rank = 0; rank < top && rank < network->classes(); ++rank) {
      int64_t best = -1;
      for (int64_t i = 0; i < network->classes(); ++i) {
        if (!printed[i] && (best < 0 || logits[i] > logits[best])) best = i;
      }
      printed[best] = true;
      printf("%12.4f  ", network->score(logits[best]));
      print_label(labels, best);
    }
  }
}

bool check(Network* network) {
  const Rows images = read_images(network->beside("check_images.npy"), *network);
  const Rows wanted = read_rows(network->beside("check_outputs.npy"), bnncc::abi::kFloat32);
  if (wanted.count != images.count || wanted.size != network->output_size()) fail("check_outputs.npy does not fit");
  const float* const outputs = reinterpret_cast<const float*>(wanted.values);  // allocated for floats
  double scale = 0;
  for (int64_t i = 0; i < wanted.count * wanted.size; ++i) {
    scale = absolute(outputs[i]) > scale ? absolute(outputs[i]) : scale;
  }
  int64_t same = 0;
  int64_t close = 0;
  double worst = 0;
  for (int64_t image = 0; image < images.count; ++image) {
    const float* const found = network->run(images, image);
    const float* const expected = outputs + image * wanted.size;
    double error = 0;
    for (int64_t i = 0; i < wanted.size; ++i) {
      const double difference = absolute(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
      error = difference <= error ? error : difference;  // a NaN counts
    }
    worst = error <= worst ? worst : error;
    close += error <= kClose * scale;
    same += largest(found, network->classes()) == largest(expected, network->classes());
  }
  const long long count = images.count;
  const bool passed = static_cast<double>(close) >= kLeastAgreement * static_cast<double>(count);
  printf("images            %lld of check_images.npy\n", count);
  if (network->classes() > 0) printf("same class        %lld of %lld images\n", static_cast<long long>(same), count);
  printf("same outputs      %lld of %lld images, to %.0f%% of the largest output\n", static_cast<long long>(close),
         count, 100 * kClose);
  printf("largest error     %.1e (the largest output is %.3g)\n", worst, scale);
  printf("check             %s\n", passed ? "passed" : "FAILED");
  return passed;
}

int compare(const void* a, const void* b) {
  const double difference = *static_cast<const double*>(a) - *static_cast<const double*>(b);
  return difference < 0 ? -1 : difference > 0;
}

void bench(Network* network, long runs) {
  const Rows images = read_images(network->beside("check_images.npy"), *network);
  double* const milliseconds = static_cast<double*>(allocate(sizeof(double) * static_cast<size_t>(runs)));
  network->set(images, 0);
  for (long run = -kWarmUp; run < runs; ++run) {
    const double started = bnncc::host::seconds();
    network->invoke();
    if (run >= 0) milliseconds[run] = 1e3 * (bnncc::host::seconds() - started);
  }
  qsort(milliseconds, static_cast<size_t>(runs), sizeof(double), compare);
  printf("latency           %.3f ms, median of %ld runs (10 %% to 90 %%: %.3f to %.3f ms)\n", milliseconds[runs / 2],
         runs, milliseconds[runs / 10], milliseconds[runs * 9 / 10]);
}

long number(const char* option, const char* text) {
  char* end = nullptr;
  const long value = text == nullptr ? 0 : strtol(text, &end, 10);
  if (value < 1 || value > 10000 || *end != '\0') fail("%s takes a number from 1 to 10000", option);
  return value;
}

}  // namespace

extern "C" int main(int argc, char** argv) {
  const char* images = nullptr;
  const char* model = nullptr;
  bool checks = false;
  bool measures = false;
  long threads = 4;
  long top = 5;
  long runs = 50;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--check") == 0) {
      checks = true;
    } else if (strcmp(argv[i], "--bench") == 0) {
      measures = true;
    } else if (strcmp(argv[i], "--model") == 0) {
      model = argv[i + 1];
      if (model == nullptr) fail("--model takes a file");
      ++i;
    } else if (strcmp(argv[i], "--threads") == 0) {
      threads = number(argv[i], argv[i + 1]);
      ++i;
    } else if (strcmp(argv[i], "--top") == 0) {
      top = number(argv[i], argv[i + 1]);
      ++i;
    } else if (strcmp(argv[i], "--runs") == 0) {
      runs = number(argv[i], argv[i + 1]);
      ++i;
    } else if (argv[i][0] != '-' && images == nullptr) {
      images = argv[i];
    } else {
      images = nullptr;
      checks = measures = false;
      break;
    }
  }
  if (images == nullptr && !checks && !measures) {
    fail("bnncc_run images.npy | --check | --bench [--model FILE] [--threads N] [--top N] [--runs N]");
  }
  Network network(model == nullptr ? model_of_this_folder() : model, static_cast<int>(threads));
  if (images != nullptr) classify(&network, images, top);
  bool passed = true;
  if (checks || measures) {
    char name[bnncc::host::kLongestName];
    bnncc::host::device_name(name);
    printf("device            %s, %ld threads\n", name, threads);
  }
  if (checks) passed = check(&network);
  if (measures) bench(&network, runs);
  exit(passed ? 0 : kCheckFailed);
}
