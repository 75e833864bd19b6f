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
    constexpr int kAllBits = 0xff;
    pool<uint32_t>(tile, [this](const Held<uint32_t>& held, uint32_t* y) {
      memset(y, kAllBits, static_cast<size_t>(channels()) * sizeof(*y));
      for (int64_t line = 0; line < held.lines; ++line) {
        const uint32_t* x = held.x + line * held.step;
        for (int64_t pixel = 0; pixel < held.pixels; ++pixel, x += channels()) {
          for (int64_t word = 0; word < channels(); ++word) y[word] &= x[word];
        }
      }
    });
  }

 private:
  BMaxPool2dOptions options_;
};

}  // namespace

Operator* create_bmaxpool2d() { return create<BMaxPool2d>(); }

}  // namespace bnncc
