// LceBMaxPool2d: the largest of ±1 values is -1 only where all are, so it is the bitwise AND over the window.
#include "../options.h"
#include "pool2d.h"

namespace bnncc {
namespace {

class BMaxPool2d final : public Pool2d {
 public:
  const char* name() const override { return "LceBMaxPool2d"; }

  const char* parse(const abi::Node& node) override {
    return bnncc::parse(node.custom_initial_data, static_cast<size_t>(max(node.custom_initial_data_size, 0)),
                        &options_);
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    if (x.type != abi::kInt32 || preparation.value(output).type != abi::kInt32) {
      return preparation.fail("its input and output are not both int32");
    }
    if (x.shape.rank != 4) return preparation.fail("its input has %d axes instead of 4", x.shape.rank);
    return slide_windows(preparation, options_.padding, options_);
  }

  void run(const Tile& tile) const override {
    for_windows<uint32_t>(tile, [this](const Windows<uint32_t>& windows) {
      for (int64_t i = 0; i < windows.count; ++i)
        join(windows, windows.x + i * windows.x_step, windows.y + i * channels());
    });
  }

 private:
  // The AND of one window, from `x` on.
  void join(const Windows<uint32_t>& windows, const uint32_t* x, uint32_t* y) const {
    for (int64_t word = 0; word < channels(); ++word) y[word] = ~uint32_t{0};
    for (int64_t row = 0; row < windows.rows; ++row) {
      for (int64_t i = 0; i < windows.columns * channels(); ++i) y[i % channels()] &= x[row * windows.x_row + i];
    }
  }

  BMaxPool2dOptions options_;
};

}  // namespace

Operator* create_bmaxpool2d() { return create<BMaxPool2d>(); }

}  // namespace bnncc
