// LceBMaxPool2d: the largest of ±1 values is -1 only where all are, so it is the bitwise AND over the window.
// Positions that SAME adds take no part.
#include "../operator.h"
#include "../options.h"

namespace bnncc {
namespace {

class BMaxPool2d final : public Operator {
 public:
  const char* name() const override { return "LceBMaxPool2d"; }

  const char* parse(const abi::Node& node) override {
    return bnncc::parse(node.custom_initial_data, static_cast<size_t>(max(node.custom_initial_data_size, 0)),
                        &options_);
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    const Value& x = preparation.value(inputs[0]);
    if (x.type != abi::kInt32 || preparation.value(output).type != abi::kInt32) {
      return preparation.fail("its input and output are not both int32");
    }
    if (x.shape.rank != 4) return preparation.fail("its input has %d axes instead of 4", x.shape.rank);
    const auto slide_over = [this](int size, int filter, int stride, Window* window) {
      return slide(options_.padding, size, filter, stride, 1, window);
    };
    if (!slide_over(x.shape.dims[1], options_.filter_height, options_.stride_height, &rows_) ||
        !slide_over(x.shape.dims[2], options_.filter_width, options_.stride_width, &columns_)) {
      return preparation.fail("its %dx%d window does not fit", options_.filter_height, options_.filter_width);
    }
    words_ = x.shape.channels();
    Shape pooled = x.shape;
    pooled.dims[1] = static_cast<int>(rows_.output);
    pooled.dims[2] = static_cast<int>(columns_.output);
    return preparation.set_shape(output, pooled);
  }

  bool is_pointwise() const override { return rows_.is_pointwise() && columns_.is_pointwise(); }

  void run(const Tile& tile) const override {
    uint32_t* y = tile.rows<uint32_t>(output);
    if (is_pointwise()) {
      memcpy(y, tile.rows<uint32_t>(inputs[0]), static_cast<size_t>(tile.pixels() * words_) * sizeof(*y));
      return;
    }
    const uint32_t* const x = tile.all<uint32_t>(inputs[0]);
    for (int64_t pixel = tile.begin; pixel < tile.end; ++pixel, y += words_) {
      const int64_t column = pixel % columns_.output;
      const int64_t row = pixel / columns_.output % rows_.output;
      const int64_t image = pixel / columns_.output / rows_.output;
      const int64_t top = max<int64_t>(rows_.position(row, 0), 0);
      const int64_t bottom = min(rows_.position(row, rows_.kernel - 1) + 1, rows_.input);
      const int64_t left = max<int64_t>(columns_.position(column, 0), 0);
      const int64_t right = min(columns_.position(column, columns_.kernel - 1) + 1, columns_.input);
      memset(y, 0xff, static_cast<size_t>(words_) * sizeof(*y));
      for (int64_t i = top; i < bottom; ++i) {
        for (int64_t j = left; j < right; ++j) {
          const uint32_t* const words = x + ((image * rows_.input + i) * columns_.input + j) * words_;
          for (int64_t word = 0; word < words_; ++word) y[word] &= words[word];
        }
      }
    }
  }

 private:
  BMaxPool2dOptions options_;
  Window rows_;
  Window columns_;
  int64_t words_ = 0;
};

}  // namespace

Operator* create_bmaxpool2d() { return create<BMaxPool2d>(); }

}  // namespace bnncc
