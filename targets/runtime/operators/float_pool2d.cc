// TensorFlow Lite's AVERAGE_POOL_2D and MAX_POOL_2D on float feature maps: positions that SAME adds do not count.
#include "pool2d.h"

namespace bnncc {
namespace {

class FloatPool2d : public Pool2d {
 public:
  const char* parse(const abi::Node& node) override {
    if (node.builtin_data == nullptr) return "it has no options";
    options_ = *static_cast<const abi::PoolParams*>(node.builtin_data);
    if (options_.stride_width < 1 || options_.stride_height < 1) return "a stride is not positive";
    if (options_.filter_width < 1 || options_.filter_height < 1) return "a filter size is not positive";
    return nullptr;
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (x.type != abi::kFloat32 || x.shape.rank != 4) return preparation.fail("its input is not a float32 feature map");
    const PaddingMode padding = options_.padding == abi::kPaddingSame ? PaddingMode::kSame : PaddingMode::kValid;
    return slide_windows(preparation, padding, options_);
  }

 protected:
  const Kernels& kernels() const { return *kernels_; }

 private:
  abi::PoolParams options_ = {};
  const Kernels* kernels_ = nullptr;
};

class AveragePool2d final : public FloatPool2d {
 public:
  const char* name() const override { return "AVERAGE_POOL_2D"; }

  void run(const Tile& tile) const override {
    pool<float>(tile, [this](const Held<float>& held, float* y) {
      memset(y, 0, static_cast<size_t>(channels()) * sizeof(*y));
      for (int64_t line = 0; line < held.lines; ++line) {
        const float* x = held.x + line * held.step;
        for (int64_t pixel = 0; pixel < held.pixels; ++pixel, x += channels()) kernels().add(y, x, y, channels());
      }
      kernels().divide(y, static_cast<float>(held.lines * held.pixels), y, channels());
    });
  }
};

class MaxPool2d final : public FloatPool2d {
 public:
  const char* name() const override { return "MAX_POOL_2D"; }

  void run(const Tile& tile) const override {
    pool<float>(tile, [this](const Held<float>& held, float* y) {
      kernels().maximum({held.x, held.step, held.lines, held.pixels}, channels(), y);
    });
  }
};

}  // namespace

Operator* create_average_pool2d() { return create<AveragePool2d>(); }
Operator* create_max_pool2d() { return create<MaxPool2d>(); }

}  // namespace bnncc
