// TOPK_V2: the largest elements along the last axis, largest first, and their indices; of equals the first.
#include "../builtin.h"

namespace bnncc {
namespace {

// Keeps the largest `count` of the elements in order; both outputs have room for so many.
template <typename T>
void find_largest(const void* x, int64_t size, int32_t count, void* values, int32_t* indices) {
  const T* const from = static_cast<const T*>(x);
  T* const to = static_cast<T*>(values);
  int32_t held = 0;
  for (int64_t i = 0; i < size; ++i) {
    const T value = from[i];
    if (held == count && !(value > to[count - 1])) continue;
    int32_t place = held < count ? held++ : count - 1;
    for (; place > 0 && value > to[place - 1]; --place) {
      to[place] = to[place - 1];
      indices[place] = indices[place - 1];
    }
    to[place] = value;
    indices[place] = static_cast<int32_t>(i);
  }
}

class TopK : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 2)) return false;
    const abi::Type type = setup.type(0);
    if (type != abi::kFloat32 && type != abi::kInt32) return setup.fail("it does not take this type");
    function_ = type == abi::kFloat32 ? find_largest<float> : find_largest<int32_t>;
    Shape y = setup.shape(0);
    const int32_t* const given = setup.constant<int32_t>(1, abi::kInt32, 1);
    if (given == nullptr) return false;
    if (y.rank == 0) return setup.fail("its input has no axis");
    size_ = y.channels();
    if (*given < 1 || *given > size_) return setup.fail("there are not so many elements");
    count_ = *given;
    rows_ = y.elements() / size_;
    y.dims[y.rank - 1] = count_;
    return setup.set_output(0, type, y) && setup.set_output(1, abi::kInt32, y);
  }

  void run(const Call& call) const override {
    const char* const x = call.input<char>(0);
    char* const values = call.output<char>(0);
    int32_t* const indices = call.output<int32_t>(1);
    call.team().run(rows_, [&](int64_t row, int) {
      function_(x + 4 * row * size_, size_, count_, values + 4 * row * count_, indices + row * count_);
    });
  }

 private:
  void (*function_)(const void*, int64_t, int32_t, void*, int32_t*) = nullptr;
  int64_t rows_ = 0;
  int64_t size_ = 0;
  int32_t count_ = 0;
};

}  // namespace

Builtin* create_top_k(int32_t code) { return create_with_code<TopK>(code); }

}  // namespace bnncc
