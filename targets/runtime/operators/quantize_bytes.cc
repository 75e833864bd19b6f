// TensorFlow Lite's QUANTIZE of floats to 8-bit integers, after LiteRT's reference kernel, which divides by the scale
// and rounds ties away from 0.
#include "builtin_operator.h"
#include "integers.h"

namespace bnncc {
namespace {

class QuantizeBytes final : public Operator {
 public:
  const char* name() const override { return "QUANTIZE"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& y = preparation.value(output);
    if (x.type != abi::kFloat32) return preparation.fail("its input is not float32");
    // The interpreter makes it once.
    if (x.constant != nullptr) return preparation.fail("its input is a constant");
    Scale scale;
    if (!scale.read(preparation, y)) return false;
    scale_ = {scale.scale, scale.zero_point, y.type == abi::kUInt8};
    channels_ = x.shape.channels();
    quantize_ = preparation.kernels()->quantize_bytes;
    return preparation.set_shape(output, x.shape);
  }

  void run(const Tile& tile) const override {
    quantize_(tile.rows<float>(inputs[0]), scale_, tile.pixels() * channels_, tile.rows<uint8_t>(output));
  }

 private:
  ByteScale scale_ = {};
  int64_t channels_ = 0;
  decltype(Kernels::quantize_bytes) quantize_ = nullptr;
};

}  // namespace

Operator* create_quantize_bytes(int32_t) { return create<QuantizeBytes>(); }

}  // namespace bnncc
