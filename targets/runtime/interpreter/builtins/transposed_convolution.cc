// TRANSPOSE_CONV: input position j adds to the output positions j·stride + k - before, for each kernel position k.
//
// Output position o gets, for each k with o + before - k a multiple of the stride, the products of that input pixel: so
// each output row is one task and no two threads write to one place.
#include "../builtin.h"
#include "activation.h"
#include "spatial.h"
#include "weights.h"

namespace bnncc {
namespace {

class TransposedConvolution : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    add_scaled_ = setup.kernels()->add_scaled;
    if (!setup.expect(4, 1, 1)) return false;
    x_ = setup.shape(2);
    const Shape filter = setup.shape(1);  // [O, KH, KW, I]
    if (setup.type(2) != abi::kFloat32) return setup.fail("it does not take this type");
    if (x_.rank != 4 || filter.rank != 4) return setup.fail(kNoMap);
    if (filter.dims[3] != x_.dims[3]) return setup.fail("its filters have not the input's channels");
    const int32_t* const shape = setup.constant<int32_t>(0, abi::kInt32, 4);
    if (shape == nullptr) return false;
    if (shape[0] != x_.dims[0] || shape[3] != filter.dims[0]) return setup.fail("its output's shape does not fit");
    const FlatbufferTable& options = setup.options();
    const int8_t padding = options.number<int8_t>(0, 0);
    strides_[1] = options.number<int32_t>(1, 0);
    strides_[0] = options.number<int32_t>(2, 0);
    if (!clamp_.read(options.number<int8_t>(3, 0))) return setup.fail("its activation is unknown");
    y_.rank = 4;
    for (int i = 0; i < 4; ++i) y_.dims[i] = shape[i];
    if (!setup.set_output(0, abi::kFloat32, y_)) return false;
    for (int i = 0; i < 2; ++i) {
      // The forward convolution, from the output's size, must give the input's.
      Window window;
      kernel_[i] = filter.dims[i + 1];
      if (strides_[i] < 1 || padding < 0 || padding > 1) return setup.fail("its options are unknown");
      const PaddingMode mode = padding == 0 ? PaddingMode::kSame : PaddingMode::kValid;
      if (!slide(mode, y_.dims[i + 1], kernel_[i], strides_[i], 1, &window) || window.output != x_.dims[i + 1]) {
        return setup.fail("its output's shape does not fit");
      }
      before_[i] = window.before;
    }
    Weights weights;
    if (!weights.read(setup, 1, 0) || !read_bias(setup, 3, filter.dims[0], &bias_)) return false;
    return pack(filter, weights) || setup.fail("out of memory");
  }

  void run(const Call& call) const override {
    const float* const x = call.input<float>(2);
    float* const y = call.output<float>(0);
    const int64_t row_size = int64_t{y_.dims[2]} * y_.dims[3];
    call.team().run(int64_t{y_.dims[0]} * y_.dims[1], [&](int64_t row, int) {
      const float* const map = x + row / y_.dims[1] * x_.dims[1] * x_.dims[2] * x_.dims[3];
      run_row(map, row % y_.dims[1], y + row * row_size);
      clamp_.apply(y + row * row_size, row_size);
    });
  }

 private:
  // [KH, KW, I, O]: the outputs of a tap side by side.
  bool pack(const Shape& filter, const Weights& weights) {
    const int64_t outputs = filter.dims[0];
    const int64_t depth = filter.elements() / outputs;
    if (!filter_.allocate(filter.elements())) return false;
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t k = 0; k < depth; ++k) filter_[k * outputs + o] = weights.at(o * depth + k, o);
    }
    return true;
  }

  void run_row(const float* map, int64_t row, float* y) const {
    const int64_t outputs = y_.dims[3];
    const int64_t channels = x_.dims[3];
    for (int64_t column = 0; column < y_.dims[2]; ++column) {
      memcpy(y + column * outputs, bias_.data(), static_cast<size_t>(outputs) * sizeof(float));
    }
    for (int64_t i = 0; i < kernel_[0]; ++i) {
      int64_t line = 0;
      if (!find_source(row, i, 0, &line)) continue;
      for (int64_t column = 0; column < y_.dims[2]; ++column) {
        for (int64_t j = 0; j < kernel_[1]; ++j) {
          int64_t position = 0;
          if (!find_source(column, j, 1, &position)) continue;
          const float* const pixel = map + (line * x_.dims[2] + position) * channels;
          const float* const w = filter_.data() + (i * kernel_[1] + j) * channels * outputs;
          for (int64_t c = 0; c < channels; ++c) add_scaled_(pixel[c], w + c * outputs, y + column * outputs, outputs);
        }
      }
    }
  }

  // The input position whose kernel position k adds to output position o.
  bool find_source(int64_t o, int64_t k, int axis, int64_t* position) const {
    const int64_t at = o + before_[axis] - k;
    *position = at / strides_[axis];
    return at >= 0 && at % strides_[axis] == 0 && *position < x_.dims[axis + 1];
  }

  Shape x_;
  Shape y_;
  int64_t kernel_[2] = {};
  int64_t strides_[2] = {};
  int64_t before_[2] = {};
  Clamp clamp_;
  decltype(Kernels::add_scaled) add_scaled_ = nullptr;
  Array<float> filter_;
  Array<float> bias_;
};

}  // namespace

Builtin* create_transposed_convolution(int32_t) { return create<TransposedConvolution>(); }

}  // namespace bnncc
