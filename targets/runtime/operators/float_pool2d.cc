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
    const char* const problem = parse_pool(node, &options_);
    return problem != nullptr || read_activation(options_.activation, &clamp_) ? problem : "its activation is unknown";
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (!is_float_map(x) || x.shape.rank != 4) return preparation.fail("its input is not a float32 feature map");
    return Pool2d::slide_windows(preparation, mode_of(options_.padding), options_);
  }

  // A window's pixels are operands of one chain; what is left of large ones are further chains.
  void run(const Tile& tile) const override {
    for_windows<float>(tile, [this](const Windows<float>& windows) {
      const float size = static_cast<float>(windows.rows * windows.columns);
      const Combination join = is_average() ? Combination::kSum : Combination::kMaximum;
      const ChainStep last = is_average() ? ChainStep{Combination::kQuotient, {&size, 0, 0}, clamp_, windows.y}
                                          : ChainStep{Combination::kFirst, {&size, 0, 0}, clamp_, windows.y};
      Operand x = {windows.x, windows.x_step, 1};
      ChainStep steps[kMostChained];
      int count = 0;
      for (int64_t i = 1; i < windows.rows * windows.columns; ++i) {
        const int64_t offset = i / windows.columns * windows.x_row + i % windows.columns * channels();
        steps[count++] = {join, {windows.x + offset, windows.x_step, 1}, FloatClamp(), nullptr};
        if (count + 1 < kMostChained) continue;
        steps[count - 1].y = windows.y;
        kernels_->run_chain(x, steps, count, windows.count, channels());
        x = {windows.y, channels(), 1};
        count = 0;
      }
      steps[count++] = last;
      kernels_->run_chain(x, steps, count, windows.count, channels());
    });
  }

 private:
  bool is_average() const { return code == abi::kBuiltinAveragePool2d; }

  abi::PoolParams options_ = {};
  FloatClamp clamp_;
  const Kernels* kernels_ = nullptr;
};

}  // namespace

Operator* create_float_pool2d(int32_t code) { return create_with_code<FloatPool2d>(code); }

}  // namespace bnncc
