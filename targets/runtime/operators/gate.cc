// TensorFlow Lite's HARD_SWISH and LOGISTIC of float tensors, among LCE's operators; they differ from the interpreter's
// kernels in the last bits.
#include "builtin_operator.h"

namespace bnncc {
namespace {

class Gate final : public Operator {
 public:
  int32_t code = 0;

  const char* name() const override { return code == abi::kBuiltinLogistic ? "LOGISTIC" : "HARD_SWISH"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (x.type != abi::kFloat32) return preparation.fail("its input is not float32");
    if (preparation.value(output).type != abi::kFloat32) return preparation.fail("its output is not float32");
    channels_ = x.shape.channels();
    return preparation.set_shape(output, x.shape);
  }

  void run(const Tile& tile) const override {
    const auto function = code == abi::kBuiltinLogistic ? kernels_->logistic : kernels_->hard_swish;
    function(tile.rows<float>(inputs[0]), tile.rows<float>(output), tile.pixels() * channels_);
  }

 private:
  const Kernels* kernels_ = nullptr;
  int64_t channels_ = 0;
};

}  // namespace

Operator* create_gate(int32_t code) { return create_with_code<Gate>(code); }

}  // namespace bnncc
