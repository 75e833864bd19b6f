// TensorFlow Lite's AVERAGE_POOL_2D and MAX_POOL_2D on float feature maps: positions that SAME adds do not count.
#include "../marks.h"
#include "builtin_operator.h"
#include "copy_rows.h"
#include "pool2d.h"

namespace bnncc {
namespace {

class FloatPool2d final : public Pool2d {
 public:
  int32_t code = 0;

  const char* name() const override { return is_average() ? "AVERAGE_POOL_2D" : "MAX_POOL_2D"; }

  const char* parse(const abi::Node& node) override {
    const char* const problem = parse_pool(node, &options_);
    if (problem == nullptr) read_activation(options_.activation, &clamp_);
    return problem;
  }

  // Windows that reach beyond the map, but not wholly, join the number that it was padded with.  Not zeros: of 0 and
  // -0, which is taken depends on the order.
  bool take_padding(const Padding& padding) override {
    if (is_average() || options_.padding != abi::kPaddingValid || !(padding.fill < 0)) return false;
    const int64_t kernel[] = {options_.filter_height, options_.filter_width};
    for (int axis = 0; axis < 2; ++axis) {
      if (padding.before[axis] >= kernel[axis] || padding.behind[axis] >= kernel[axis]) return false;
    }
    set_padding(padding);
    return true;
  }

  bool prepare(Preparation& preparation) override {
    if (input_count != 1) return preparation.fail("it has %d inputs instead of 1", input_count);
    kernels_ = preparation.kernels();
    const Value& x = preparation.value(inputs[0]);
    if (!is_float_map(x) || x.shape.rank != 4) return preparation.fail("its input is not a float32 feature map");
    return Pool2d::slide_windows(preparation, mode_of(options_.padding), options_);
  }

  int64_t drawing_pixels() const override { return locality().output == 0 ? columns().output : 0; }
  int64_t drawn_pixels() const override { return lines_at_once() * columns().input; }

  int64_t scratch_bytes(int64_t) const override {
    return source == nullptr ? 0 : checked_product(drawn_pixels(), channels() * static_cast<int64_t>(sizeof(float)));
  }

  void run(const Tile& tile) const override {
    if (source != nullptr) return run_on_demand(tile);
    for_windows<float>(tile, [this](const Windows<float>& windows) { pool(windows); });
  }

 private:
  // Lines of the input that are made together, where they are made on demand, take as much of the first-level cache, or
  // are those of one line of windows.
  static constexpr int64_t kMostBytes = 64 * 1024;

  bool is_average() const { return code == abi::kBuiltinAveragePool2d; }
  bool is_padded() const { return padding().fill < 0; }  // by what take_padding took

  int64_t rows_at_once() const {
    const int64_t line_bytes = columns().input * channels() * static_cast<int64_t>(sizeof(float));
    return max((kMostBytes / line_bytes - rows().kernel) / rows().stride + 1, int64_t{1});
  }
  int64_t lines_at_once() const { return (rows_at_once() - 1) * rows().stride + rows().kernel; }

  // Line of windows by line, over a buffer of the lines of the input that they need; those that the line before needed
  // as well are still there.
  void run_on_demand(const Tile& tile) const {
    const int64_t width = columns().output;
    const int64_t line = columns().input * channels();
    float* const buffer = reinterpret_cast<float*>(tile.scratch + scratch_offset);
    float* y = tile.rows<float>(output);
    int64_t held_first = 0;
    int64_t held_last = 0;
    for (int64_t row = tile.begin / width; row * width < tile.end;) {
      const int64_t row_of_image = row % rows().output;
      const int64_t count = min(min(rows_at_once(), rows().output - row_of_image), tile.end / width - row);
      const int64_t image = row / rows().output * rows().input;
      const int64_t first = image + max<int64_t>(rows().position(row_of_image, 0), 0);
      const int64_t last = image + min(rows().position(row_of_image + count - 1, rows().kernel - 1) + 1, rows().input);
      const int64_t kept = max<int64_t>(held_last - first, 0);
      // Line by line: where they go, others of them may lie.
      if (first > held_first) copy_rows_of<0>(buffer + (first - held_first) * line, line, line, kept, line, buffer);
      mark(source->node);
      source->make(tile, (first + kept) * columns().input, last * columns().input, buffer + kept * line);
      mark(node);
      for_windows<float>(buffer, first * columns().input, row * width, (row + count) * width, y,
                         [this](const Windows<float>& windows) { pool(windows); });
      y += count * width * channels();
      held_first = first;
      held_last = last;
      row += count;
    }
  }

  // A window's pixels are operands of one chain; what is left of large ones are further chains.
  void pool(const Windows<float>& windows) const {
    const float size = static_cast<float>(windows.rows * windows.columns);
    const Combination join = is_average() ? Combination::kSum : Combination::kMaximum;
    const ChainStep last = is_average() ? ChainStep{Combination::kQuotient, {&size, 0, 0}, clamp_, windows.y}
                                        : ChainStep{Combination::kFirst, {&size, 0, 0}, clamp_, windows.y};
    Operand x = {windows.x, windows.x_step, 1};
    ChainStep steps[kMostChained];
    int count = 0;
    for (int64_t i = 1; i < windows.rows * windows.columns; ++i) {
      const int64_t offset = i / windows.columns * windows.x_row + i % windows.columns * channels();
      steps[count++] = {join, {windows.x + offset, windows.x_step, 1}, FloatClamp(), nullptr};
      if (count + 1 < kMostChained) continue;
      steps[count - 1].y = windows.y;
      kernels_->run_chain(x, steps, count, windows.count, channels());
      x = {windows.y, channels(), 1};
      count = 0;
    }
    const bool is_clipped = windows.rows < rows().kernel || windows.columns < columns().kernel;
    if (is_padded() && is_clipped) steps[count++] = {join, {&padding().fill, 0, 0}, FloatClamp(), nullptr};
    steps[count++] = last;
    kernels_->run_chain(x, steps, count, windows.count, channels());
  }

  abi::PoolParams options_ = {};
  FloatClamp clamp_;
  const Kernels* kernels_ = nullptr;
};

}  // namespace

Operator* create_float_pool2d(int32_t code) { return create_with_code<FloatPool2d>(code); }

}  // namespace bnncc
