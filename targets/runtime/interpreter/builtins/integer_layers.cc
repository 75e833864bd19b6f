// CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED of 8-bit integers with constant weights.
//
// Sums of products are exact; each becomes an integer of the output's scale as in LiteRT's reference kernels
// (fixed_point.h), whose FULLY_CONNECTED rounds once and whose convolutions round twice.
#include "../../integer_convolution.h"
#include "integers.h"
#include "shares.h"
#include "spatial.h"

namespace bnncc {
namespace {

// Weights, bias and factors of a layer, inputs 1 and 2, whose outputs axis `axis` of the weights counts.
class IntegerWeights {
 public:
  // scales: of the layer's input and output.
  bool read(Setup& setup, int axis, const Scale& x, const Scale& y) {
    weights_ = setup.constant<int8_t>(1, abi::kInt8);
    if (weights_ == nullptr) return false;
    const Shape shape = setup.shape(1);
    const int64_t outputs = shape.dims[axis];
    for (int64_t i = 0; i < shape.elements(); ++i) {
      if (weights_[i] == -128) return setup.fail("a weight is -128, where -127 is the least that the kernels take");
    }
    bias_ = setup.has_input(2) ? setup.constant<int32_t>(2, abi::kInt32, outputs) : nullptr;
    if (setup.has_input(2) && bias_ == nullptr) return false;
    return read_factors(setup, axis, outputs, x, y);
  }

  int8_t weight(int64_t index) const { return weights_[index]; }
  int32_t bias(int64_t output) const { return bias_ == nullptr ? 0 : bias_[output]; }
  const FixedPoint& factor(int64_t output) const { return factors_[output]; }

 private:
  bool read_factors(Setup& setup, int axis, int64_t outputs, const Scale& x, const Scale& y) {
    const FileTensor& tensor = setup.file_tensor(1);
    const auto count = static_cast<int64_t>(tensor.scales.count);
    if (count != 1 && (count != outputs || tensor.axis != axis)) {
      return setup.fail("its weights have not one scale for each output");
    }
    for (uint64_t i = 0; i < tensor.zero_points.count; ++i) {
      if (tensor.zero_points.at<int64_t>(i) != 0) return setup.fail("its weights are not symmetric");
    }
    if (!factors_.allocate(outputs)) return setup.fail("out of memory");
    for (int64_t o = 0; o < outputs; ++o) {
      const float w = tensor.scales.at<float>(static_cast<uint64_t>(count == 1 ? 0 : o));
      if (!(w >= 0)) return setup.fail("a scale of its weights is negative");
      if (!read_factor(setup, static_cast<double>(x.scale) * w / y.scale, &factors_[o])) return false;
    }
    return true;
  }

  const int8_t* weights_ = nullptr;
  const int32_t* bias_ = nullptr;
  Array<FixedPoint> factors_;
};

// A layer's types and scales.
struct IntegerLayer {
  Scale x;
  Scale y;
  IntegerOutput output;

  bool read(Setup& setup, int8_t activation) {
    if (setup.type(0) != abi::kInt8) return setup.fail("it does not take this type");
    return x.read(setup, setup.file_tensor(0)) && y.read(setup, setup.file_output(0)) &&
           read_output(setup, activation, y, &output);
  }
};

class IntegerProducts : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team& team) override {
    if (!setup.expect(3, 1, 1)) return false;
    const bool is_convolution = code == code::kConv2d;
    IntegerLayer layer;
    if (!layer.read(setup, setup.options().number<int8_t>(is_convolution ? 3 : 0, 0))) return false;
    const Shape filter = setup.shape(1);
    Window axes[2];
    Shape y;
    if (!(is_convolution ? place_windows(setup, filter, axes, &y) : place_rows(setup, filter, axes, &y))) return false;
    if (!setup.set_output(0, abi::kInt8, y)) return false;
    IntegerWeights weights;
    if (!weights.read(setup, 0, layer.x, layer.y)) return false;
    const int64_t outputs = filter.dims[0];
    const int64_t depth = filter.elements() / outputs;
    const int64_t pixels = y.elements() / outputs;
    // As LiteRT 2.3 does, in its reference kernels and in others.
    if (!is_convolution) layer.output.rounding = Rounding::kOnce;
    const int64_t channels = is_convolution ? setup.shape(0).channels() : filter.channels();
    const bool is_ready = convolution_.prepare(
        setup.kernels(), channels, axes, outputs, channels / filter.channels(), layer.x.zero_point,
        [&](int64_t o, int64_t k) { return weights.weight(o * depth + k); }, [&](int64_t o) { return weights.bias(o); },
        [&](int64_t o) { return weights.factor(o); }, layer.output);
    return (is_ready && plan(team, pixels)) || setup.fail("out of memory");
  }

  void run(const Call& call) const override {
    const int8_t* const x = call.input<int8_t>(0);
    int8_t* const y = call.output<int8_t>(0);
    shares_.run(call.team(), [&](int64_t begin, int64_t end, int64_t first, int64_t last, int thread) {
      const int8_t* const from = convolution_.is_pointwise() ? x + begin * convolution_.channels() : x;
      char* const scratch = scratch_.data() + thread * scratch_bytes_;
      convolution_.run(from, begin, end, first, last, scratch, y + begin * convolution_.outputs());
    });
  }

 private:
  static bool place_windows(Setup& setup, const Shape& filter, Window* axes, Shape* y) {
    const Shape x = setup.shape(0);
    if (x.rank != 4 || filter.rank != 4) return setup.fail(kNoMap);
    if (groups_of(x.dims[3], filter.dims[3], filter.dims[0]) == 0) {
      return setup.fail("its filters have not the channels of an equal part of the input's");
    }
    return Windows(setup.options(), filter, 4).slide(setup, x, filter.dims[0], axes, y);
  }

  // The rows of the input as the pixels of one line.
  static bool place_rows(Setup& setup, const Shape& filter, Window* axes, Shape* y) {
    const Shape x = setup.shape(0);
    const FlatbufferTable& options = setup.options();
    if (options.number<int8_t>(1, 0) != 0) return setup.fail("its weights' format is unknown");
    if (filter.rank != 2 || x.elements() % filter.dims[1] != 0) return setup.fail("its weights do not fit its input");
    const int64_t rows = x.elements() / filter.dims[1];
    axes[0] = {1, 1, 0, 1, 1, 1};
    axes[1] = {rows, rows, 0, 1, 1, 1};
    if (options.number<uint8_t>(2, 0) != 0) {
      if (x.rank == 0 || x.channels() != filter.dims[1]) return setup.fail("its weights do not fit its input");
      *y = x;
      y->dims[y->rank - 1] = filter.dims[0];
    } else {
      *y = {2, {static_cast<int>(rows), filter.dims[0]}};
    }
    return true;
  }

  // Every thread gets work.
  bool plan(const Team& team, int64_t pixels) {
    constexpr int64_t kTile = 8;
    const int64_t block = min(convolution_.block(), round_up(ceil_div(pixels, team.threads()), kTile));
    shares_.plan(team, pixels, block, convolution_.panels());
    scratch_bytes_ = round_up(convolution_.scratch_bytes(block), kAlignment);
    return scratch_.allocate(checked_product(scratch_bytes_, team.threads()));
  }

  IntegerConvolution convolution_;
  Shares shares_;
  int64_t scratch_bytes_ = 0;  // of one thread
  Array<char> scratch_;
};

class IntegerDepthwise : public Builtin {
 public:
  bool prepare(Setup& setup, const Team& team) override {
    if (!setup.expect(3, 1, 1)) return false;
    const FlatbufferTable& options = setup.options();
    IntegerLayer layer;
    if (!layer.read(setup, options.number<int8_t>(4, 0))) return false;
    x_ = setup.shape(0);
    const Shape filter = setup.shape(1);
    if (x_.rank != 4 || filter.rank != 4) return setup.fail(kNoMap);
    if (filter.dims[0] != 1 || filter.dims[3] % x_.dims[3] != 0) {
      return setup.fail("its filters have not a multiple of the input's channels");
    }
    const Windows windows(options, filter, 5);
    if (!windows.slide(setup, x_, filter.dims[3], axes_, &y_) || !setup.set_output(0, abi::kInt8, y_)) return false;
    outputs_ = filter.dims[3];
    multiplier_ = outputs_ / x_.dims[3];
    zero_point_ = layer.x.zero_point;
    IntegerWeights weights;
    if (!weights.read(setup, 3, layer.x, layer.y)) return false;
    requantize_ = setup.kernels()->requantize;
    const auto factor = [&](int64_t o) { return weights.factor(o); };
    if (!filter_.allocate(filter.elements()) || !bias_.allocate(outputs_) ||
        !factors_.pack(setup.kernels()->integer_panel, outputs_, factor, layer.output) ||
        !sums_.allocate(checked_product(team.threads(), outputs_))) {
      return setup.fail("out of memory");
    }
    for (int64_t i = 0; i < filter.elements(); ++i) filter_[i] = weights.weight(i);
    for (int64_t o = 0; o < outputs_; ++o) bias_[o] = weights.bias(o);
    return true;
  }

  void run(const Call& call) const override {
    const int8_t* const x = call.input<int8_t>(0);
    int8_t* const y = call.output<int8_t>(0);
    call.team().run(y_.dims[0] * axes_[0].output, [&](int64_t row, int thread) {
      const int8_t* const map = x + row / axes_[0].output * axes_[0].input * axes_[1].input * x_.dims[3];
      int32_t* const sums = sums_.data() + thread * outputs_;
      for (int64_t column = 0; column < axes_[1].output; ++column) {
        sum_pixel(map, row % axes_[0].output, column, reinterpret_cast<uint32_t*>(sums));
        requantize_(sums, factors_.from(0), 1, outputs_, y + (row * axes_[1].output + column) * outputs_);
      }
    });
  }

 private:
  // Sums wrap around, as nothing else is said of files whose sums do not fit.
  void sum_pixel(const int8_t* map, int64_t row, int64_t column, uint32_t* sums) const {
    const int64_t channels = x_.dims[3];
    memcpy(sums, bias_.data(), static_cast<size_t>(outputs_) * sizeof(int32_t));
    const Reach down(axes_[0], row);
    const Reach across(axes_[1], column);
    for (int64_t i = down.first; i < down.last; ++i) {
      const int8_t* const line = map + axes_[0].position(row, i) * axes_[1].input * channels;
      for (int64_t j = across.first; j < across.last; ++j) {
        const int8_t* const pixel = line + axes_[1].position(column, j) * channels;
        const int16_t* const w = filter_.data() + (i * axes_[1].kernel + j) * outputs_;
        if (multiplier_ == 1) {
          for (int64_t c = 0; c < channels; ++c) sums[c] += static_cast<uint32_t>((pixel[c] - zero_point_) * w[c]);
          continue;
        }
        for (int64_t c = 0; c < channels; ++c) {
          const int32_t q = pixel[c] - zero_point_;
          for (int64_t m = 0; m < multiplier_; ++m) {
            sums[c * multiplier_ + m] += static_cast<uint32_t>(q * w[c * multiplier_ + m]);
          }
        }
      }
    }
  }

  Shape x_;
  Shape y_;
  Window axes_[2];
  int64_t outputs_ = 0;
  int64_t multiplier_ = 1;
  int32_t zero_point_ = 0;
  decltype(Kernels::requantize) requantize_ = nullptr;
  Array<int16_t> filter_;
  Array<int32_t> bias_;
  IntegerFactors factors_;
  Array<int32_t> sums_;  // of a pixel, for each thread
};

}  // namespace

Builtin* create_integer_products(int32_t code) { return create_with_code<IntegerProducts>(code); }
Builtin* create_integer_depthwise_convolution(int32_t) { return create<IntegerDepthwise>(); }

}  // namespace bnncc
