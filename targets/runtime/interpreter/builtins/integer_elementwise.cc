// Operators of 8-bit integers, element by element: ADD, PRELU, RELU and its kin, QUANTIZE to another scale.
//
// Their arithmetic is that of the reference kernels, to the bit (fixed_point.h).
#include "broadcast.h"
#include "integers.h"

namespace bnncc {
namespace {

// With the zero point, between the bounds.
int32_t bounded(int64_t x, const IntegerOutput& output) {
  return static_cast<int32_t>(min<int64_t>(max<int64_t>(x + output.zero_point, output.least), output.most));
}

// Bytes are looked up with no other pointers about than these: a byte that is written could be a part of any object.
//
// y[i, c] = tables[c, x[i, c]], c < channels, of whole pixels.
void look_up(const uint8_t* __restrict x, int64_t size, const uint8_t* __restrict tables, int64_t channels,
             uint8_t* __restrict y) {
  if (channels == 1) {
    for (int64_t i = 0; i < size; ++i) y[i] = tables[x[i]];
    return;
  }
  for (int64_t c = 0; c < channels; ++c, tables += 256) {
    for (int64_t i = c; i < size; i += channels) y[i] = tables[x[i]];
  }
}

void flip(const uint8_t* __restrict x, int64_t size, uint8_t* __restrict y) {
  for (int64_t i = 0; i < size; ++i) y[i] = x[i] ^ 0x80;
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
      table_[static_cast<uint8_t>(q)] = static_cast<uint8_t>(bounded(scaled(q - x.zero_point, fixed), output));
    }
    for (int32_t q = 0; q < 256; ++q) flips_ = flips_ && table_[q] == (q ^ 0x80);
    size_ = setup.shape(0).elements();
    return setup.set_output(0, to, setup.shape(0));
  }

  void run(const Call& call) const override {
    constexpr int64_t kTask = 16384;
    const uint8_t* const x = call.input<uint8_t>(0);
    uint8_t* const y = call.output<uint8_t>(0);
    call.team().run(ceil_div(size_, kTask), [&](int64_t task, int) {
      const int64_t begin = task * kTask;
      const int64_t size = min(kTask, size_ - begin);
      if (flips_) {
        flip(x + begin, size, y + begin);
      } else {
        look_up(x + begin, size, table_, 1, y + begin);
      }
    });
  }

 private:
  int8_t activation() const { return code == code::kRelu ? 1 : code == code::kReluN1To1 ? 2 : 3; }

  uint8_t table_[256] = {};  // by the bits of a byte
  bool flips_ = true;        // its first bit alone: between uint8 and int8 of one scale
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
    IntegerOutput output;
    if (!scales[0].read(setup, setup.file_tensor(0)) || !scales[1].read(setup, setup.file_tensor(1)) ||
        !y.read(setup, setup.file_output(0)) ||
        !read_output(setup, setup.options().number<int8_t>(0, 0), y, &output)) {
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
    FixedPoint factor;
    if (!read_factor(setup, twice / static_cast<double>((1 << kShift) * y.scale), &factor)) return false;
    requantize_ = setup.kernels()->requantize;
    panel_ = setup.kernels()->integer_panel;
    if (!factors_.pack(panel_, panel_, [=](int64_t) { return factor; }, output)) return setup.fail("out of memory");
    const Shape shapes[] = {setup.shape(0), setup.shape(1)};
    Shape shape;
    if (!broadcast(shapes[0], shapes[1], &shape)) return setup.fail("its inputs do not broadcast");
    loop_ = broadcast_loop(shapes, 2, shape);
    size_ = shape.elements();
    for (int i = 0; i < 2; ++i) {
      if (shapes[1 - i] == shape && !tabulate(setup, i, factor, output)) return false;
    }
    return setup.set_output(0, abi::kInt8, shape);
  }

  void run(const Call& call) const override {
    const uint8_t* const a = call.input<uint8_t>(0);
    const uint8_t* const b = call.input<uint8_t>(1);
    int8_t* const y = call.output<int8_t>(0);
    if (numbers_ > 0) return add_constant(call.team(), constant_ == 0 ? b : a, reinterpret_cast<uint8_t*>(y));
    const int64_t a_step = loop_.inner_stride(0);
    const int64_t b_step = loop_.inner_stride(1);
    loop_.run(call.team(), [&](const int64_t* offsets, int64_t size) {
      const uint8_t* const left = a + offsets[0];
      const uint8_t* const right = b + offsets[1];
      int8_t* const to = y + offsets[2];
      int32_t sums[kBlock];
      for (int64_t first = 0; first < size; first += kBlock) {
        const int64_t count = min(kBlock, size - first);
        for (int64_t i = 0; i < count; ++i) {
          sums[i] = terms_[0][left[(first + i) * a_step]] + terms_[1][right[(first + i) * b_step]];
        }
        const int64_t whole = count / panel_ * panel_;
        requantize_(sums, factors_.from(0), whole / panel_, panel_, to + first);
        if (whole < count) requantize_(sums + whole, factors_.from(0), 1, count - whole, to + first + whole);
      }
    });
  }

 private:
  // Where input `constant` is a constant of one number, or of one a channel, and these are few: all results.
  bool tabulate(Setup& setup, int constant, const FixedPoint& factor, const IntegerOutput& output) {
    const Shape shape = setup.shape(constant);
    const int64_t numbers = shape.elements();
    if (setup.is_computed(constant) || numbers > kMostTables || numbers != shape.channels()) return true;
    const auto* const given = setup.constant<uint8_t>(constant, abi::kInt8);
    if (given == nullptr) return false;
    if (!results_.allocate(numbers * 256)) return setup.fail("out of memory");
    for (int64_t i = 0; i < numbers; ++i) {
      for (int64_t q = 0; q < 256; ++q) {
        const int32_t sum = terms_[constant][given[i]] + terms_[1 - constant][q];
        results_[i * 256 + q] = static_cast<uint8_t>(bounded(scaled(sum, factor), output));
      }
    }
    numbers_ = numbers;
    constant_ = constant;
    return true;
  }

  void add_constant(const Team& team, const uint8_t* x, uint8_t* y) const {
    const int64_t block = kBlock * numbers_;
    team.run(ceil_div(size_, block), [&](int64_t task, int) {
      const int64_t begin = task * block;
      look_up(x + begin, min(block, size_ - begin), results_.data(), numbers_, y + begin);
    });
  }

  static constexpr int kShift = 20;
  static constexpr int64_t kBlock = 512;
  static constexpr int64_t kMostTables = 4;  // 1 kB, beside what a first-level cache has else

  int32_t terms_[2][256] = {};  // by the bits of a byte
  IntegerFactors factors_;  // the same for a whole panel
  int64_t panel_ = 0;
  decltype(Kernels::requantize) requantize_ = nullptr;
  int64_t numbers_ = 0;  // of the constant whose results are tabulated; 0: none
  int constant_ = 0;
  Array<uint8_t> results_;  // [numbers, 256], by the bits of a byte
  int64_t size_ = 0;
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
        y[offsets[2] + i] = static_cast<int8_t>(bounded(result, output_));
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
