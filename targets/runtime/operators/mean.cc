// TensorFlow Lite's MEAN of a float feature map over its height and width, among LCE's operators: what gates of channels
// and a network's last layer read.
//
// It differs from the interpreter's kernel in the order in which a sum is rounded.
#include "builtin_operator.h"

namespace bnncc {
namespace {

class Mean final : public Operator {
 public:
  const char* name() const override { return "MEAN"; }

  const char* parse(const abi::Node& node) override {
    if (node.builtin_data == nullptr) return "it has no options";
    options_ = *static_cast<const abi::ReducerParams*>(node.builtin_data);
    return nullptr;
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 2) return preparation.fail("it has %d inputs instead of 2", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (!is_float_map(x) || x.shape.rank != 4) return preparation.fail("its input is not a float32 feature map");
    if (preparation.value(output).type != abi::kFloat32) return preparation.fail("its output is not float32");
    const int32_t* const axes = preparation.constant<int32_t>(inputs[1], abi::kInt32, 2);
    if (axes == nullptr || !are_height_and_width(axes)) {
      return preparation.fail("its axes are not the constants 1 and 2");
    }
    images_ = x.shape.dims[0];
    pixels_ = static_cast<int64_t>(x.shape.dims[1]) * x.shape.dims[2];
    channels_ = x.shape.channels();
    const Shape whole = {4, {x.shape.dims[0], 1, 1, x.shape.channels()}};
    const Shape flat = {2, {x.shape.dims[0], x.shape.channels()}};
    return preparation.set_shape(output, options_.keep_dims ? whole : flat);
  }

  Locality locality() const override { return {0, 0}; }

  // So many channels of an image.
  int64_t parts() const override { return images_ * image_parts(); }

  void run(const Tile& tile) const override {
    for (int64_t part = tile.begin; part < tile.end; ++part) {
      const int64_t image = part / image_parts();
      const int64_t channel = part % image_parts() * kPartChannels;
      const float* const x = tile.all<float>(inputs[0]) + image * pixels_ * channels_ + channel;
      float* const y = tile.whole<float>(output) + image * channels_ + channel;
      take_mean(x, min(kPartChannels, channels_ - channel), y);
    }
  }

 private:
  static constexpr int64_t kPartChannels = 32;  // two lines of the cache

  static bool are_height_and_width(const int32_t* axes) {
    unsigned found = 0;
    for (int i = 0; i < 2; ++i) found |= axes[i] >= -4 && axes[i] < 4 ? 1u << (axes[i] & 3) : 0;
    return found == 0b0110;
  }

  int64_t image_parts() const { return ceil_div(channels_, kPartChannels); }

  // Pixels are the operands of chains, each of which goes on with the sum of the one before.
  void take_mean(const float* x, int64_t channels, float* y) const {
    const float count = static_cast<float>(pixels_);
    Operand sum = {x, 0, 1};
    for (int64_t pixel = 1;;) {
      ChainStep steps[kMostChained];
      int size = 0;
      for (; pixel < pixels_ && size + 1 < kMostChained; ++pixel) {
        steps[size++] = {Combination::kSum, {x + pixel * channels_, 0, 1}, FloatClamp(), nullptr};
      }
      const bool is_last = pixel == pixels_;
      if (is_last) steps[size++] = {Combination::kQuotient, {&count, 0, 0}, FloatClamp(), nullptr};
      steps[size - 1].y = y;
      kernels_->run_chain(sum, steps, size, 1, channels);
      if (is_last) return;
      sum = {y, 0, 1};
    }
  }

  abi::ReducerParams options_ = {};
  const Kernels* kernels_ = nullptr;
  int64_t images_ = 0;
  int64_t pixels_ = 0;
  int64_t channels_ = 0;
};

}  // namespace

Operator* create_mean(int32_t) { return create<Mean>(); }

}  // namespace bnncc
