// LceBconv2d: the convolution of ±1 maps with ±1 filters, as gemm of bits (see BinaryGemm in kernels/kernels.h).
//
// A tile's patches, the input words that each output pixel reads, are packed into the tile's scratch.  K = KH·KW·C
// products make up a sum acc = K - 2·p.
//
// Padding.  A bit cannot say zero: padding adds 0 bits, which is +1, and that is what pad_values 1 asks for.  For zeros
// the products of the padding, 1·w, must be taken out again: over the taps t that lie outside the map,
//
//     acc_zero = acc_one - Σ_t Σ_c w[t, c] = acc_one - Σ_t (C - 2·popcount(w[t])).
//
// The sums of w over a tap's channels are constants, so that a border pixel costs a few additions a filter, whichever
// of its taps are outside: on maps smaller than the kernel too.
//
// Outputs.  float32: y = clamp(acc)·m + b.  int8: the same, divided by the scale, zero point added, rounded.  int32:
// bit 1 where p > threshold.
#include "../operator.h"
#include "../options.h"

namespace bnncc {
namespace {

constexpr int kInputs = 5;  // map, filters, multiplier, bias, thresholds
constexpr int64_t kWordBytes = 4;

struct Clamp {
  int32_t least;
  int32_t most;
};

// The bounds of acc, which lies in [-products, products] anyway.
Clamp clamp_of(Activation activation, int32_t products) {
  switch (activation) {
    case Activation::kRelu: return {0, products};
    case Activation::kReluN1To1: return {-1, 1};
    case Activation::kRelu6: return {0, 6};
    default: return {-products, products};
  }
}

class Bconv2d final : public Operator {
 public:
  const char* name() const override { return "LceBconv2d"; }

  const char* parse(const abi::Node& node) override {
    return bnncc::parse(node.custom_initial_data, static_cast<size_t>(max(node.custom_initial_data_size, 0)),
                        &options_);
  }

  bool prepare(Preparation& preparation) override {
    kernels_ = preparation.kernels();
    return find_shapes(preparation) && find_output(preparation) && arrange_filters(preparation) &&
           sum_taps(preparation);
  }

  // Multiplier and bias, or thresholds: which, the type of the output says.
  bool may_be_absent(int index) const override { return index >= 2; }

  Locality locality() const override { return is_pointwise() ? Locality{1, 1} : Locality{0, 0}; }

  int64_t filter_bytes() const override {
    return tables_.size() + panels_.size() * static_cast<int64_t>(sizeof(uint32_t));
  }

  int64_t scratch_bytes(int64_t pixels) const override {
    return checked_sum(patch_bytes(pixels),
                       type_ == abi::kFloat32 ? 0 : checked_product(pixels, filters_ * kWordBytes));
  }

  void run(const Tile& tile) const override {
    uint32_t* const patches = reinterpret_cast<uint32_t*>(tile.scratch + scratch_offset);
    int32_t* const counts = reinterpret_cast<int32_t*>(tile.scratch + scratch_offset + patch_bytes(tile.pixels()));
    if (is_pointwise()) {
      // The map's own rows are the patches, but for the last ones: a block of them would reach beyond the map.
      const uint32_t* const x = tile.rows<uint32_t>(inputs[0]);
      const int64_t rest = kernels_->patches_are_rows ? tile.pixels() % kernels_->patch_pixels : tile.pixels();
      const int64_t in_place = tile.pixels() - rest;
      if (in_place > 0) multiply(tile, 0, x, 0, in_place, counts);
      if (rest > 0) {
        kernels_->pack(x + in_place * words_, words_, {words_, 0, rest, 0, words_}, patches);
        multiply(tile, 0, patches, in_place, rest, counts);
      }
    } else {
      for (int64_t group = 0; group < groups_; ++group) {
        pack_patches(tile, group, patches);
        multiply(tile, group, patches, 0, tile.pixels(), counts);
      }
    }
    if (type_ == abi::kInt32) {
      kernels_->threshold(counts, thresholds_, tile.rows<uint32_t>(output), tile.pixels(), filters_);
    } else if (type_ == abi::kInt8) {
      quantize(counts, tile.rows<int8_t>(output), tile.pixels());
    } else if (corrects_padding_) {
      correct_padding(tile);
    }
  }

 private:
  bool is_pointwise() const { return groups_ == 1 && rows_.is_pointwise() && columns_.is_pointwise(); }

  int64_t patch_bytes(int64_t pixels) const {
    return checked_product(round_up(pixels, kernels_->patch_pixels), words_ * kernels_->patch_word_bytes);
  }

  // One group's filters against the patches of `pixels` pixels of the tile, from its pixel `first` on: floats of the
  // output, or `counts` of the tile.
  void multiply(const Tile& tile, int64_t group, const uint32_t* patches, int64_t first, int64_t pixels,
                int32_t* counts) const {
    const int64_t filters = filters_ / groups_;
    const uint32_t* const panels = panels_.data() + group * group_panel_words_;
    const uint8_t* const tables = tables_.size() == 0 ? nullptr : tables_.data();
    const BinaryGemm gemm = {patches, pixels, words_, panels, filters, filters_, tables};
    const int64_t offset = first * filters_ + group * filters;
    if (type_ != abi::kFloat32) {
      kernels_->gemm_counts(gemm, counts + offset);
      return;
    }
    const float* const multiplier = multiplier_.data() + group * padded_filters_;
    const float* const bias = bias_.data() + group * padded_filters_;
    const bool clamps = options_.activation != Activation::kNone;
    const Affine affine = {multiplier, bias, clamps, 0.5f * static_cast<float>(clamp_.least),
                           0.5f * static_cast<float>(clamp_.most)};
    kernels_->gemm_float(gemm, affine, tile.rows<float>(output) + offset);
  }

  bool find_shapes(Preparation& preparation) {
    if (input_count != kInputs) return preparation.fail("it has %d inputs instead of 5", input_count);
    const Value& x = preparation.value(inputs[0]);
    const Value& filters = preparation.value(inputs[1]);
    if (x.type != abi::kInt32 || x.shape.rank != 4)
      return preparation.fail("its input is not a packed int32 feature map");
    filter_words_ = preparation.constant<uint32_t>(inputs[1], abi::kInt32, filters.shape.elements());
    if (filter_words_ == nullptr || filters.shape.rank != 4) {
      return preparation.fail("its filters are not a constant int32 tensor of 4 axes");
    }
    filters_ = filters.shape.dims[0];
    tap_words_ = filters.shape.dims[3];
    input_words_ = x.shape.dims[3];
    if (input_words_ != words_of(options_.channels_in)) {
      return preparation.fail("its input has %d words for %d channels", x.shape.dims[3], options_.channels_in);
    }
    groups_ = input_words_ / tap_words_;
    if (input_words_ % tap_words_ != 0 || (groups_ > 1 && options_.channels_in % (32 * groups_) != 0)) {
      return preparation.fail("its filters have %d words for %d channels", filters.shape.dims[3], options_.channels_in);
    }
    if (filters_ % groups_ != 0) {
      return preparation.fail("%d filters cannot form %d groups", filters.shape.dims[0], static_cast<int>(groups_));
    }
    channels_ = options_.channels_in / groups_;
    if (!slide(options_.padding, x.shape.dims[1], filters.shape.dims[1], options_.stride_height,
               options_.dilation_height, &rows_) ||
        !slide(options_.padding, x.shape.dims[2], filters.shape.dims[2], options_.stride_width, options_.dilation_width,
               &columns_)) {
      return preparation.fail("its %dx%d kernel does not fit", filters.shape.dims[1], filters.shape.dims[2]);
    }
    words_ = checked_product(checked_product(rows_.kernel, columns_.kernel), tap_words_);
    const int64_t most_products = checked_product(words_, 32);
    if (most_products < 0 || most_products > INT32_MAX / 2) {  // 2·p is an int32
      return preparation.fail("its kernel is too large");
    }
    if (words_ > kernels_->most_words) kernels_ = find_kernels("portable");  // which takes any number
    products_ = static_cast<int32_t>(rows_.kernel * columns_.kernel * channels_);
    const Shape shape = {4,
                         {x.shape.dims[0], static_cast<int>(rows_.output), static_cast<int>(columns_.output),
                          type_of_output(preparation) == abi::kInt32 ? words_of(static_cast<int>(filters_))
                                                                     : static_cast<int>(filters_)}};
    return preparation.set_shape(output, shape);
  }

  abi::Type type_of_output(const Preparation& preparation) const { return preparation.value(output).type; }

  bool find_output(Preparation& preparation) {
    type_ = type_of_output(preparation);
    const bool pads = !rows_.never_pads() || !columns_.never_pads();
    corrects_padding_ = pads && !options_.pads_with_ones;
    if (corrects_padding_ && (type_ != abi::kFloat32 || options_.activation != Activation::kNone)) {
      return preparation.fail("padding with zeros goes with float32 output and no fused activation only");
    }
    if (type_ == abi::kInt32) {
      thresholds_ = inputs[4] < 0 ? nullptr : preparation.constant<int32_t>(inputs[4], abi::kInt32, filters_);
      if (thresholds_ == nullptr) return preparation.fail("its thresholds are not one constant int32 a filter");
      return true;
    }
    if (type_ != abi::kFloat32 && type_ != abi::kInt8)
      return preparation.fail("its output is not float32, int8 or int32");
    return find_affine(preparation);
  }

  // multiplier = -2·m, bias = b + K·m (rounded once), and the clamp of acc as one of 2·p = K - acc; for int8 in units
  // of the scale.
  bool find_affine(Preparation& preparation) {
    const float* const m = inputs[2] < 0 ? nullptr : preparation.constant<float>(inputs[2], abi::kFloat32, filters_);
    const float* const b = inputs[3] < 0 ? nullptr : preparation.constant<float>(inputs[3], abi::kFloat32, filters_);
    if (m == nullptr || b == nullptr) {
      return preparation.fail("its multiplier or its bias is not one constant float32 a filter");
    }
    const Clamp clamp = clamp_of(options_.activation, products_);
    clamp_ = {products_ - clamp.most, products_ - clamp.least};
    const abi::QuantizationParams quantization = preparation.value(output).quantization;
    if (type_ == abi::kInt8 && !(quantization.scale > 0))
      return preparation.fail("the scale of its output is not positive");
    // Rows of whole vectors for each group, so that the last vector of multipliers can be loaded.
    const int64_t filters = filters_ / groups_;
    padded_filters_ = round_up(filters, kernels_->lanes);
    const int64_t size = checked_product(groups_, padded_filters_);
    if (size < 0 || !multiplier_.allocate(size) || !bias_.allocate(size)) return preparation.fail("out of memory");
    for (int64_t filter = 0; filter < filters_; ++filter) {
      float multiplier = -m[filter];
      float bias = static_cast<float>(b[filter] + static_cast<double>(products_) * m[filter]);
      if (type_ == abi::kInt8) {
        multiplier /= quantization.scale;
        bias = bias / quantization.scale + static_cast<float>(quantization.zero_point);
      }
      const int64_t index = filter / filters * padded_filters_ + filter % filters;
      multiplier_[index] = 2 * multiplier;
      if (is_infinite(multiplier_[index]) && !is_infinite(multiplier)) {
        return preparation.fail("multiplier %d is too large", static_cast<int>(filter));
      }
      bias_[index] = bias;
    }
    return true;
  }

  // Filters as BinaryGemm wants them: in tables where these are faster, else in panels.
  bool arrange_filters(Preparation& preparation) {
    const int64_t pixels = preparation.value(output).pixels;
    const int64_t table_bytes = groups_ == 1 ? kernels_->table_bytes(words_, filters_, pixels) : 0;
    if (!tables_.allocate(table_bytes)) return preparation.fail("out of memory");
    if (table_bytes == 0) return fill_panels(preparation);
    kernels_->fill_tables(filter_words_, words_, filters_, tables_.data());
    return true;
  }

  // One group after the other.
  bool fill_panels(Preparation& preparation) {
    const int64_t filters = filters_ / groups_;
    group_panel_words_ = kernels_->panel_words(words_, filters);
    if (!panels_.allocate(checked_product(groups_, group_panel_words_))) return preparation.fail("out of memory");
    for (int64_t group = 0; group < groups_; ++group) {
      const uint32_t* const words = filter_words_ + group * filters * words_;
      kernels_->fill_panels(words, words_, filters, panels_.data() + group * group_panel_words_);
    }
    return true;
  }

  static bool is_infinite(float x) { return x - x != 0 && x == x; }

  // tap_sums_[tap, filter] = Σ_c w[tap, c], and what they are multiplied by: -m.
  bool sum_taps(Preparation& preparation) {
    if (!corrects_padding_) return true;
    const int64_t taps = rows_.kernel * columns_.kernel;
    if (!tap_sums_.allocate(checked_product(taps, filters_)) || !correction_.allocate(filters_)) {
      return preparation.fail("out of memory");
    }
    const int64_t filters = filters_ / groups_;
    for (int64_t filter = 0; filter < filters_; ++filter) {
      correction_[filter] = 0.5f * multiplier_[filter / filters * padded_filters_ + filter % filters];
      for (int64_t tap = 0; tap < taps; ++tap) {
        int32_t minus = 0;
        for (int64_t word = 0; word < tap_words_; ++word) {
          minus += __builtin_popcount(filter_words_[(filter * taps + tap) * tap_words_ + word]);
        }
        tap_sums_[tap * filters_ + filter] = static_cast<int32_t>(channels_) - 2 * minus;
      }
    }
    return true;
  }

  struct Position {
    int64_t image;
    int64_t row;
    int64_t column;
  };

  Position position_of(int64_t pixel) const {
    const int64_t line = pixel / columns_.output;
    return {line / rows_.output, line % rows_.output, pixel % columns_.output};
  }

  // Patches of one group: the words of a pixel are those of its taps in order; padding is words of 0 bits.
  void pack_patches(const Tile& tile, int64_t group, uint32_t* patches) const {
    const uint32_t* const x = tile.all<uint32_t>(inputs[0]) + group * tap_words_;
    const int64_t row_words = columns_.kernel * tap_words_;
    for (int64_t pixel = tile.begin; pixel < tile.end;) {
      const Position start = position_of(pixel);
      const int64_t columns = min(columns_.output - start.column, tile.end - pixel);
      for (int64_t i = 0; i < rows_.kernel; ++i) {
        const PatchSlice taps = {words_, pixel - tile.begin, columns, i * row_words, row_words};
        const int64_t row = rows_.position(start.row, i);
        if (rows_.holds(row)) {
          pack_line(x + (start.image * rows_.input + row) * columns_.input * input_words_, start.column, taps, patches);
        } else {
          kernels_->pack(nullptr, 0, taps, patches);
        }
      }
      pixel += columns;
    }
  }

  struct Range {
    int64_t begin;
    int64_t end;
  };

  // Those of output columns [first, first + count) whose taps all lie inside the line.
  Range inside_columns(int64_t first, int64_t count) const {
    const int64_t last = columns_.input - 1 - (columns_.kernel - 1) * columns_.dilation + columns_.before;
    const int64_t begin = min(max(ceil_div(columns_.before, columns_.stride), first), first + count);
    const int64_t end = last < 0 ? begin : max(min(last / columns_.stride + 1, first + count), begin);
    return {begin, end};
  }

  // One row of taps of the output columns from `first` on, from one line of the input.
  void pack_line(const uint32_t* line, int64_t first, const PatchSlice& taps, uint32_t* patches) const {
    const Range inside = inside_columns(first, taps.pixels);
    for (int64_t column = first; column < inside.begin; ++column) pack_edge(line, column, first, taps, patches);
    for (int64_t column = inside.end; column < first + taps.pixels; ++column) {
      pack_edge(line, column, first, taps, patches);
    }
    if (inside.begin == inside.end) return;
    const uint32_t* const source = line + columns_.position(inside.begin, 0) * input_words_;
    const int64_t step = columns_.stride * input_words_;
    PatchSlice slice = taps;
    slice.first_pixel += inside.begin - first;
    slice.pixels = inside.end - inside.begin;
    if (columns_.dilation == 1 && groups_ == 1) {
      kernels_->pack(source, step, slice, patches);
      return;
    }
    slice.words = tap_words_;
    for (int64_t j = 0; j < columns_.kernel; ++j, slice.first_word += tap_words_) {
      kernels_->pack(source + j * columns_.dilation * input_words_, step, slice, patches);
    }
  }

  // The same of one column with taps outside the line.
  void pack_edge(const uint32_t* line, int64_t column, int64_t first, const PatchSlice& taps, uint32_t* patches) const {
    PatchSlice tap = {words_, taps.first_pixel + column - first, 1, taps.first_word, tap_words_};
    for (int64_t j = 0; j < columns_.kernel; ++j, tap.first_word += tap_words_) {
      const int64_t position = columns_.position(column, j);
      kernels_->pack(columns_.holds(position) ? line + position * input_words_ : nullptr, 0, tap, patches);
    }
  }

  // Adds multiplier · Σ_t Σ_c w[t, c] over the taps t outside the map.
  void correct_padding(const Tile& tile) const {
    float* y = tile.rows<float>(output);
    for (int64_t pixel = tile.begin; pixel < tile.end;) {
      const Position start = position_of(pixel);
      const int64_t columns = min(columns_.output - start.column, tile.end - pixel);
      const bool row_inside =
          rows_.position(start.row, 0) >= 0 && rows_.holds(rows_.position(start.row, rows_.kernel - 1));
      const Range inside = row_inside ? inside_columns(start.column, columns) : Range{start.column, start.column};
      for (int64_t filter = 0; filter < filters_; filter += kCorrectedFilters) {
        correct_line(start, columns, inside, filter, y + filter);
      }
      pixel += columns;
      y += columns * filters_;
    }
  }

  static constexpr int64_t kCorrectedFilters = 256;  // at a time

  // Up to kCorrectedFilters filters of the pixels of one line, but for those in `inside`.
  void correct_line(const Position& start, int64_t columns, const Range& inside, int64_t filter, float* y) const {
    alignas(kAlignment) int32_t sums[kCorrectedFilters];
    const int64_t size = min(kCorrectedFilters, filters_ - filter);
    // Neighbours mostly have the same taps outside.
    Range last_taps = {-1, -1};
    for (int64_t i = 0; i < columns; ++i) {
      const int64_t column = start.column + i;
      if (column >= inside.begin && column < inside.end) continue;
      const Range taps = taps_inside(columns_, column);
      if (taps.begin != last_taps.begin || taps.end != last_taps.end) sum_outside(start.row, taps, filter, sums, size);
      last_taps = taps;
      kernels_->multiply_add(correction_.data() + filter, sums, y + i * filters_, size);
    }
  }

  // The taps of output position `o` that lie inside the map: a range, as positions grow.
  static Range taps_inside(const Window& window, int64_t o) {
    Range taps = {0, window.kernel};
    while (taps.begin < taps.end && window.position(o, taps.begin) < 0) ++taps.begin;
    while (taps.end > taps.begin && window.position(o, taps.end - 1) >= window.input) --taps.end;
    return taps;
  }

  void sum_outside(int64_t row, const Range& columns, int64_t filter, int32_t* sums, int64_t size) const {
    const Range rows = taps_inside(rows_, row);
    memset(sums, 0, static_cast<size_t>(size) * sizeof(*sums));
    for (int64_t i = 0; i < rows_.kernel; ++i) {
      for (int64_t j = 0; j < columns_.kernel; ++j) {
        const bool is_inside = i >= rows.begin && i < rows.end && j >= columns.begin && j < columns.end;
        if (is_inside) continue;
        kernels_->add_counts(tap_sums_.data() + (i * columns_.kernel + j) * filters_ + filter, sums, size);
      }
    }
  }

  void quantize(const int32_t* counts, int8_t* y, int64_t pixels) const {
    const int64_t filters = filters_ / groups_;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      for (int64_t filter = 0; filter < filters_; ++filter) {
        const int64_t index = filter / filters * padded_filters_ + filter % filters;
        const int32_t twice = max(clamp_.least, min(clamp_.most, 2 * *counts++));
        const float value = 0.5f * static_cast<float>(twice) * multiplier_[index] + bias_[index];
        *y++ = round_to_int8(value);
      }
    }
  }

  // To the nearest integer, halves away from zero; NaN is 0.
  static int8_t round_to_int8(float value) {
    if (!(value > -128.0f)) return value <= -128.0f ? -128 : 0;
    if (value >= 127.0f) return 127;
    const int truncated = static_cast<int>(value);
    const float rest = value - static_cast<float>(truncated);
    return static_cast<int8_t>(truncated + (rest >= 0.5f) - (rest <= -0.5f));
  }

  Bconv2dOptions options_;
  const Kernels* kernels_ = nullptr;
  abi::Type type_ = abi::kNoType;
  bool corrects_padding_ = false;

  Window rows_;
  Window columns_;
  int64_t groups_ = 1;
  int64_t filters_ = 0;      // of all groups
  int64_t channels_ = 0;     // of one group
  int64_t input_words_ = 0;  // of one input pixel
  int64_t tap_words_ = 0;    // of one tap of a filter
  int64_t words_ = 0;        // of a filter, and of a patch
  int32_t products_ = 0;     // K

  const uint32_t* filter_words_ = nullptr;
  const int32_t* thresholds_ = nullptr;
  Clamp clamp_ = {0, 0};  // of 2·p
  int64_t padded_filters_ = 0;
  int64_t group_panel_words_ = 0;
  Array<float> multiplier_;
  Array<float> bias_;
  Array<uint32_t> panels_;
  Array<uint8_t> tables_;  // empty where panels serve
  Array<int32_t> tap_sums_;
  Array<float> correction_;
};

}  // namespace

Operator* create_bconv2d() { return create<Bconv2d>(); }

}  // namespace bnncc
