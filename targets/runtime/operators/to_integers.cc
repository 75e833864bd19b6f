// TensorFlow Lite's QUANTIZE of floats to integers of 8 and 16 bits, after LiteRT's reference kernel, which divides by
// the scale and rounds ties away from 0.
#include "builtin_operator.h"
#include "integers.h"

namespace bnncc {
namespace {

class ToIntegers final : public Operator {
 public:
  const char* name() const override { return "QUANTIZE"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& y = preparation.value(output);
    if (x.type != abi::kFloat32) return preparation.fail("its input is not float32");
    // The interpreter makes it once.
    if (x.constant != nullptr) return preparation.fail("its input is a constant");
    if (!read_scale(preparation, y, true, &scale_)) return false;
    is_short_ = y.type == abi::kInt16;
    channels_ = x.shape.channels();
    kernels_ = preparation.kernels();
    return preparation.set_shape(output, x.shape);
  }

  void run(const Tile& tile) const override {
    const float* const x = tile.rows<float>(inputs[0]);
    const int64_t size = tile.pixels() * channels_;
    if (is_short_) return kernels_->quantize_shorts(x, scale_, size, tile.rows<int16_t>(output));
    kernels_->quantize_bytes(x, scale_, size, tile.rows<uint8_t>(output));
  }

 private:
  IntegerScale scale_ = {};
  int64_t channels_ = 0;
  bool is_short_ = false;  // 16 bits
  const Kernels* kernels_ = nullptr;
};

}  // namespace

Operator* create_to_integers(int32_t) { return create<ToIntegers>(); }

}  // namespace bnncc
