// TensorFlow Lite's AVERAGE_POOL_2D and MAX_POOL_2D of 8-bit integers: over the positions of a window that lie in the
// map.  The output has the input's scale; an average is rounded to the nearest integer, ties away from 0, as in the
// reference kernel.
#include "builtin_operator.h"
#include "integers.h"
#include "pool2d.h"

namespace bnncc {
namespace {

class IntegerPool2d final : public Pool2d {
 public:
  int32_t code = 0;

  const char* name() const override { return is_average() ? "AVERAGE_POOL_2D" : "MAX_POOL_2D"; }

  const char* parse(const abi::Node& node) override { return parse_pool(node, &options_); }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& y = preparation.value(output);
    if (x.type != abi::kInt8 || y.type != abi::kInt8 || x.shape.rank != 4) {
      return preparation.fail("its input is no map [N, H, W, C] of int8");
    }
    Scale from;
    Scale scale;
    if (!from.read(preparation, x) || !scale.read(preparation, y)) return false;
    if (!(from == scale)) return preparation.fail("its output has another scale");
    // A sum is an int32.
    if (checked_product(options_.filter_height, options_.filter_width) > INT32_MAX / 256 ||
        checked_product(options_.filter_height, options_.filter_width) < 0) {
      return preparation.fail("its windows are too large");
    }
    bounds_ = output_of(options_.activation, scale);
    kernels_ = preparation.kernels();
    return Pool2d::slide_windows(preparation, mode_of(options_.padding), options_);
  }

  void run(const Tile& tile) const override {
    for_windows<int8_t>(tile, [this](const Windows<int8_t>& windows) {
      int8_t* y = windows.y;
      for (int64_t i = 0; i < windows.count; ++i, y += channels()) {
        const ByteWindow window = {windows.x + i * windows.x_step, windows.x_row, windows.rows, windows.columns};
        (is_average() ? kernels_->average_bytes : kernels_->maximum_bytes)(window, channels(), y);
      }
      if (bounds_.least == -128 && bounds_.most == 127) return;
      for (int8_t* q = windows.y; q < y; ++q) {
        *q = static_cast<int8_t>(min<int32_t>(max<int32_t>(*q, bounds_.least), bounds_.most));
      }
    });
  }

 private:
  bool is_average() const { return code == abi::kBuiltinAveragePool2d; }

  abi::PoolParams options_ = {};
  IntegerOutput bounds_;
  const Kernels* kernels_ = nullptr;
};

}  // namespace

Operator* create_integer_pool2d(int32_t code) { return create_with_code<IntegerPool2d>(code); }

}  // namespace bnncc
