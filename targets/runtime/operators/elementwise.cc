// TensorFlow Lite's operators of one or two float tensors, element by element: arithmetic with its fused activation,
// MAXIMUM, MINIMUM, PRELU, the RELU family, ABS, NEG.
//
// Each computes what the interpreter's kernel computes, one rounding a step.  Operands broadcast: a map of the output's
// shape, a number for each channel or for each pixel, one number, constant or computed.
#include "builtin_operator.h"

namespace bnncc {
namespace {

struct Function {
  int32_t code;
  const char* name;
  Combination combination;
  int inputs;
  abi::FusedActivation activation = abi::kActNone;  // its own, where the options name none
};

constexpr Function kFunctions[] = {{abi::kBuiltinAbs, "ABS", Combination::kAbsolute, 1},
                                   {abi::kBuiltinAdd, "ADD", Combination::kSum, 2},
                                   {abi::kBuiltinDiv, "DIV", Combination::kQuotient, 2},
                                   {abi::kBuiltinLeakyRelu, "LEAKY_RELU", Combination::kPrelu, 1},
                                   {abi::kBuiltinMaximum, "MAXIMUM", Combination::kMaximum, 2},
                                   {abi::kBuiltinMinimum, "MINIMUM", Combination::kMinimum, 2},
                                   {abi::kBuiltinMul, "MUL", Combination::kProduct, 2},
                                   {abi::kBuiltinNeg, "NEG", Combination::kNegative, 1},
                                   {abi::kBuiltinPrelu, "PRELU", Combination::kPrelu, 2},
                                   {abi::kBuiltinRelu, "RELU", Combination::kFirst, 1, abi::kActRelu},
                                   {abi::kBuiltinRelu6, "RELU6", Combination::kFirst, 1, abi::kActRelu6},
                                   {abi::kBuiltinReluN1To1, "RELU_N1_TO_1", Combination::kFirst, 1, abi::kActReluN1To1},
                                   {abi::kBuiltinSub, "SUB", Combination::kDifference, 2}};

const Function& find_function(int32_t code) {
  const Function* found = kFunctions;
  while (found->code != code) ++found;
  return *found;
}

// How an operand lies beside the output: pixel p of the output meets row p / repeat of it, whose one number, or one for
// each channel, serves all those pixels.
struct Layout {
  int64_t repeat = 1;
  bool has_channels = false;

  // False where it broadcasts otherwise: along an axis in front of one that it has.
  bool find(const Shape& x, const Shape& y) {
    repeat = 1;
    has_channels = x.channels() == y.channels();
    if (x.rank > y.rank || (!has_channels && x.channels() != 1)) return false;
    bool has_pixels = false;
    for (int i = y.rank - 2; i >= 0; --i) {
      const int axis = i - (y.rank - x.rank);
      const int size = axis < 0 ? 1 : x.dims[axis];
      if (size == y.dims[i]) {
        has_pixels = has_pixels || size > 1;
      } else if (size == 1 && !has_pixels) {
        repeat *= y.dims[i];
      } else {
        return false;
      }
    }
    // One number is best handled as such.
    if (x.elements() == 1) has_channels = false;
    return true;
  }
};

// The shape that two broadcast to; false where they do not.
bool broadcast(const Shape& a, const Shape& b, Shape* y) {
  y->rank = max(a.rank, b.rank);
  for (int i = 0; i < y->rank; ++i) {
    const int axis_a = i - (y->rank - a.rank);
    const int axis_b = i - (y->rank - b.rank);
    const int size_a = axis_a < 0 ? 1 : a.dims[axis_a];
    const int size_b = axis_b < 0 ? 1 : b.dims[axis_b];
    if (size_a != size_b && size_a != 1 && size_b != 1) return false;
    y->dims[i] = max(size_a, size_b);
  }
  return true;
}

class Elementwise final : public Operator {
 public:
  int32_t code = 0;

  const char* name() const override { return find_function(code).name; }

  const char* parse(const abi::Node& node) override {
    const Function& function = find_function(code);
    abi::FusedActivation activation = function.activation;
    const bool is_arithmetic = function.combination >= Combination::kSum && function.combination <= Combination::kQuotient;
    if (is_arithmetic || code == abi::kBuiltinLeakyRelu) {
      if (node.builtin_data == nullptr) return "it has no options";
      if (is_arithmetic) activation = static_cast<const abi::ArithmeticParams*>(node.builtin_data)->activation;
      if (!is_arithmetic) alpha_ = static_cast<const abi::LeakyReluParams*>(node.builtin_data)->alpha;
    }
    return read_activation(activation, &clamp_) ? nullptr : "its activation is unknown";
  }

  bool prepare(Preparation& preparation) override {
    const Function& function = find_function(code);
    combination_ = function.combination;
    if (input_count != function.inputs) {
      return preparation.fail("it has %d inputs instead of %d", input_count, function.inputs);
    }
    kernels_ = preparation.kernels();
    Shape shape = preparation.value(inputs[0]).shape;
    for (int i = 0; i < input_count; ++i) {
      const Value& x = preparation.value(inputs[i]);
      if (x.type != abi::kFloat32) return preparation.fail("its inputs are not float32");
      if (i > 0 && !broadcast(shape, x.shape, &shape)) return preparation.fail("its inputs do not broadcast");
    }
    if (preparation.value(output).type != abi::kFloat32) return preparation.fail("its output is not float32");
    if (code == abi::kBuiltinPrelu && !(shape == preparation.value(inputs[0]).shape)) {
      return preparation.fail("its slope is larger than its input");
    }
    for (int i = 0; i < input_count; ++i) {
      if (!layouts_[i].find(preparation.value(inputs[i]).shape, shape)) {
        return preparation.fail("its inputs broadcast neither by channels nor by pixels");
      }
    }
    channels_ = shape.channels();
    return preparation.set_shape(output, shape);
  }

  void run(const Tile& tile) const override {
    float* y = tile.rows<float>(output);
    for (int64_t pixel = tile.begin; pixel < tile.end;) {
      int64_t end = tile.end;
      const Operand a = operand(tile, 0, pixel, &end);
      const Operand b = input_count == 1 ? Operand{&alpha_, 0, 0} : operand(tile, 1, pixel, &end);
      kernels_->combine(combination_, a, b, clamp_, y, end - pixel, channels_);
      y += (end - pixel) * channels_;
      pixel = end;
    }
  }

 private:
  // An input from a pixel of the output on; it serves the pixels before `end`, which moves down to where that ends.
  Operand operand(const Tile& tile, int index, int64_t pixel, int64_t* end) const {
    const Layout& layout = layouts_[index];
    const int64_t channels = layout.has_channels ? channels_ : 1;
    const int64_t step = layout.has_channels ? 1 : 0;
    if (layout.repeat == 1) {
      return {tile.rows<float>(inputs[index]) + (pixel - tile.begin) * channels, channels, step};
    }
    const int64_t row = pixel / layout.repeat;
    *end = min(*end, (row + 1) * layout.repeat);
    return {tile.all<float>(inputs[index]) + row * channels, 0, step};
  }

  const Kernels* kernels_ = nullptr;
  Combination combination_ = Combination::kFirst;
  FloatClamp clamp_;
  float alpha_ = 0;  // of LEAKY_RELU
  Layout layouts_[2];
  int64_t channels_ = 0;
};

}  // namespace

Operator* create_elementwise(int32_t code) { return create_with_code<Elementwise>(code); }

}  // namespace bnncc
