// DEPTHWISE_CONV_2D: every channel has filters of its own, as many as the outputs are a multiple of the channels.
#include "../builtin.h"
#include "activation.h"
#include "spatial.h"
#include "weights.h"

namespace bnncc {
namespace {

class DepthwiseConvolution : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    add_products_ = setup.kernels()->add_products;
    if (!setup.expect(3, 1, 1)) return false;
    x_ = setup.shape(0);
    const Shape filter = setup.shape(1);
    if (setup.type(0) != abi::kFloat32) return setup.fail("it does not take this type");
    if (x_.rank != 4 || filter.rank != 4) return setup.fail(kNoMap);
    if (filter.dims[0] != 1 || filter.dims[3] % x_.dims[3] != 0) {
      return setup.fail("its filters have not a multiple of the input's channels");
    }
    const FlatbufferTable& options = setup.options();
    const Windows windows(options, filter, 5);
    if (!clamp_.read(options.number<int8_t>(4, 0))) return setup.fail("its activation is unknown");
    if (!windows.slide(setup, x_, filter.dims[3], axes_, &y_)) return false;
    multiplier_ = filter.dims[3] / x_.dims[3];
    if (!setup.set_output(0, abi::kFloat32, y_)) return false;
    Weights weights;
    if (!weights.read(setup, 1, 3) || !read_bias(setup, 2, filter.dims[3], &bias_)) return false;
    if (!filter_.allocate(filter.elements())) return setup.fail("out of memory");
    for (int64_t i = 0; i < filter.elements(); ++i) filter_[i] = weights.at(i, i % filter.dims[3]);
    return true;
  }

  void run(const Call& call) const override {
    const float* const x = call.input<float>(0);
    float* const y = call.output<float>(0);
    const int64_t row_size = axes_[1].output * y_.dims[3];
    call.team().run(y_.dims[0] * axes_[0].output, [&](int64_t row, int) {
      const float* const map = x + row / axes_[0].output * axes_[0].input * axes_[1].input * x_.dims[3];
      for (int64_t column = 0; column < axes_[1].output; ++column) {
        run_pixel(map, row % axes_[0].output, column, y + row * row_size + column * y_.dims[3]);
      }
      clamp_.apply(y + row * row_size, row_size);
    });
  }

 private:
  void run_pixel(const float* map, int64_t row, int64_t column, float* y) const {
    const int64_t channels = x_.dims[3];
    const int64_t outputs = y_.dims[3];
    memcpy(y, bias_.data(), static_cast<size_t>(outputs) * sizeof(float));
    const Reach down(axes_[0], row);
    const Reach across(axes_[1], column);
    for (int64_t i = down.first; i < down.last; ++i) {
      const float* const line = map + axes_[0].position(row, i) * axes_[1].input * channels;
      for (int64_t j = across.first; j < across.last; ++j) {
        const float* const pixel = line + axes_[1].position(column, j) * channels;
        const float* const w = filter_.data() + (i * axes_[1].kernel + j) * outputs;
        if (multiplier_ == 1) {
          add_products_(pixel, w, y, channels);
          continue;
        }
        for (int64_t c = 0; c < channels; ++c) {
          for (int64_t m = 0; m < multiplier_; ++m) y[c * multiplier_ + m] += pixel[c] * w[c * multiplier_ + m];
        }
      }
    }
  }

  Shape x_;
  Shape y_;
  Window axes_[2];
  Clamp clamp_;
  decltype(Kernels::add_products) add_products_ = nullptr;
  int64_t multiplier_ = 1;
  Array<float> filter_;
  Array<float> bias_;
};

}  // namespace

Builtin* create_depthwise_convolution(int32_t) { return create<DepthwiseConvolution>(); }

}  // namespace bnncc
