// TensorFlow Lite's AVERAGE_POOL_2D on float feature maps: positions that SAME adds do not count.
#include "../geometry.h"
#include "../operator.h"

namespace bnncc {
namespace {

class AveragePool2d final : public Operator {
 public:
  const char* name() const override { return "AVERAGE_POOL_2D"; }

  const char* parse(const abi::Node& node) override {
    if (node.builtin_data == nullptr) return "it has no options";
    options_ = *static_cast<const abi::PoolParams*>(node.builtin_data);
    if (options_.stride_width < 1 || options_.stride_height < 1) return "a stride is not positive";
    if (options_.filter_width < 1 || options_.filter_height < 1) return "a filter size is not positive";
    return nullptr;
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (x.type != abi::kFloat32 || x.shape.rank != 4) return preparation.fail("its input is not a float32 feature map");
    const PaddingMode padding = options_.padding == abi::kPaddingSame ? PaddingMode::kSame : PaddingMode::kValid;
    if (!slide(padding, x.shape.dims[1], options_.filter_height, options_.stride_height, 1, &rows_) ||
        !slide(padding, x.shape.dims[2], options_.filter_width, options_.stride_width, 1, &columns_)) {
      return preparation.fail("its %dx%d window does not fit", options_.filter_height, options_.filter_width);
    }
    channels_ = x.shape.channels();
    Shape pooled = x.shape;
    pooled.dims[1] = static_cast<int>(rows_.output);
    pooled.dims[2] = static_cast<int>(columns_.output);
    return preparation.set_shape(output, pooled);
  }

  bool is_pointwise() const override { return rows_.is_pointwise() && columns_.is_pointwise(); }

  void run(const Tile& tile) const override {
    float* y = tile.rows<float>(output);
    if (is_pointwise()) {
      memcpy(y, tile.rows<float>(inputs[0]), static_cast<size_t>(tile.pixels() * channels_) * sizeof(*y));
      return;
    }
    const float* const x = tile.all<float>(inputs[0]);
    for (int64_t pixel = tile.begin; pixel < tile.end; ++pixel, y += channels_) {
      const int64_t column = pixel % columns_.output;
      const int64_t row = pixel / columns_.output % rows_.output;
      const int64_t image = pixel / columns_.output / rows_.output;
      const int64_t top = max<int64_t>(rows_.position(row, 0), 0);
      const int64_t bottom = min(rows_.position(row, rows_.kernel - 1) + 1, rows_.input);
      const int64_t left = max<int64_t>(columns_.position(column, 0), 0);
      const int64_t right = min(columns_.position(column, columns_.kernel - 1) + 1, columns_.input);
      memset(y, 0, static_cast<size_t>(channels_) * sizeof(*y));
      for (int64_t i = top; i < bottom; ++i) {
        for (int64_t j = left; j < right; ++j) {
          kernels_->add(y, x + ((image * rows_.input + i) * columns_.input + j) * channels_, y, channels_);
        }
      }
      kernels_->divide(y, static_cast<float>((bottom - top) * (right - left)), y, channels_);
    }
  }

 private:
  abi::PoolParams options_ = {};
  const Kernels* kernels_ = nullptr;
  Window rows_;
  Window columns_;
  int64_t channels_ = 0;
};

}  // namespace

Operator* create_average_pool2d() { return create<AveragePool2d>(); }

}  // namespace bnncc
