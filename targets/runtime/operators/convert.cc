// TensorFlow Lite's QUANTIZE of floats to 8-bit integers, and DEQUANTIZE of these: after LiteRT's reference kernels, which
// divide by the scale and round ties away from 0.
#include "builtin_operator.h"
#include "integers.h"

namespace bnncc {
namespace {

class Convert final : public Operator {
 public:
  int32_t code = 0;

  const char* name() const override { return is_quantize() ? "QUANTIZE" : "DEQUANTIZE"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& y = preparation.value(output);
    const Value& bytes = is_quantize() ? y : x;
    if ((is_quantize() ? x : y).type != abi::kFloat32) return preparation.fail("it does not convert float32");
    // What no other operator computes, the interpreter makes once.
    if (x.constant != nullptr) return preparation.fail("its input is a constant");
    Scale scale;
    if (!scale.read(preparation, bytes)) return false;
    scale_ = {scale.scale, scale.zero_point, bytes.type == abi::kUInt8};
    channels_ = x.shape.channels();
    kernels_ = preparation.kernels();
    return preparation.set_shape(output, x.shape);
  }

  void run(const Tile& tile) const override {
    const int64_t size = tile.pixels() * channels_;
    if (is_quantize()) {
      kernels_->quantize_bytes(tile.rows<float>(inputs[0]), scale_, size, tile.rows<uint8_t>(output));
    } else {
      kernels_->dequantize_bytes(tile.rows<uint8_t>(inputs[0]), scale_, size, tile.rows<float>(output));
    }
  }

 private:
  bool is_quantize() const { return code == abi::kBuiltinQuantize; }

  ByteScale scale_ = {};
  int64_t channels_ = 0;
  const Kernels* kernels_ = nullptr;
};

}  // namespace

Operator* create_convert(int32_t code) { return create_with_code<Convert>(code); }

}  // namespace bnncc
