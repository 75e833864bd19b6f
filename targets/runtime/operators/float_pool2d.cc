// TensorFlow Lite's AVERAGE_POOL_2D and MAX_POOL_2D on float feature maps: positions that SAME adds do not count.
#include "builtin_operator.h"
#include "pool2d.h"

namespace bnncc {
namespace {

class FloatPool2d final : public Pool2d {
 public:
  int32_t code = 0;

  const char* name() const override { return is_average() ? "AVERAGE_POOL_2D" : "MAX_POOL_2D"; }

  const char* parse(const abi::Node& node) override {
    if (node.builtin_data == nullptr) return "it has no options";
    options_ = *static_cast<const abi::PoolParams*>(node.builtin_data);
    if (options_.stride_width < 1 || options_.stride_height < 1) return "a stride is not positive";
    if (options_.filter_width < 1 || options_.filter_height < 1) return "a filter size is not positive";
    if (options_.padding != abi::kPaddingSame && options_.padding != abi::kPaddingValid) return "its padding is unknown";
    return read_activation(options_.activation, &clamp_) ? nullptr : "its activation is unknown";
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (!is_float_map(x) || x.shape.rank != 4) return preparation.fail("its input is not a float32 feature map");
    const PaddingMode padding = options_.padding == abi::kPaddingSame ? PaddingMode::kSame : PaddingMode::kValid;
    return slide_windows(preparation, padding, options_);
  }

  void run(const Tile& tile) const override {
    if (is_average()) {
      const auto join = [this](const float* x, float* y) { combine(Combination::kSum, y, row(x), FloatClamp()); };
      const auto finish = [this](int64_t count, float* y) {
        const float divisor = static_cast<float>(count);
        combine(Combination::kQuotient, y, {&divisor, 0, 0}, clamp_);
      };
      pool<float>(tile, 0, join, finish);
    } else {
      constexpr int kNan = 0xff;  // its bytes; no comparison with it holds, so that it gives way to the first element
      const auto join = [this](const float* x, float* y) { combine(Combination::kMaximum, y, row(x), FloatClamp()); };
      const auto finish = [this](int64_t, float* y) {
        if (clamp_.clamps) combine(Combination::kFirst, y, row(y), clamp_);
      };
      pool<float>(tile, kNan, join, finish);
    }
  }

 private:
  bool is_average() const { return code == abi::kBuiltinAveragePool2d; }

  Operand row(const float* x) const { return {x, channels(), 1}; }

  // y = clamp(y ∘ b), of one pixel.
  void combine(Combination combination, float* y, const Operand& b, const FloatClamp& clamp) const {
    const ChainStep step = {combination, b, clamp, y};
    kernels_->run_chain(row(y), &step, 1, 1, channels());
  }

  abi::PoolParams options_ = {};
  FloatClamp clamp_;
  const Kernels* kernels_ = nullptr;
};

}  // namespace

Operator* create_float_pool2d(int32_t code) { return create_with_code<FloatPool2d>(code); }

}  // namespace bnncc
