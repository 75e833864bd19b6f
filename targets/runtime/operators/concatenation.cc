// TensorFlow Lite's CONCATENATION along the channels, of float feature maps or of whole words of signs.
#include "builtin_operator.h"

namespace bnncc {
namespace {

class Concatenation final : public Operator {
 public:
  const char* name() const override { return "CONCATENATION"; }

  const char* parse(const abi::Node& node) override {
    if (node.builtin_data == nullptr) return "it has no options";
    options_ = *static_cast<const abi::ConcatenationParams*>(node.builtin_data);
    return options_.activation == abi::kActNone ? nullptr : "it has an activation";
  }

  bool prepare(Preparation& preparation) override {
    if (input_count < 1) return preparation.fail("it has no inputs");
    const Value& first = preparation.value(inputs[0]);
    if (first.type != abi::kFloat32 && first.type != abi::kInt32) {
      return preparation.fail("its inputs are not float32 or int32");
    }
    Shape whole = first.shape;
    if (whole.rank < 1 || (options_.axis != whole.rank - 1 && options_.axis != -1)) {
      return preparation.fail("it does not join channels");
    }
    int64_t channels = 0;
    for (int i = 0; i < input_count; ++i) {
      const Value& part = preparation.value(inputs[i]);
      Shape rest = part.shape;
      if (rest.rank == whole.rank) rest.dims[rest.rank - 1] = whole.channels();
      if (!(rest == whole) || part.type != first.type) {
        return preparation.fail("its inputs differ in more than their channels");
      }
      part_bytes_[i] = part.row_bytes;
      channels = checked_sum(channels, part.shape.channels());
    }
    if (channels < 0) return preparation.fail("its output is too large");
    if (preparation.value(output).type != first.type) return preparation.fail("its output has another type");
    whole.dims[whole.rank - 1] = static_cast<int>(channels);
    return preparation.set_shape(output, whole);
  }

  void run(const Tile& tile) const override {
    const int64_t row_bytes = tile.values[output].row_bytes;
    char* y = tile.rows<char>(output);
    for (int i = 0; i < input_count; y += part_bytes_[i], ++i) {
      const char* const x = tile.rows<char>(inputs[i]);
      for (int64_t pixel = 0; pixel < tile.pixels(); ++pixel) {
        memcpy(y + pixel * row_bytes, x + pixel * part_bytes_[i], static_cast<size_t>(part_bytes_[i]));
      }
    }
  }

 private:
  abi::ConcatenationParams options_ = {};
  int64_t part_bytes_[kMaxInputs] = {};
};

}  // namespace

Operator* create_concatenation(int32_t) { return create<Concatenation>(); }

}  // namespace bnncc
