// TensorFlow Lite's operators of 8-bit integers, element by element: ADD, MUL, PRELU; RELU and its kin, and QUANTIZE to
// another scale.
//
// Their arithmetic is that of LiteRT's reference kernels, to the bit (fixed_point.h).
#include "builtin_operator.h"
#include "integers.h"

namespace bnncc {
namespace {

// y[i, c] = tables[c, x[i, c]], c < channels, of whole pixels.
//
// Bytes are looked up with no other pointers about than these: a byte that is written could be a part of any object.
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
class Rescale final : public Operator {
 public:
  int32_t code = 0;

  const char* name() const override {
    switch (code) {
      case abi::kBuiltinQuantize: return "QUANTIZE";
      case abi::kBuiltinRelu: return "RELU";
      case abi::kBuiltinRelu6: return "RELU6";
      default: return "RELU_N1_TO_1";
    }
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    const abi::Type to = preparation.value(output).type;
    const bool is_quantize = code == abi::kBuiltinQuantize;
    if (!is_byte(x.type) || !is_byte(to) || (!is_quantize && (x.type != abi::kInt8 || to != abi::kInt8))) {
      return preparation.fail("it does not convert between these types");
    }
    Scale from;
    Scale scale;
    if (!from.read(preparation, x) || !scale.read(preparation, preparation.value(output))) return false;
    // The reference kernel of QUANTIZE divides in double precision, those of activations in single.
    const double factor =
        is_quantize ? static_cast<double>(from.scale) / scale.scale : static_cast<double>(from.scale / scale.scale);
    FixedPoint fixed;
    if (!read_factor(preparation, factor, &fixed)) return false;
    IntegerOutput bounds = output_of(is_quantize ? abi::kActNone : activation(), scale);
    if (to == abi::kUInt8) {
      bounds.least = 0;
      bounds.most = 255;
    }
    const int32_t first = x.type == abi::kUInt8 ? 0 : -128;
    flips_ = true;
    for (int32_t q = first; q < first + 256; ++q) {
      const int64_t result = int64_t{scaled(q - from.zero_point, fixed)} + scale.zero_point;
      const int64_t bounded = min<int64_t>(max<int64_t>(result, bounds.least), bounds.most);
      table_[static_cast<uint8_t>(q)] = static_cast<uint8_t>(bounded);
    }
    for (int32_t q = 0; q < 256; ++q) flips_ = flips_ && table_[q] == (q ^ 0x80);
    channels_ = x.shape.channels();
    return preparation.set_shape(output, x.shape);
  }

  void run(const Tile& tile) const override {
    const uint8_t* const x = tile.rows<uint8_t>(inputs[0]);
    uint8_t* const y = tile.rows<uint8_t>(output);
    const int64_t size = tile.pixels() * channels_;
    return flips_ ? flip(x, size, y) : look_up(x, size, table_, 1, y);
  }

 private:
  abi::FusedActivation activation() const {
    if (code == abi::kBuiltinRelu) return abi::kActRelu;
    return code == abi::kBuiltinRelu6 ? abi::kActRelu6 : abi::kActReluN1To1;
  }

  uint8_t table_[256] = {};  // by the bits of a byte
  bool flips_ = false;       // its first bit alone: between uint8 and int8 of one scale
  int64_t channels_ = 0;
};

// Where the rows of an operand lie that is broadcast to the output, after NumPy: shapes are aligned at their last axes,
// and an axis of size 1 repeats.
class Broadcast {
 public:
  // False where it does not broadcast.
  bool find(const Shape& x, const Shape& y) {
    if (x.rank > y.rank || (x.channels() != 1 && x.channels() != y.channels())) return false;
    axes_ = 0;
    is_map_ = true;
    int64_t stride = 1;
    for (int i = y.rank - 2; i >= 0; --i) {
      const int axis = i - (y.rank - x.rank);
      const int size = axis < 0 ? 1 : x.dims[axis];
      if (size != 1 && size != y.dims[i]) return false;
      is_map_ = is_map_ && size == y.dims[i];
      sizes_[axes_] = y.dims[i];
      strides_[axes_++] = size == 1 ? 0 : stride;
      stride *= size;
    }
    rows_ = stride;
    channels_ = x.channels();
    step_ = channels_ == y.channels() ? 1 : 0;
    return true;
  }

  bool is_map() const { return is_map_ && step_ == 1; }  // an element for each of the output's
  bool is_row() const { return rows_ == 1; }             // one row for all pixels
  int64_t step() const { return step_; }                 // from one channel to the next
  int64_t channels() const { return channels_; }

  // Of the first element that a pixel of the output meets, in the operand or, where that is a map, in the tile.
  const int8_t* row(const Tile& tile, int value, int64_t pixel) const {
    if (is_map_) return tile.rows<int8_t>(value) + (pixel - tile.begin) * channels_;
    int64_t row = 0;
    for (int i = 0; i < axes_; pixel /= sizes_[i++]) row += pixel % sizes_[i] * strides_[i];
    return tile.all<int8_t>(value) + row * channels_;
  }

 private:
  int axes_ = 0;  // all but the last one, the innermost first
  int64_t sizes_[kMaxRank] = {};
  int64_t strides_[kMaxRank] = {};  // in rows
  int64_t rows_ = 0;
  int64_t channels_ = 0;
  int64_t step_ = 0;
  bool is_map_ = false;  // it has the output's pixels
};

// The shape that two broadcast to; false where they do not.
bool broadcast(const Shape& a, const Shape& b, Shape* y) {
  const Shape& longer = a.rank >= b.rank ? a : b;
  const Shape& shorter = a.rank >= b.rank ? b : a;
  *y = longer;
  for (int i = 0; i < shorter.rank; ++i) {
    int& size = y->dims[i + longer.rank - shorter.rank];
    if (size == 1) size = shorter.dims[i];
  }
  return true;
}

// Two operands (BytePairs in kernels/kernels.h).
class Pairs final : public Operator {
 public:
  int32_t code = 0;

  const char* name() const override {
    return code == abi::kBuiltinAdd ? "ADD" : code == abi::kBuiltinMul ? "MUL" : "PRELU";
  }

  const char* parse(const abi::Node& node) override {
    if (code == abi::kBuiltinPrelu) return nullptr;
    if (node.builtin_data == nullptr) return "it has no options";
    activation_ = static_cast<const abi::ArithmeticParams*>(node.builtin_data)->activation;
    return is_known(activation_) ? nullptr : "its activation is unknown";
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 2) return preparation.fail("it has %d inputs instead of 2", input_count);
    const Value* const operands[] = {&preparation.value(inputs[0]), &preparation.value(inputs[1])};
    if (operands[0]->type != abi::kInt8 || operands[1]->type != abi::kInt8 ||
        preparation.value(output).type != abi::kInt8) {
      return preparation.fail("its inputs or output are not int8");
    }
    Shape y;
    if (!broadcast(operands[0]->shape, operands[1]->shape, &y)) return preparation.fail("its inputs do not broadcast");
    if (y.rank == 0) return preparation.fail("its output is a scalar");
    for (int i = 0; i < 2; ++i) {
      if (!broadcasts_[i].find(operands[i]->shape, y)) return preparation.fail("its inputs do not broadcast");
    }
    kernels_ = preparation.kernels();
    channels_ = y.channels();
    return find_factors(preparation) && preparation.set_shape(output, y) && repeat_constants(preparation) &&
           tabulate(preparation);
  }

  void run(const Tile& tile) const override {
    int8_t* y = tile.rows<int8_t>(output);
    if (tables_.size() > 0) {
      const auto* const x = reinterpret_cast<const uint8_t*>(tile.rows<int8_t>(inputs[0]));
      return look_up(x, tile.pixels() * channels_, tables_.data(), channels_, reinterpret_cast<uint8_t*>(y));
    }
    BytePairs pairs = pairs_;
    int64_t pixels = 1;  // that lie side by side
    if (has_runs()) pixels = repeated_pixels_ > 0 ? repeated_pixels_ : tile.pixels();
    for (int64_t pixel = tile.begin; pixel < tile.end; pixel += pixels) {
      const int64_t size = min(pixels, tile.end - pixel) * channels_;
      pairs.a = operand(tile, 0, pixel);
      pairs.b = operand(tile, 1, pixel);
      kernels_->combine_bytes(combination(), pairs, size, y);
      y += size;
    }
  }

 private:
  // A run of so many elements is worth the call.
  static constexpr int64_t kRunElements = 1024;
  static constexpr int64_t kMostTables = 4;  // 1 kB, beside what a first-level cache has else

  ByteCombination combination() const {
    if (code == abi::kBuiltinAdd) return ByteCombination::kSum;
    return code == abi::kBuiltinMul ? ByteCombination::kProduct : ByteCombination::kPrelu;
  }

  bool find_factors(const Preparation& preparation) {
    Scale scales[2];
    Scale y;
    if (!scales[0].read(preparation, preparation.value(inputs[0])) ||
        !scales[1].read(preparation, preparation.value(inputs[1])) || !y.read(preparation, preparation.value(output))) {
      return false;
    }
    const IntegerOutput bounds = output_of(activation_, y);
    pairs_.a_point = scales[0].zero_point;
    pairs_.b_point = scales[1].zero_point;
    pairs_.zero_point = bounds.zero_point;
    pairs_.least = bounds.least;
    pairs_.most = bounds.most;
    pairs_.a_step = broadcasts_[0].step();
    pairs_.b_step = broadcasts_[1].step();
    // In single or double precision as the reference kernels divide.
    if (code == abi::kBuiltinAdd) {
      const auto twice = static_cast<double>(2 * max(scales[0].scale, scales[1].scale));
      return read_factor(preparation, scales[0].scale / twice, &pairs_.a_factor) &&
             read_factor(preparation, scales[1].scale / twice, &pairs_.b_factor) &&
             read_factor(preparation, twice / static_cast<double>((1 << kSumBits) * y.scale), &pairs_.factor);
    }
    if (code == abi::kBuiltinMul) {
      return read_factor(preparation, static_cast<double>(scales[0].scale * scales[1].scale / y.scale), &pairs_.factor);
    }
    return read_factor(preparation, static_cast<double>(scales[0].scale / y.scale), &pairs_.factor) &&
           read_factor(preparation, static_cast<double>(scales[0].scale * scales[1].scale / y.scale), &pairs_.b_factor);
  }

  // A constant row is kept as often as makes a run of pixels.
  bool repeat_constants(const Preparation& preparation) {
    repeated_pixels_ = 0;
    for (int i = 0; i < 2; ++i) {
      const bool is_row = broadcasts_[i].is_row() && !broadcasts_[i].is_map() && broadcasts_[i].step() == 1;
      const auto* const row = is_row ? preparation.constant<int8_t>(inputs[i], abi::kInt8, channels_) : nullptr;
      if (row == nullptr) {
        if (!rows_[i].allocate(0)) return preparation.fail("out of memory");
        continue;
      }
      repeated_pixels_ = ceil_div(kRunElements, channels_);
      if (!rows_[i].allocate(checked_product(repeated_pixels_, channels_))) return preparation.fail("out of memory");
      for (int64_t k = 0; k < rows_[i].size(); ++k) rows_[i][k] = row[k % channels_];
    }
    return true;
  }

  // All results, where input 1 is a constant for each of few channels.
  bool tabulate(const Preparation& preparation) {
    const bool has_tables = channels_ <= kMostTables && rows_[1].size() > 0 && broadcasts_[0].is_map();
    if (!tables_.allocate(has_tables ? channels_ * 256 : 0)) return preparation.fail("out of memory");
    int8_t every[256];
    for (int i = 0; i < 256; ++i) every[i] = static_cast<int8_t>(i);
    for (int64_t c = 0; has_tables && c < channels_; ++c) {
      BytePairs pairs = pairs_;
      pairs.a = every;
      pairs.b = rows_[1].data() + c;
      pairs.b_step = 0;
      kernels_->combine_bytes(combination(), pairs, 256, reinterpret_cast<int8_t*>(tables_.data() + c * 256));
    }
    return true;
  }

  // Whether several pixels' elements of both operands lie side by side.
  bool has_runs() const {
    for (int i = 0; i < 2; ++i) {
      const bool is_number = broadcasts_[i].is_row() && broadcasts_[i].step() == 0;
      if (!broadcasts_[i].is_map() && !is_number && rows_[i].size() == 0) return false;
    }
    return true;
  }

  const int8_t* operand(const Tile& tile, int index, int64_t pixel) const {
    return rows_[index].size() > 0 ? rows_[index].data() : broadcasts_[index].row(tile, inputs[index], pixel);
  }

  abi::FusedActivation activation_ = abi::kActNone;
  const Kernels* kernels_ = nullptr;
  BytePairs pairs_ = {};
  Broadcast broadcasts_[2];
  Array<int8_t> rows_[2];  // [repeated_pixels_, channels_] of a constant for each channel; else empty
  int64_t repeated_pixels_ = 0;
  Array<uint8_t> tables_;  // [channels_, 256], by the bits of a byte; else empty
  int64_t channels_ = 0;
};

}  // namespace

Operator* create_rescale(int32_t code) { return create_with_code<Rescale>(code); }
Operator* create_byte_pairs(int32_t code) { return create_with_code<Pairs>(code); }

}  // namespace bnncc
