// SOFTMAX and LOG_SOFTMAX along the last axis.
#include "../builtin.h"
#include "../libm.h"

namespace bnncc {
namespace {

class Softmax : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(1, 1)) return false;
    if (setup.type(0) != abi::kFloat32) return setup.fail("it does not take this type");
    const Shape x = setup.shape(0);
    if (code == code::kSoftmax) beta_ = setup.options().number<float>(0, 0);
    size_ = x.channels();
    rows_ = x.elements() / size_;
    return setup.set_output(0, abi::kFloat32, x);
  }

  // Less the largest, so that no power overflows.
  void run(const Call& call) const override {
    const float* const from = call.input<float>(0);
    float* const to = call.output<float>(0);
    call.team().run(rows_, [&](int64_t row, int) {
      const float* const x = from + row * size_;
      float* const y = to + row * size_;
      float largest = x[0];
      for (int64_t i = 1; i < size_; ++i) largest = max(largest, x[i]);
      float sum = 0;
      for (int64_t i = 0; i < size_; ++i) {
        y[i] = expf((x[i] - largest) * beta_);
        sum += y[i];
      }
      if (code == code::kSoftmax) {
        for (int64_t i = 0; i < size_; ++i) y[i] /= sum;
      } else {
        const float shift = largest + logf(sum);
        for (int64_t i = 0; i < size_; ++i) y[i] = x[i] - shift;
      }
    });
  }

 private:
  float beta_ = 1;
  int64_t rows_ = 0;
  int64_t size_ = 0;
};

}  // namespace

Builtin* create_softmax(int32_t code) { return create_with_code<Softmax>(code); }

}  // namespace bnncc
