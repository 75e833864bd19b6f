// TensorFlow Lite's FULLY_CONNECTED of float rows with constant weights, among LCE's operators: gates of channels, and a
// network's last layer.
//
// It differs from the interpreter's kernel in the order in which a sum is rounded.
#include "../float_matrix.h"
#include "builtin_operator.h"

namespace bnncc {
namespace {

class FullyConnected final : public Operator {
 public:
  const char* name() const override { return "FULLY_CONNECTED"; }

  const char* parse(const abi::Node& node) override {
    const char* const problem = parse_fully_connected(node, &options_);
    if (problem == nullptr) read_activation(options_.activation, &clamp_);
    return problem;
  }

  bool may_be_absent(int index) const override { return index == 2; }

  bool prepare(Preparation& preparation) override {
    if (input_count < 2 || input_count > 3) return preparation.fail("it has %d inputs instead of 3", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& filters = preparation.value(inputs[1]);
    if (!is_float_map(x)) return preparation.fail("its input is not a float32 feature map");
    if (preparation.value(output).type != abi::kFloat32) return preparation.fail("its output is not float32");
    const float* const weights = preparation.constant<float>(inputs[1], abi::kFloat32, filters.shape.elements());
    if (weights == nullptr || filters.shape.rank != 2 || x.shape.elements() % filters.shape.channels() != 0) {
      return preparation.fail("its weights are not a constant float32 matrix that fits its input");
    }
    const int outputs = filters.shape.dims[0];
    const int depth = filters.shape.channels();
    const bool has_bias = input_count == 3 && inputs[2] >= 0;
    const float* const bias = has_bias ? preparation.constant<float>(inputs[2], abi::kFloat32, outputs) : nullptr;
    if (has_bias && bias == nullptr) return preparation.fail("its bias is not one constant float32 an output");
    if (options_.keep_num_dims && x.shape.channels() != depth) {
      return preparation.fail("its weights do not fit its input");
    }
    const auto weight = [=](int64_t o, int64_t k) { return weights[o * depth + k]; };
    if (!matrix_.pack(preparation.kernels(), outputs, depth, weight, bias)) return preparation.fail("out of memory");
    rows_ = x.shape.elements() / depth;
    is_local_ = x.shape.channels() == depth;
    Shape shape = {2, {static_cast<int>(rows_), outputs}};
    if (options_.keep_num_dims) {
      shape = x.shape;
      shape.dims[shape.rank - 1] = outputs;
    }
    return preparation.set_shape(output, shape);
  }

  Locality locality() const override { return is_local_ && parts() == 0 ? Locality{1, 1} : Locality{0, 0}; }

  // Panels of the weights, or, where there are several rows for each of them, rows.
  int64_t parts() const override { return rows_ < kFewRows ? matrix_.panels() : 0; }

  int64_t filter_bytes() const override { return matrix_.bytes(); }

  void run(const Tile& tile) const override {
    const int64_t depth = matrix_.depth();
    if (parts() > 0) {
      const FloatRows rows = {tile.all<float>(inputs[0]), depth, rows_, 1, 0, depth};
      matrix_.multiply(rows, tile.begin, tile.end, clamp_, tile.whole<float>(output));
      return;
    }
    const float* const x = is_local_ ? tile.rows<float>(inputs[0]) : tile.all<float>(inputs[0]) + tile.begin * depth;
    const FloatRows rows = {x, depth, tile.pixels(), 1, 0, depth};
    matrix_.multiply(rows, 0, matrix_.panels(), clamp_, tile.rows<float>(output));
  }

 private:
  static constexpr int64_t kFewRows = 16;

  abi::FullyConnectedParams options_ = {};
  FloatClamp clamp_;
  FloatMatrix matrix_;
  int64_t rows_ = 0;
  bool is_local_ = false;
};

}  // namespace

Operator* create_float_fully_connected(int32_t) { return create<FullyConnected>(); }

}  // namespace bnncc
