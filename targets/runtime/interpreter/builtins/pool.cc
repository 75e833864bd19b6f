// AVERAGE_POOL_2D and MAX_POOL_2D: over the positions of a window that lie in the map.
#include "../builtin.h"
#include "activation.h"
#include "spatial.h"

namespace bnncc {
namespace {

class Pool : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    maximum_ = setup.kernels()->maximum;
    if (!setup.expect(1, 1)) return false;
    x_ = setup.shape(0);
    if (setup.type(0) != abi::kFloat32) return setup.fail("it does not take this type");
    if (x_.rank != 4) return setup.fail(kNoMap);
    const FlatbufferTable& options = setup.options();
    Windows windows(options);
    windows.kernel[1] = options.number<int32_t>(3, 0);
    windows.kernel[0] = options.number<int32_t>(4, 0);
    if (!clamp_.read(options.number<int8_t>(5, 0))) return setup.fail("its activation is unknown");
    Shape y;
    return windows.slide(setup, x_, x_.dims[3], axes_, &y) && setup.set_output(0, abi::kFloat32, y);
  }

  void run(const Call& call) const override {
    const int64_t channels = x_.dims[3];
    const float* const x = call.input<float>(0);
    float* const y = call.output<float>(0);
    call.team().run(x_.dims[0] * axes_[0].output, [&](int64_t row, int) {
      const float* const map = x + row / axes_[0].output * axes_[0].input * axes_[1].input * channels;
      float* to = y + row * axes_[1].output * channels;
      const Reach down(axes_[0], row % axes_[0].output);
      for (int64_t column = 0; column < axes_[1].output; ++column, to += channels) {
        run_pixel(map, row % axes_[0].output, column, down, to);
      }
      clamp_.apply(to - axes_[1].output * channels, axes_[1].output * channels);
    });
  }

 private:
  void run_pixel(const float* map, int64_t row, int64_t column, const Reach& down, float* y) const {
    const int64_t channels = x_.dims[3];
    const Reach across(axes_[1], column);
    const int64_t step = axes_[1].input * channels;
    const float* const first =
        map + axes_[0].position(row, down.first) * step + axes_[1].position(column, across.first) * channels;
    const FloatWindow window = {first, step, down.last - down.first, across.last - across.first};
    if (code == code::kMaxPool2d) return maximum_(window, channels, y);
    for (int64_t c = 0; c < channels; ++c) y[c] = 0;
    for (int64_t line = 0; line < window.lines; ++line) {
      const float* pixel = first + line * step;
      for (int64_t j = 0; j < window.pixels; ++j, pixel += channels) {
        for (int64_t c = 0; c < channels; ++c) y[c] += pixel[c];
      }
    }
    const float count = static_cast<float>(window.lines * window.pixels);
    for (int64_t c = 0; c < channels; ++c) y[c] /= count;
  }

  Shape x_;
  Window axes_[2];
  Clamp clamp_;
  decltype(Kernels::maximum) maximum_ = nullptr;
};

}  // namespace

Builtin* create_pool(int32_t code) { return create_with_code<Pool>(code); }

}  // namespace bnncc
