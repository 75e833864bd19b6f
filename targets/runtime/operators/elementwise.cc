// TensorFlow Lite's operators of one or two float tensors, element by element: arithmetic with its fused activation,
// MAXIMUM, MINIMUM, PRELU, the RELU family, ABS, NEG; and CONCATENATION along the channels, and DEQUANTIZE.
//
// Each computes what the interpreter's kernel computes, one rounding a step.  Operands broadcast: a map of the output's
// shape, a number for each channel or for each pixel, one number, constant or computed.
//
// What follows each other is a chain, which its first operator runs: elements stay in registers from one operator to
// the next, and only what another operator reads as well is written.
#include "builtin_operator.h"
#include "copy_rows.h"
#include "integers.h"

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
  *y = Shape();
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

// Rows of few channels are short: constants for each channel are kept so often that a row of several pixels has at
// least so many of them.
constexpr int64_t kRowFloats = 256;

// An operator that a chain may begin with.
class ChainHead : public Operator {
 public:
  bool is_chainable() const override { return true; }

 protected:
  void set_channels(int64_t channels) {
    channels_ = channels;
    row_pixels_ = ceil_div(kRowFloats, channels);
  }

  // Runs the chain on pixels [pixel, end) of the tile.  `begin(pixel, &stop, steps, &count)` gives what it begins with:
  // the elements from `pixel` on, and this operator's own steps; all serve the pixels before `stop`, which it may bring
  // down.
  template <typename Begin>
  void run_chain(const Tile& tile, int64_t pixel, int64_t end, const Begin& begin) const;

  // For an operator whose output is made before a chain goes on with it, a few pixels at a time, which then are in the
  // first-level cache: fill(pixel, pixels, block) writes those of the tile from `pixel` on.  Needs block_bytes of
  // scratch.
  template <typename Fill>
  void run_blocks(const Tile& tile, const Fill& fill) const;

  int64_t block_bytes(int64_t pixels) const {
    if (next_of_chain == nullptr) return 0;
    return checked_product(min(pixels, block_pixels()), channels_ * static_cast<int64_t>(sizeof(float)));
  }

  // Whether a row may be one of several pixels: each operand is a map, one number, or a constant that is kept often.
  virtual bool has_long_rows() const { return true; }

  const Kernels* kernels_ = nullptr;
  int64_t channels_ = 0;
  int64_t row_pixels_ = 1;

 private:
  static constexpr int64_t kBlockFloats = 2048;

  int64_t block_pixels() const { return round_up(ceil_div(kBlockFloats, channels_), row_pixels_); }
};

class Elementwise final : public ChainHead {
 public:
  int32_t code = 0;

  const char* name() const override { return find_function(code).name; }

  const char* parse(const abi::Node& node) override {
    const Function& function = find_function(code);
    abi::FusedActivation activation = function.activation;
    const bool is_arithmetic =
        function.combination >= Combination::kSum && function.combination <= Combination::kQuotient;
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
    for (int i = 0; i < input_count; ++i) {
      if (preparation.value(inputs[i]).type != abi::kFloat32) return preparation.fail("its inputs are not float32");
    }
    Shape shape;
    if (!broadcast(preparation.value(inputs[0]).shape, preparation.value(inputs[input_count - 1]).shape, &shape)) {
      return preparation.fail("its inputs do not broadcast");
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
    set_channels(shape.channels());
    return preparation.set_shape(output, shape) && keep_constants(preparation);
  }

  bool starts_chain() const override { return true; }

  bool continues_chain(int value) const override {
    const int index = chained_input(value);
    const Layout& layout = layouts_[index];
    return inputs[index] == value && layout.repeat == 1 && layout.has_channels &&
           (index == 0 || code != abi::kBuiltinPrelu);
  }

  void run(const Tile& tile) const override {
    run_chain(tile, tile.begin, tile.end, [&](int64_t pixel, int64_t* stop, ChainStep* steps, int* count) {
      const Operand x = operand(tile, 0, pixel, stop);
      steps[(*count)++] = step(tile, 0, pixel, stop);
      return x;
    });
  }

  // What it does to its input `chained`, from a pixel on, for the pixels before `stop`, which moves down to where the
  // other input serves no longer.
  ChainStep step(const Tile& tile, int chained, int64_t pixel, int64_t* stop) const {
    const Operand b = input_count == 1 ? Operand{&alpha_, 0, 0} : operand(tile, 1 - chained, pixel, stop);
    const bool is_written = tile.values[output].home != Value::Home::kRegister;
    float* const y = is_written ? tile.rows<float>(output) + (pixel - tile.begin) * channels_ : nullptr;
    return {chained == 1 ? reversed(combination_) : combination_, b, clamp_, y};
  }

  bool has_long_rows() const override {
    for (int i = 0; i < input_count; ++i) {
      const Layout& layout = layouts_[i];
      const bool is_map = layout.repeat == 1 && layout.has_channels;
      const bool is_number = !layout.has_channels && layout.repeat == pixels_;
      if (!is_map && !is_number && constants_[i].size() == 0) return false;
    }
    return true;
  }

  int chained_input(int value) const { return inputs[0] == value || input_count == 1 ? 0 : 1; }

 private:
  static Combination reversed(Combination combination) {
    if (combination == Combination::kDifference) return Combination::kReversedDifference;
    if (combination == Combination::kQuotient) return Combination::kReversedQuotient;
    return combination;  // it commutes
  }

  // Copies of constants for each channel.
  bool keep_constants(const Preparation& preparation) {
    pixels_ = preparation.value(output).pixels;
    for (int i = 0; i < input_count; ++i) {
      const bool is_row = layouts_[i].has_channels && layouts_[i].repeat == pixels_;
      const float* const constant = is_row ? preparation.constant<float>(inputs[i], abi::kFloat32, channels_) : nullptr;
      const int64_t size = constant == nullptr ? 0 : checked_product(row_pixels_, channels_);
      if (!constants_[i].allocate(size)) return preparation.fail("out of memory");
      for (int64_t k = 0; k < size; ++k) constants_[i][k] = constant[k % channels_];
    }
    return true;
  }

  // An input from a pixel of the output on.
  Operand operand(const Tile& tile, int index, int64_t pixel, int64_t* stop) const {
    if (constants_[index].size() != 0) return {constants_[index].data(), 0, 1};
    const Layout& layout = layouts_[index];
    const int64_t channels = layout.has_channels ? channels_ : 1;
    const int64_t step = layout.has_channels ? 1 : 0;
    if (layout.repeat == 1) {
      return {tile.rows<float>(inputs[index]) + (pixel - tile.begin) * channels, channels, step};
    }
    const int64_t row = pixel / layout.repeat;
    *stop = min(*stop, (row + 1) * layout.repeat);
    return {tile.all<float>(inputs[index]) + row * channels, 0, step};
  }

  Combination combination_ = Combination::kFirst;
  FloatClamp clamp_;
  float alpha_ = 0;  // of LEAKY_RELU
  Layout layouts_[2];
  Array<float> constants_[2];  // of a constant for each channel: [row_pixels_, channels_]; else empty
  int64_t pixels_ = 0;
};

template <typename Begin>
void ChainHead::run_chain(const Tile& tile, int64_t pixel, int64_t end, const Begin& begin) const {
  // Only these are behind the first.
  const auto next_of = [](const Operator* op) { return static_cast<const Elementwise*>(op->next_of_chain); };
  bool is_long = has_long_rows();
  for (const Elementwise* op = next_of(this); op != nullptr; op = next_of(op)) is_long = is_long && op->has_long_rows();
  while (pixel < end) {
    // Rows of several pixels, then one of those that remain.
    const int64_t row_pixels = is_long ? min(row_pixels_, end - pixel) : 1;
    int64_t stop = end - (end - pixel) % row_pixels;
    ChainStep steps[kMostChained];
    int count = 0;
    Operand x = begin(pixel, &stop, steps, &count);
    const Operator* before = this;
    for (const Elementwise* op = next_of(this); op != nullptr; before = op, op = next_of(op)) {
      steps[count++] = op->step(tile, op->chained_input(before->output), pixel, &stop);
    }
    x.pixel_step *= row_pixels;
    for (int i = 0; i < count; ++i) steps[i].b.pixel_step *= row_pixels;
    kernels_->run_chain(x, steps, count, (stop - pixel) / row_pixels, row_pixels * channels_);
    pixel = stop;
  }
}

template <typename Fill>
void ChainHead::run_blocks(const Tile& tile, const Fill& fill) const {
  float* const block = reinterpret_cast<float*>(tile.scratch + scratch_offset);
  const bool is_written = tile.values[output].home != Value::Home::kRegister;
  for (int64_t first = tile.begin; first < tile.end; first += block_pixels()) {
    const int64_t end = min(first + block_pixels(), tile.end);
    fill(first - tile.begin, end - first, block);
    run_chain(tile, first, end, [&](int64_t pixel, int64_t*, ChainStep* steps, int* count) {
      if (is_written) {
        float* const y = tile.rows<float>(output) + (pixel - tile.begin) * channels_;
        steps[(*count)++] = {Combination::kFirst, {nullptr, 0, 0}, FloatClamp(), y};
      }
      return Operand{block + (pixel - first) * channels_, channels_, 1};
    });
  }
}

// Feature maps of floats, or of 8-bit integers of one scale, or whole words of signs, side by side.
class Concatenation final : public ChainHead {
 public:
  const char* name() const override { return "CONCATENATION"; }

  const char* parse(const abi::Node& node) override {
    if (node.builtin_data == nullptr) return "it has no options";
    options_ = *static_cast<const abi::ConcatenationParams*>(node.builtin_data);
    return options_.activation == abi::kActNone ? nullptr : "it has an activation";
  }

  bool prepare(Preparation& preparation) override {
    if (input_count < 1) return preparation.fail("it has no inputs");
    kernels_ = preparation.kernels();
    const Value& first = preparation.value(inputs[0]);
    type_ = first.type;
    if (type_ != abi::kFloat32 && type_ != abi::kInt32 && !is_byte(type_)) {
      return preparation.fail("its inputs are not float32, int32, int8 or uint8");
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
      if (!have_one_scale(part, preparation.value(output))) return preparation.fail("its output has another scale");
      if (!(rest == whole) || part.type != type_) {
        return preparation.fail("its inputs differ in more than their channels");
      }
      part_channels_[i] = part.shape.channels();
      channels = checked_sum(channels, part.shape.channels());
    }
    if (channels < 0) return preparation.fail("its output is too large");
    if (preparation.value(output).type != type_) return preparation.fail("its output has another type");
    set_channels(channels);
    whole.dims[whole.rank - 1] = static_cast<int>(channels);
    return preparation.set_shape(output, whole);
  }

  bool starts_chain() const override { return type_ == abi::kFloat32; }

  int64_t scratch_bytes(int64_t pixels) const override { return block_bytes(pixels); }

  void run(const Tile& tile) const override {
    if (is_byte(type_)) return join(tile, 0, tile.pixels(), tile.rows<uint8_t>(output));
    if (next_of_chain == nullptr) return join(tile, 0, tile.pixels(), tile.rows<uint32_t>(output));
    run_blocks(tile, [&](int64_t pixel, int64_t pixels, float* block) {
      join(tile, pixel, pixels, reinterpret_cast<uint32_t*>(block));
    });
  }

 private:
  // The pixels of the tile from `pixel` on.
  template <typename T>
  void join(const Tile& tile, int64_t pixel, int64_t pixels, T* y) const {
    for (int i = 0; i < input_count; y += part_channels_[i], ++i) {
      const int64_t channels = part_channels_[i];
      copy_rows(static_cast<const T*>(tile.rows<T>(inputs[i])) + pixel * channels, channels, channels, pixels,
                channels_, y);
    }
  }

  abi::ConcatenationParams options_ = {};
  abi::Type type_ = abi::kNoType;
  int64_t part_channels_[kMaxInputs] = {};
};

// Floats of integers of 8 or 16 bits: scale · (q - zero_point).
class FromIntegers final : public ChainHead {
 public:
  const char* name() const override { return "DEQUANTIZE"; }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    if (preparation.value(output).type != abi::kFloat32) return preparation.fail("its output is not float32");
    // The interpreter makes it once.
    if (x.constant != nullptr) return preparation.fail("its input is a constant");
    if (!read_scale(preparation, x, false, &scale_)) return false;
    is_short_ = x.type == abi::kInt16;
    kernels_ = preparation.kernels();
    set_channels(x.shape.channels());
    return preparation.set_shape(output, x.shape);
  }

  bool starts_chain() const override { return true; }

  int64_t scratch_bytes(int64_t pixels) const override { return block_bytes(pixels); }

  void run(const Tile& tile) const override {
    const auto convert = [&](int64_t pixel, int64_t pixels, float* y) {
      const int64_t first = pixel * channels_, size = pixels * channels_;
      if (is_short_) return kernels_->dequantize_shorts(tile.rows<int16_t>(inputs[0]) + first, scale_, size, y);
      kernels_->dequantize_bytes(tile.rows<uint8_t>(inputs[0]) + first, scale_, size, y);
    };
    if (next_of_chain == nullptr) return convert(0, tile.pixels(), tile.rows<float>(output));
    run_blocks(tile, convert);
  }

 private:
  IntegerScale scale_ = {};
  bool is_short_ = false;  // 16 bits
};

}  // namespace

Operator* create_from_integers(int32_t) { return create<FromIntegers>(); }
Operator* create_elementwise(int32_t code) { return create_with_code<Elementwise>(code); }
Operator* create_concatenation(int32_t) { return create<Concatenation>(); }

}  // namespace bnncc
