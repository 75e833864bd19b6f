// TensorFlow Lite's own ADD, PRELU and CONCATENATION on float feature maps, where they stand between LCE's operators.
//
// Each computes what the interpreter's kernel computes, one rounding a step.
#include "../operator.h"

namespace bnncc {
namespace {

bool is_float_map(const Value& value) { return value.type == abi::kFloat32 && value.shape.rank > 0; }

// a + b for maps of one shape, or a map and a constant per channel.
class Add final : public Operator {
 public:
  const char* name() const override { return "ADD"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 2) return preparation.fail("it has %d inputs instead of 2", input_count);
    kernels_ = preparation.kernels();
    const Value& a = preparation.value(inputs[0]);
    const Value& b = preparation.value(inputs[1]);
    if (!is_float_map(a) || !is_float_map(b)) return preparation.fail("its inputs are not float32");
    if (a.shape == b.shape) {
      addend_ = nullptr;
      map_ = inputs[0];
      channels_ = a.shape.channels();
      return preparation.set_shape(output, a.shape);
    }
    // A constant per channel: rank and axes as they broadcast to the other's shape.
    const bool second = b.constant != nullptr;
    map_ = second ? inputs[0] : inputs[1];
    const Value& map = second ? a : b;
    const Value& constant = second ? b : a;
    channels_ = map.shape.channels();
    addend_ = preparation.constant<float>(second ? inputs[1] : inputs[0], abi::kFloat32, channels_);
    if (addend_ == nullptr || constant.shape.channels() != channels_ || constant.shape.rank > map.shape.rank) {
      return preparation.fail("its inputs are neither of one shape nor a map and a constant per channel");
    }
    return preparation.set_shape(output, map.shape);
  }

  void run(const Tile& tile) const override {
    float* const y = tile.rows<float>(output);
    if (addend_ != nullptr) {
      kernels_->add_per_channel(tile.rows<float>(map_), addend_, y, tile.pixels(), channels_);
    } else {
      kernels_->add(tile.rows<float>(inputs[0]), tile.rows<float>(inputs[1]), y, tile.pixels() * channels_);
    }
  }

 private:
  const Kernels* kernels_ = nullptr;
  const float* addend_ = nullptr;
  int map_ = 0;
  int64_t channels_ = 0;
};

// y = x where x is not negative, else x · slope[channel].
class Prelu final : public Operator {
 public:
  const char* name() const override { return "PRELU"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 2) return preparation.fail("it has %d inputs instead of 2", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (!is_float_map(x)) return preparation.fail("its input is not float32");
    channels_ = x.shape.channels();
    slope_ = preparation.constant<float>(inputs[1], abi::kFloat32, channels_);
    if (slope_ == nullptr || preparation.value(inputs[1]).shape.channels() != channels_) {
      return preparation.fail("its slope is not a constant per channel");
    }
    return preparation.set_shape(output, x.shape);
  }

  void run(const Tile& tile) const override {
    kernels_->prelu(tile.rows<float>(inputs[0]), slope_, tile.rows<float>(output), tile.pixels(), channels_);
  }

 private:
  const Kernels* kernels_ = nullptr;
  const float* slope_ = nullptr;
  int64_t channels_ = 0;
};

// Maps side by side along the channels.
class Concatenation final : public Operator {
 public:
  const char* name() const override { return "CONCATENATION"; }

  bool prepare(Preparation& preparation) override {
    if (input_count < 1) return preparation.fail("it has no inputs");
    Shape whole = preparation.value(inputs[0]).shape;
    int64_t channels = 0;
    for (int i = 0; i < input_count; ++i) {
      const Value& part = preparation.value(inputs[i]);
      if (!is_float_map(part)) return preparation.fail("its inputs are not float32");
      Shape rest = part.shape;
      if (rest.rank == whole.rank) rest.dims[rest.rank - 1] = whole.channels();
      if (!(rest == whole)) return preparation.fail("its inputs differ in more than their channels");
      part_bytes_[i] = part.shape.channels() * static_cast<int64_t>(sizeof(float));
      channels = checked_sum(channels, part.shape.channels());
    }
    if (channels < 0) return preparation.fail("its output is too large");
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
  int64_t part_bytes_[kMaxInputs] = {};
};

}  // namespace

Operator* create_add() { return create<Add>(); }
Operator* create_prelu() { return create<Prelu>(); }
Operator* create_concatenation() { return create<Concatenation>(); }

}  // namespace bnncc
