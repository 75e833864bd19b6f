// TensorFlow Lite's CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED of 8-bit integers with constant weights.
//
// Sums of products are exact; each becomes an integer of the output's scale as in LiteRT's reference kernels
// (fixed_point.h), whose FULLY_CONNECTED rounds once and whose convolutions round twice.
#include "../integer_convolution.h"
#include "builtin_operator.h"
#include "integers.h"

namespace bnncc {
namespace {

const char* const kNoMap = "an input is no map [N, H, W, C] of int8";

// A layer: x, input 0, weights, input 1, and bias, input 2, of int8 and int32.
class IntegerLayer : public Operator {
 public:
  bool may_be_absent(int index) const override { return index == 2; }

 protected:
  // Scales, weights and bias; axis `axis` of the weights counts the outputs.  False after a report.
  bool read(const Preparation& preparation, abi::FusedActivation activation, int axis) {
    if (input_count < 2 || input_count > 3) return preparation.fail("it has %d inputs instead of 3", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& weights = preparation.value(inputs[1]);
    if (x.type != abi::kInt8 || preparation.value(output).type != abi::kInt8 || x.shape.rank == 0) {
      return preparation.fail("its input or output is not int8");
    }
    if (!x_.read(preparation, x) || !y_.read(preparation, preparation.value(output))) return false;
    integers_ = output_of(activation, y_);
    weights_ = preparation.constant<int8_t>(inputs[1], abi::kInt8, weights.shape.elements());
    if (weights_ == nullptr || weights.shape.rank <= axis) {
      return preparation.fail("its weights are not a constant int8 tensor");
    }
    for (int64_t i = 0; i < weights.shape.elements(); ++i) {
      if (weights_[i] == -128) {
        return preparation.fail("a weight is -128, where -127 is the least that the kernels take");
      }
    }
    const int outputs = weights.shape.dims[axis];
    const bool has_bias = input_count == 3 && inputs[2] >= 0;
    bias_ = has_bias ? preparation.constant<int32_t>(inputs[2], abi::kInt32, outputs) : nullptr;
    if (has_bias && bias_ == nullptr) return preparation.fail("its bias is not one constant int32 an output");
    return read_factors(preparation, weights, axis, outputs);
  }

  int8_t weight(int64_t index) const { return weights_[index]; }
  int32_t bias(int64_t output) const { return bias_ == nullptr ? 0 : bias_[output]; }
  const FixedPoint& factor(int64_t output) const { return factors_[output]; }
  int32_t zero_point() const { return x_.zero_point; }

  IntegerOutput integers_;  // what it yields

 private:
  bool read_factors(const Preparation& preparation, const Value& weights, int axis, int outputs) {
    const abi::AffineQuantization* const scales = weights.scales;
    if (scales == nullptr || scales->scale == nullptr) return preparation.fail("its weights have no scale");
    const int count = scales->scale->size;
    if (count != 1 && (count != outputs || scales->quantized_dimension != axis)) {
      return preparation.fail("its weights have not one scale for each output");
    }
    for (int i = 0; scales->zero_point != nullptr && i < scales->zero_point->size; ++i) {
      if (scales->zero_point->data[i] != 0) return preparation.fail("its weights are not symmetric");
    }
    if (!factors_.allocate(outputs)) return preparation.fail("out of memory");
    for (int o = 0; o < outputs; ++o) {
      const float w = scales->scale->data[count == 1 ? 0 : o];
      if (!(w >= 0)) return preparation.fail("a scale of its weights is negative");
      if (!read_factor(preparation, static_cast<double>(x_.scale) * w / y_.scale, &factors_[o])) return false;
    }
    return true;
  }

  Scale x_;
  Scale y_;
  const int8_t* weights_ = nullptr;
  const int32_t* bias_ = nullptr;
  Array<FixedPoint> factors_;
};

// Layers that are products of matrices.
class IntegerProducts : public IntegerLayer {
 public:
  Locality locality() const override {
    return convolution_.is_pointwise() && parts() == 0 ? Locality{1, 1} : Locality{0, 0};
  }

  int64_t scratch_bytes(int64_t pixels) const override {
    return convolution_.scratch_bytes(parts() > 0 ? rows_ : pixels);
  }

  void run(const Tile& tile) const override {
    char* const scratch = tile.scratch + scratch_offset;
    if (parts() > 0) {
      const int8_t* const x = tile.all<int8_t>(inputs[0]);
      return convolution_.run(x, 0, rows_, tile.begin, tile.end, scratch, tile.whole<int8_t>(output));
    }
    const int8_t* const x = convolution_.is_pointwise() ? tile.rows<int8_t>(inputs[0]) : tile.all<int8_t>(inputs[0]);
    convolution_.run(x, tile.begin, tile.end, 0, convolution_.panels(), scratch, tile.rows<int8_t>(output));
  }

 protected:
  // Of filters that meet so many channels each, over so many rows.
  bool make(const Preparation& preparation, const Window (&axes)[2], int64_t channels, const Shape& filters,
            int64_t rows) {
    rows_ = rows;
    const int64_t outputs = filters.dims[0];
    const int64_t depth = filters.elements() / outputs;
    return convolution_.prepare(
               preparation.kernels(), channels, axes, outputs, channels / filters.channels(), zero_point(),
               [=](int64_t o, int64_t k) { return weight(o * depth + k); }, [=](int64_t o) { return bias(o); },
               [=](int64_t o) { return factor(o); }, integers_) ||
           preparation.fail("out of memory");
  }

  int64_t rows() const { return rows_; }
  int64_t panels() const { return convolution_.panels(); }

 private:
  IntegerConvolution convolution_;
  int64_t rows_ = 0;
};

class IntegerConv2d final : public IntegerProducts {
 public:
  const char* name() const override { return "CONV_2D"; }

  const char* parse(const abi::Node& node) override { return parse_convolution(node, &options_); }

  bool prepare(Preparation& preparation) override {
    if (!read(preparation, options_.activation, 0)) return false;
    const Shape& x = preparation.value(inputs[0]).shape;
    const Shape& filters = preparation.value(inputs[1]).shape;
    if (x.rank != 4 || filters.rank != 4) return preparation.fail("%s", kNoMap);
    if (groups_of(x.channels(), filters.channels(), filters.dims[0]) == 0) {
      return preparation.fail("its filters have not the channels of an equal part of the input's");
    }
    Window axes[2];
    if (!slide_windows(options_, x, filters, axes)) return preparation.fail("its filters do not fit its input");
    const Shape y = output_of_windows(x, axes, filters.dims[0]);
    return make(preparation, axes, x.channels(), filters, y.elements() / y.channels()) &&
           preparation.set_shape(output, y);
  }

 private:
  abi::ConvParams options_ = {};
};

class IntegerFullyConnected final : public IntegerProducts {
 public:
  const char* name() const override { return "FULLY_CONNECTED"; }

  const char* parse(const abi::Node& node) override {
    return parse_fully_connected(node, &options_);
  }

  bool prepare(Preparation& preparation) override {
    if (!read(preparation, options_.activation, 0)) return false;
    integers_.rounding = Rounding::kOnce;  // as in LiteRT 2.3, in its reference kernels and in others
    const Shape& x = preparation.value(inputs[0]).shape;
    const Shape& filters = preparation.value(inputs[1]).shape;
    const int depth = filters.channels();
    if (filters.rank != 2 || x.elements() % depth != 0 || (options_.keep_num_dims && x.channels() != depth)) {
      return preparation.fail("its weights do not fit its input");
    }
    // The rows of the input as the pixels of one line.
    const int64_t rows = x.elements() / depth;
    const Window axes[2] = {{1, 1, 0, 1, 1, 1}, {rows, rows, 0, 1, 1, 1}};
    Shape y = {2, {static_cast<int>(rows), filters.dims[0]}};
    if (options_.keep_num_dims) {
      y = x;
      y.dims[y.rank - 1] = filters.dims[0];
    }
    is_local_ = x.channels() == depth;
    return make(preparation, axes, depth, filters, rows) && preparation.set_shape(output, y);
  }

  Locality locality() const override { return is_local_ ? IntegerProducts::locality() : Locality{0, 0}; }

  // Panels of the weights, where there are few rows or where a row of the weights is not one of the input.
  int64_t parts() const override { return rows() < kFewRows || !is_local_ ? panels() : 0; }

 private:
  static constexpr int64_t kFewRows = 16;

  abi::FullyConnectedParams options_ = {};
  bool is_local_ = false;
};

class IntegerDepthwise final : public IntegerLayer {
 public:
  const char* name() const override { return "DEPTHWISE_CONV_2D"; }

  const char* parse(const abi::Node& node) override { return parse_convolution(node, &options_); }

  bool prepare(Preparation& preparation) override {
    if (!read(preparation, options_.activation, 3)) return false;
    const Shape& x = preparation.value(inputs[0]).shape;
    const Shape& filter = preparation.value(inputs[1]).shape;
    if (x.rank != 4 || filter.rank != 4) return preparation.fail("%s", kNoMap);
    if (filter.dims[0] != 1 || filter.dims[3] % x.dims[3] != 0) {
      return preparation.fail("its filters have not a multiple of the input's channels");
    }
    if (!slide_windows(options_, x, filter, axes_)) return preparation.fail("its filters do not fit its input");
    channels_ = x.dims[3];
    outputs_ = filter.dims[3];
    requantize_ = preparation.kernels()->requantize;
    if (!filter_.allocate(filter.elements()) || !biases_.allocate(outputs_) ||
        !factors_.pack(
            preparation.kernels()->integer_panel, outputs_, [this](int64_t o) { return factor(o); }, integers_)) {
      return preparation.fail("out of memory");
    }
    for (int64_t i = 0; i < filter.elements(); ++i) filter_[i] = weight(i);
    for (int64_t o = 0; o < outputs_; ++o) biases_[o] = bias(o);
    return preparation.set_shape(output, output_of_windows(x, axes_, filter.dims[3]));
  }

  Locality locality() const override { return {0, 0}; }

  // The sums of a pixel.
  int64_t scratch_bytes(int64_t) const override {
    return checked_product(outputs_, static_cast<int64_t>(sizeof(int32_t)));
  }

  void run(const Tile& tile) const override {
    const int8_t* const x = tile.all<int8_t>(inputs[0]);
    int8_t* const y = tile.rows<int8_t>(output);
    int32_t* const sums = reinterpret_cast<int32_t*>(tile.scratch + scratch_offset);
    const int64_t image = axes_[0].input * axes_[1].input * channels_;
    for (int64_t pixel = tile.begin; pixel < tile.end; ++pixel) {
      const int64_t line = pixel / axes_[1].output;
      const int8_t* const map = x + line / axes_[0].output * image;
      sum_pixel(map, line % axes_[0].output, pixel % axes_[1].output, reinterpret_cast<uint32_t*>(sums));
      requantize_(sums, factors_.from(0), 1, outputs_, y + (pixel - tile.begin) * outputs_);
    }
  }

 private:
  // Sums wrap around, as nothing else is said of files whose sums do not fit.
  void sum_pixel(const int8_t* map, int64_t row, int64_t column, uint32_t* sums) const {
    const int64_t multiplier = outputs_ / channels_;
    const int32_t zero = zero_point();
    memcpy(sums, biases_.data(), static_cast<size_t>(outputs_) * sizeof(int32_t));
    const Reach down(axes_[0], row);
    const Reach across(axes_[1], column);
    for (int64_t i = down.first; i < down.last; ++i) {
      const int8_t* const line = map + axes_[0].position(row, i) * axes_[1].input * channels_;
      for (int64_t j = across.first; j < across.last; ++j) {
        const int8_t* const pixel = line + axes_[1].position(column, j) * channels_;
        const int16_t* const w = filter_.data() + (i * axes_[1].kernel + j) * outputs_;
        if (multiplier == 1) {
          for (int64_t c = 0; c < channels_; ++c) sums[c] += static_cast<uint32_t>((pixel[c] - zero) * w[c]);
          continue;
        }
        for (int64_t c = 0; c < channels_; ++c) {
          const int32_t q = pixel[c] - zero;
          for (int64_t m = 0; m < multiplier; ++m) {
            sums[c * multiplier + m] += static_cast<uint32_t>(q * w[c * multiplier + m]);
          }
        }
      }
    }
  }

  abi::DepthwiseConvParams options_ = {};
  Window axes_[2];
  int64_t channels_ = 0;
  int64_t outputs_ = 0;
  decltype(Kernels::requantize) requantize_ = nullptr;
  Array<int16_t> filter_;
  Array<int32_t> biases_;
  IntegerFactors factors_;
};

}  // namespace

Operator* create_integer_conv2d(int32_t) { return create<IntegerConv2d>(); }
Operator* create_integer_fully_connected(int32_t) { return create<IntegerFullyConnected>(); }
Operator* create_integer_depthwise_conv2d(int32_t) { return create<IntegerDepthwise>(); }

}  // namespace bnncc
