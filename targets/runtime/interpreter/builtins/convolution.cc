// CONV_2D with constant filters.
#include "../../float_convolution.h"
#include "../builtin.h"
#include "activation.h"
#include "shares.h"
#include "spatial.h"
#include "weights.h"

namespace bnncc {
namespace {

class Convolution : public Builtin {
 public:
  bool prepare(Setup& setup, const Team& team) override {
    if (!setup.expect(3, 1, 1)) return false;
    const Shape x = setup.shape(0);
    const Shape filter = setup.shape(1);
    if (setup.type(0) != abi::kFloat32) return setup.fail("it does not take this type");
    if (x.rank != 4 || filter.rank != 4) return setup.fail(kNoMap);
    const int64_t groups = groups_of(x.dims[3], filter.dims[3], filter.dims[0]);
    if (groups == 0) return setup.fail("its filters have not the channels of an equal part of the input's");
    const FlatbufferTable& options = setup.options();
    const Windows windows(options, filter, 4);
    Clamp clamp;
    if (!clamp.read(options.number<int8_t>(3, 0))) return setup.fail("its activation is unknown");
    Window axes[2];
    Shape y;
    if (!windows.slide(setup, x, filter.dims[0], axes, &y) || !setup.set_output(0, abi::kFloat32, y)) return false;
    Weights weights;
    Array<float> bias;
    if (!weights.read(setup, 1, 0) || !read_bias(setup, 2, filter.dims[0], &bias)) return false;
    const int64_t depth = filter.elements() / filter.dims[0];
    const auto weight = [&](int64_t o, int64_t k) { return weights.at(o * depth + k, o); };
    const int64_t pixels = y.elements() / y.dims[3];
    return (convolution_.prepare(setup.kernels(), x.dims[3], axes, filter.dims[0], groups, weight, bias.data(), clamp) &&
            plan(team, pixels, setup.kernels()->float_rows)) ||
           setup.fail("out of memory");
  }

  void run(const Call& call) const override {
    const float* const x = call.input<float>(0);
    float* const y = call.output<float>(0);
    shares_.run(call.team(), [&](int64_t begin, int64_t end, int64_t first, int64_t last, int thread) {
      const float* const from = convolution_.is_pointwise() ? x + begin * convolution_.channels() : x;
      float* const scratch = scratch_.data() + thread * scratch_floats_;
      convolution_.run(from, begin, end, first, last, scratch, y + begin * convolution_.outputs());
    });
  }

 private:
  // Every thread gets work.
  bool plan(const Team& team, int64_t pixels, int64_t tile) {
    const int64_t block = min(convolution_.block(), round_up(ceil_div(pixels, team.threads()), tile));
    shares_.plan(team, pixels, block, convolution_.panels());
    scratch_floats_ = convolution_.scratch_floats(block);
    return scratch_.allocate(checked_product(scratch_floats_, team.threads()));
  }

  FloatConvolution convolution_;
  Shares shares_;
  int64_t scratch_floats_ = 0;  // of one thread
  Array<float> scratch_;
};

}  // namespace

Builtin* create_convolution(int32_t) { return create<Convolution>(); }

}  // namespace bnncc
