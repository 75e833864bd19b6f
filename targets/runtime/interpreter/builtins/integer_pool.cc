// AVERAGE_POOL_2D and MAX_POOL_2D of 8-bit integers: over the positions of a window that lie in the map.  The output
// has the input's scale; an average is rounded to the nearest integer, ties away from 0, as in the reference kernel.
#include "integers.h"
#include "spatial.h"

namespace bnncc {
namespace {

class IntegerPool : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team& team) override {
    if (!setup.expect(1, 1)) return false;
    x_ = setup.shape(0);
    if (setup.type(0) != abi::kInt8) return setup.fail("it does not take this type");
    if (x_.rank != 4) return setup.fail(kNoMap);
    const FlatbufferTable& options = setup.options();
    Windows windows(options);
    windows.kernel[1] = options.number<int32_t>(3, 0);
    windows.kernel[0] = options.number<int32_t>(4, 0);
    Scale x;
    Scale y;
    if (!x.read(setup, setup.file_tensor(0)) || !y.read(setup, setup.file_output(0)) ||
        !read_output(setup, options.number<int8_t>(5, 0), y, &output_)) {
      return false;
    }
    if (x.scale != y.scale || x.zero_point != y.zero_point) return setup.fail("its output has another scale");
    Shape shape;
    if (!windows.slide(setup, x_, x_.dims[3], axes_, &shape)) return false;
    // A sum is an int32.
    if (axes_[0].kernel * axes_[1].kernel > INT32_MAX / 256) return setup.fail("its windows are too large");
    if (code == code::kAveragePool2d && !sums_.allocate(checked_product(team.threads(), x_.dims[3]))) {
      return setup.fail("out of memory");
    }
    return setup.set_output(0, abi::kInt8, shape);
  }

  void run(const Call& call) const override {
    const int64_t channels = x_.dims[3];
    const int8_t* const x = call.input<int8_t>(0);
    int8_t* const y = call.output<int8_t>(0);
    call.team().run(x_.dims[0] * axes_[0].output, [&](int64_t row, int thread) {
      const int8_t* const map = x + row / axes_[0].output * axes_[0].input * axes_[1].input * channels;
      int8_t* to = y + row * axes_[1].output * channels;
      const Reach down(axes_[0], row % axes_[0].output);
      for (int64_t column = 0; column < axes_[1].output; ++column, to += channels) {
        const Reach across(axes_[1], column);
        const int64_t top = axes_[0].position(row % axes_[0].output, down.first);
        const int64_t left = axes_[1].position(column, across.first);
        const Part window = {map + (top * axes_[1].input + left) * channels, down.last - down.first,
                             across.last - across.first};
        if (code == code::kMaxPool2d) {
          maximum(window, to);
        } else {
          average(window, sums_.data() + thread * channels, to);
        }
      }
      if (output_.least == -128 && output_.most == 127) return;
      for (int8_t* q = y + row * axes_[1].output * channels; q < to; ++q) {
        *q = static_cast<int8_t>(min<int32_t>(max<int32_t>(*q, output_.least), output_.most));
      }
    });
  }

 private:
  // A window, as far as it lies in the map.
  struct Part {
    const int8_t* first;
    int64_t lines;
    int64_t pixels;
  };

  // task(pixel) for each.
  template <typename Function>
  void for_pixels(const Part& window, const Function& task) const {
    for (int64_t line = 0; line < window.lines; ++line) {
      for (int64_t j = 0; j < window.pixels; ++j) task(window.first + (line * axes_[1].input + j) * x_.dims[3]);
    }
  }

  void maximum(const Part& window, int8_t* y) const {
    const int64_t channels = x_.dims[3];
    memcpy(y, window.first, static_cast<size_t>(channels));
    for_pixels(window, [=](const int8_t* pixel) {
      for (int64_t c = 0; c < channels; ++c) y[c] = max(y[c], pixel[c]);
    });
  }

  void average(const Part& window, int32_t* sums, int8_t* y) const {
    const int64_t channels = x_.dims[3];
    const auto count = static_cast<int32_t>(window.lines * window.pixels);
    memset(sums, 0, static_cast<size_t>(channels) * sizeof(int32_t));
    for_pixels(window, [=](const int8_t* pixel) {
      for (int64_t c = 0; c < channels; ++c) sums[c] += pixel[c];
    });
    for (int64_t c = 0; c < channels; ++c) {
      y[c] = static_cast<int8_t>((sums[c] + (sums[c] > 0 ? count / 2 : -(count / 2))) / count);
    }
  }

  Shape x_;
  Window axes_[2];
  IntegerOutput output_;
  Array<int32_t> sums_;  // of a pixel's channels, for each thread
};

}  // namespace

Builtin* create_integer_pool(int32_t code) { return create_with_code<IntegerPool>(code); }

}  // namespace bnncc
