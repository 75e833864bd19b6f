// TensorFlow Lite's CONV_2D of float maps with constant filters, among LCE's operators: the first convolution of a
// network, and those that its author left in float.
//
// It differs from the interpreter's kernel in the order in which a sum is rounded.
#include "../float_convolution.h"
#include "builtin_operator.h"

namespace bnncc {
namespace {

class Conv2d final : public Operator {
 public:
  const char* name() const override { return "CONV_2D"; }

  const char* parse(const abi::Node& node) override {
    const char* const problem = parse_convolution(node, &options_);
    if (problem == nullptr) read_activation(options_.activation, &clamp_);
    return problem;
  }

  bool may_be_absent(int index) const override { return index == 2; }

  bool take_padding(const Padding& padding) override {
    if (padding.fill != 0) return false;
    padding_ = padding;
    return true;
  }

  bool prepare(Preparation& preparation) override {
    if (input_count < 2 || input_count > 3) return preparation.fail("it has %d inputs instead of 3", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& filters = preparation.value(inputs[1]);
    if (!is_float_map(x) || x.shape.rank != 4) return preparation.fail("its input is not a float32 feature map");
    const float* const weights = preparation.constant<float>(inputs[1], abi::kFloat32, filters.shape.elements());
    if (weights == nullptr || filters.shape.rank != 4) {
      return preparation.fail("its filters are not a constant float32 tensor of 4 axes");
    }
    const int outputs = filters.shape.dims[0];
    const int64_t groups = groups_of(x.shape.channels(), filters.shape.channels(), outputs);
    if (groups == 0) return preparation.fail("its filters have not the channels of an equal part of the input's");
    const bool has_bias = input_count == 3 && inputs[2] >= 0;
    const float* const bias = has_bias ? preparation.constant<float>(inputs[2], abi::kFloat32, outputs) : nullptr;
    if (has_bias && bias == nullptr) return preparation.fail("its bias is not one constant float32 a filter");
    Window axes[2];
    if (!slide_windows(options_, x.shape, filters.shape, axes, padding_)) {
      return preparation.fail("its filters do not fit its input");
    }
    const int64_t depth = filters.shape.elements() / outputs;
    const auto weight = [=](int64_t o, int64_t k) { return weights[o * depth + k]; };
    if (!convolution_.prepare(preparation.kernels(), x.shape.channels(), axes, outputs, groups, weight, bias, clamp_)) {
      return preparation.fail("out of memory");
    }
    return preparation.set_shape(output, output_of_windows(x.shape, axes, outputs));
  }

  Locality locality() const override { return convolution_.is_pointwise() ? Locality{1, 1} : Locality{0, 0}; }

  int64_t filter_bytes() const override { return convolution_.filter_bytes(); }

  int64_t scratch_bytes(int64_t pixels) const override {
    return checked_product(convolution_.scratch_floats(pixels), sizeof(float));
  }

  bool makes_on_demand() const override { return !convolution_.is_pointwise(); }

  void make(const Tile& tile, int64_t begin, int64_t end, float* y) const override {
    const float* const x = convolution_.is_pointwise() ? tile.rows<float>(inputs[0]) : tile.all<float>(inputs[0]);
    float* const scratch = reinterpret_cast<float*>(tile.scratch + scratch_offset);
    convolution_.run(x, begin, end, 0, convolution_.panels(), scratch, y);
  }

  void run(const Tile& tile) const override { make(tile, tile.begin, tile.end, tile.rows<float>(output)); }

 private:
  abi::ConvParams options_ = {};
  Padding padding_;
  FloatClamp clamp_;
  FloatConvolution convolution_;
};

}  // namespace

Operator* create_conv2d(int32_t) { return create<Conv2d>(); }

}  // namespace bnncc
