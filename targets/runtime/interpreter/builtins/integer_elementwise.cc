// Operators of 8-bit integers, element by element: ADD, PRELU, RELU and its kin, QUANTIZE to another scale.
//
// Their arithmetic is that of the reference kernels, to the bit (fixed_point.h).
#include "broadcast.h"
#include "integers.h"

namespace bnncc {
namespace {

int8_t bounded(int32_t x, const IntegerOutput& output) {
  return static_cast<int8_t>(min(max(x + output.zero_point, output.least), output.most));
}

// Integers of one scale as those of another.
class Rescale : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(1, 1)) return false;
    const abi::Type from = setup.type(0);
    const abi::Type to = setup.output_type(0);
    const bool is_quantize = code == code::kQuantize;
    const auto is_byte = [](abi::Type type) { return type == abi::kInt8 || type == abi::kUInt8; };
    if (!is_byte(from) || !is_byte(to) || (!is_quantize && (from != abi::kInt8 || to != abi::kInt8))) {
      return setup.fail("it does not convert between these types");
    }
    Scale x;
    Scale y;
    if (!x.read(setup, setup.file_tensor(0)) || !y.read(setup, setup.file_output(0))) return false;
    // The reference kernel of QUANTIZE divides in double precision, those of activations in single.
    const double factor = is_quantize ? static_cast<double>(x.scale) / y.scale : static_cast<double>(x.scale / y.scale);
    FixedPoint fixed;
    if (!read_factor(setup, factor, &fixed)) return false;
    IntegerOutput output;
    if (!read_output(setup, is_quantize ? 0 : activation(), y, &output)) return false;
    if (to == abi::kUInt8) {
      output.least = 0;
      output.most = 255;
    }
    const int32_t first = from == abi::kUInt8 ? 0 : -128;
    for (int32_t q = first; q < first + 256; ++q) {
      const int32_t value = min(max(scaled(q - x.zero_point, fixed) + y.zero_point, output.least), output.most);
      table_[static_cast<uint8_t>(q)] = static_cast<uint8_t>(value);
    }
    size_ = setup.shape(0).elements();
    return setup.set_output(0, to, setup.shape(0));
  }

  void run(const Call& call) const override {
    constexpr int64_t kTask = 16384;
    const uint8_t* const x = call.input<uint8_t>(0);
    uint8_t* const y = call.output<uint8_t>(0);
    call.team().run(ceil_div(size_, kTask), [&](int64_t task, int) {
      const int64_t begin = task * kTask;
      const int64_t end = min(begin + kTask, size_);
      for (int64_t i = begin; i < end; ++i) y[i] = table_[x[i]];
    });
  }

 private:
  int8_t activation() const { return code == code::kRelu ? 1 : code == code::kReluN1To1 ? 2 : 3; }

  uint8_t table_[256] = {};  // by the bits of a byte
  int64_t size_ = 0;
};

// y = clamp((a - z_a) · f_a + (b - z_b) · f_b), with 20 more bits for the sum: f = s / (2 · the larger scale).
class IntegerSum : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 1)) return false;
    if (setup.type(0) != abi::kInt8 || setup.type(1) != abi::kInt8) return setup.fail("it does not take these types");
    Scale scales[2];
    Scale y;
    if (!scales[0].read(setup, setup.file_tensor(0)) || !scales[1].read(setup, setup.file_tensor(1)) ||
        !y.read(setup, setup.file_output(0)) ||
        !read_output(setup, setup.options().number<int8_t>(0, 0), y, &output_)) {
      return false;
    }
    const auto twice = static_cast<double>(2 * max(scales[0].scale, scales[1].scale));
    FixedPoint factors[2];
    for (int i = 0; i < 2; ++i) {
      if (!read_factor(setup, scales[i].scale / twice, &factors[i])) return false;
      for (int32_t q = -128; q < 128; ++q) {
        const int32_t shifted = (q - scales[i].zero_point) * (1 << kShift);
        terms_[i][static_cast<uint8_t>(q)] = scaled(shifted, factors[i]);
      }
    }
    if (!read_factor(setup, twice / static_cast<double>((1 << kShift) * y.scale), &factor_)) return false;
    const Shape shapes[] = {setup.shape(0), setup.shape(1)};
    Shape shape;
    if (!broadcast(shapes[0], shapes[1], &shape)) return setup.fail("its inputs do not broadcast");
    loop_ = broadcast_loop(shapes, 2, shape);
    return setup.set_output(0, abi::kInt8, shape);
  }

  void run(const Call& call) const override {
    const uint8_t* const a = call.input<uint8_t>(0);
    const uint8_t* const b = call.input<uint8_t>(1);
    int8_t* const y = call.output<int8_t>(0);
    const int64_t a_step = loop_.inner_stride(0);
    const int64_t b_step = loop_.inner_stride(1);
    loop_.run(call.team(), [&](const int64_t* offsets, int64_t size) {
      const uint8_t* const left = a + offsets[0];
      const uint8_t* const right = b + offsets[1];
      int8_t* const to = y + offsets[2];
      for (int64_t i = 0; i < size; ++i) {
        to[i] = bounded(scaled(terms_[0][left[i * a_step]] + terms_[1][right[i * b_step]], factor_), output_);
      }
    });
  }

 private:
  static constexpr int kShift = 20;

  int32_t terms_[2][256] = {};  // by the bits of a byte
  FixedPoint factor_;
  IntegerOutput output_;
  Loop loop_;
};

// y = x · f where x ≥ 0, else x · slope · f'.
class IntegerPrelu : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 1)) return false;
    if (setup.type(0) != abi::kInt8 || setup.type(1) != abi::kInt8) return setup.fail("it does not take these types");
    Scale x;
    Scale slope;
    Scale y;
    if (!x.read(setup, setup.file_tensor(0)) || !slope.read(setup, setup.file_tensor(1)) ||
        !y.read(setup, setup.file_output(0)) ||
        !read_factor(setup, static_cast<double>(x.scale / y.scale), &positive_) ||
        !read_factor(setup, static_cast<double>(x.scale * slope.scale / y.scale), &negative_)) {
      return false;
    }
    x_point_ = x.zero_point;
    slope_point_ = slope.zero_point;
    output_.zero_point = y.zero_point;
    const Shape shapes[] = {setup.shape(0), setup.shape(1)};
    Shape shape;
    if (!broadcast(shapes[0], shapes[1], &shape)) return setup.fail("its inputs do not broadcast");
    loop_ = broadcast_loop(shapes, 2, shape);
    return setup.set_output(0, abi::kInt8, shape);
  }

  void run(const Call& call) const override {
    const int8_t* const x = call.input<int8_t>(0);
    const int8_t* const slopes = call.input<int8_t>(1);
    int8_t* const y = call.output<int8_t>(0);
    const int64_t x_step = loop_.inner_stride(0);
    const int64_t slope_step = loop_.inner_stride(1);
    loop_.run(call.team(), [&](const int64_t* offsets, int64_t size) {
      for (int64_t i = 0; i < size; ++i) {
        const int32_t value = x[offsets[0] + i * x_step] - x_point_;
        const int32_t slope = slopes[offsets[1] + i * slope_step] - slope_point_;
        const int32_t result = value >= 0 ? scaled(value, positive_) : scaled(value * slope, negative_);
        y[offsets[2] + i] = bounded(result, output_);
      }
    });
  }

 private:
  int32_t x_point_ = 0;
  int32_t slope_point_ = 0;
  FixedPoint positive_;
  FixedPoint negative_;
  IntegerOutput output_;
  Loop loop_;
};

}  // namespace

Builtin* create_rescale(int32_t code) { return create_with_code<Rescale>(code); }
Builtin* create_integer_sum(int32_t) { return create<IntegerSum>(); }
Builtin* create_integer_prelu(int32_t) { return create<IntegerPrelu>(); }

}  // namespace bnncc
