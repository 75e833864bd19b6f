// LceQuantize packs signs, LceDequantize unpacks them: bit 0 for +1, bit 1 for -1, channel c at bit c mod 32 of word
// ⌊c / 32⌋, unused bits 0.
//
// A float is -1 where x < 0: -0.0 and NaN are +1, on every processor.  (LCE does so on x86-64; its ARM code reads the
// IEEE sign bit instead.)  A denormal counts as 0 and so is +1, as in LCE, whatever the floating-point mode is: stock
// interpreters leave denormals on for their own kernels and delegates, XNNPACK, LCE's interpreter and bnncc_run turn
// them off.
// An int8 is -1 below the tensor's zero point, a bool where it is false.
#include "../operator.h"

namespace bnncc {
namespace {

class Quantize final : public Operator {
 public:
  const char* name() const override { return "LceQuantize"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& y = preparation.value(output);
    if (x.shape.rank == 0) return preparation.fail("a scalar has no channels to pack");
    if (y.type != abi::kInt32) return preparation.fail("its output is not int32");
    if (x.type != abi::kFloat32 && x.type != abi::kInt8 && x.type != abi::kBool) {
      return preparation.fail("its input is not float32, int8 or bool");
    }
    type_ = x.type;
    channels_ = x.shape.channels();
    zero_point_ = x.quantization.zero_point;
    quantize_floats_ = preparation.kernels()->quantize;
    Shape packed = x.shape;
    packed.dims[packed.rank - 1] = words_of(channels_);
    return preparation.set_shape(output, packed);
  }

  void run(const Tile& tile) const override {
    uint32_t* const bits = tile.rows<uint32_t>(output);
    if (type_ == abi::kFloat32) {
      quantize_floats_(tile.rows<float>(inputs[0]), bits, tile.pixels(), channels_);
    } else if (type_ == abi::kInt8) {
      const int zero_point = zero_point_;
      pack(tile.rows<int8_t>(inputs[0]), bits, tile.pixels(), [zero_point](int8_t x) { return x < zero_point; });
    } else {
      pack(tile.rows<uint8_t>(inputs[0]), bits, tile.pixels(), [](uint8_t x) { return x == 0; });
    }
  }

 private:
  // Eight bytes of 0 or 1, one behind the other, as bits: the product moves the bit of byte i from 8·i to 56 + i.
  static uint32_t bits_of(const uint8_t* bytes) {
    uint64_t all = 0;
    memcpy(&all, bytes, sizeof(all));
    return static_cast<uint32_t>(all * 0x0102040810204080u >> 56);
  }

  template <typename T, typename IsMinus>
  void pack(const T* x, uint32_t* bits, int64_t pixels, IsMinus is_minus) const {
    for (int64_t pixel = 0; pixel < pixels; ++pixel, x += channels_) {
      for (int first = 0; first < channels_; first += 32) {
        const int size = min(32, channels_ - first);
        uint8_t bytes[32] = {};
        if (size == 32) {
          for (int i = 0; i < 32; ++i) bytes[i] = is_minus(x[first + i]);
        } else {
          for (int i = 0; i < size; ++i) bytes[i] = is_minus(x[first + i]);
        }
        *bits++ = bits_of(bytes) | bits_of(bytes + 8) << 8 | bits_of(bytes + 16) << 16 | bits_of(bytes + 24) << 24;
      }
    }
  }

  abi::Type type_ = abi::kNoType;
  int channels_ = 0;
  int zero_point_ = 0;
  decltype(Kernels::quantize) quantize_floats_ = nullptr;
};

class Dequantize final : public Operator {
 public:
  const char* name() const override { return "LceDequantize"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& y = preparation.value(output);
    if (x.type != abi::kInt32) return preparation.fail("its input is not int32");
    if (y.type != abi::kFloat32 && y.type != abi::kInt8 && y.type != abi::kBool) {
      return preparation.fail("its output is not float32, int8 or bool");
    }
    if (x.shape.rank == 0 || x.shape.rank != y.shape.rank)
      return preparation.fail("its input and output differ in rank");
    type_ = y.type;
    channels_ = y.shape.channels();
    if (x.shape.channels() != words_of(channels_)) {
      return preparation.fail("%d words do not hold %d channels", x.shape.channels(), channels_);
    }
    if (type_ == abi::kInt8 && !find_int8_values(y.quantization)) {
      return preparation.fail("the scale of its output is not positive");
    }
    Shape unpacked = x.shape;
    unpacked.dims[unpacked.rank - 1] = channels_;
    return preparation.set_shape(output, unpacked);
  }

  void run(const Tile& tile) const override {
    const uint32_t* const bits = tile.rows<uint32_t>(inputs[0]);
    if (type_ == abi::kFloat32) {
      unpack(bits, tile.rows<float>(output), tile.pixels(), 1.0f, -1.0f);
    } else if (type_ == abi::kInt8) {
      unpack(bits, tile.rows<int8_t>(output), tile.pixels(), plus_, minus_);
    } else {
      unpack(bits, tile.rows<uint8_t>(output), tile.pixels(), uint8_t{1}, uint8_t{0});
    }
  }

 private:
  // q of ±1 = scale · (q - zero_point).
  bool find_int8_values(const abi::QuantizationParams& quantization) {
    if (!(quantization.scale > 0)) return false;
    const float steps = 1.0f / quantization.scale;
    constexpr int kMostSteps = 255;
    const int offset = steps < kMostSteps ? static_cast<int>(steps + 0.5f) : kMostSteps;
    const int zero_point = max(-128, min(127, quantization.zero_point));
    plus_ = static_cast<int8_t>(min(127, zero_point + offset));
    minus_ = static_cast<int8_t>(max(-128, zero_point - offset));
    return true;
  }

  template <typename T>
  void unpack(const uint32_t* bits, T* y, int64_t pixels, T plus, T minus) const {
    for (int64_t pixel = 0; pixel < pixels; ++pixel, y += channels_) {
      for (int first = 0; first < channels_; first += 32) {
        const uint32_t word = *bits++;
        const int size = min(32, channels_ - first);
        for (int i = 0; i < size; ++i) y[first + i] = word >> i & 1 ? minus : plus;
      }
    }
  }

  abi::Type type_ = abi::kNoType;
  int channels_ = 0;
  int8_t plus_ = 1;
  int8_t minus_ = -1;
};

}  // namespace

Operator* create_quantize() { return create<Quantize>(); }
Operator* create_dequantize() { return create<Dequantize>(); }

}  // namespace bnncc
