// CONV_2D: the patches of the input that the filters meet become rows of a matrix, a block of pixels at a time.
#include "../builtin.h"
#include "../gemm.h"
#include "spatial.h"
#include "weights.h"

namespace bnncc {
namespace {

class Convolution : public Builtin {
 public:
  bool prepare(Setup& setup, const Team& team) override {
    if (!setup.expect(3, 1, 1)) return false;
    x_ = setup.shape(0);
    const Shape filter = setup.shape(1);
    if (setup.type(0) != abi::kFloat32) return setup.fail("it does not take this type");
    if (x_.rank != 4 || filter.rank != 4) return setup.fail(kNoMap);
    if (filter.dims[3] != x_.dims[3]) return setup.fail("its filters have not the input's channels");
    const FlatbufferTable& options = setup.options();
    const Windows windows(options, filter, 4);
    if (!clamp_.read(options.number<int8_t>(3, 0))) return setup.fail("its activation is unknown");
    if (!windows.slide(setup, x_, filter.dims[0], axes_, &y_)) return false;
    if (!setup.set_output(0, abi::kFloat32, y_) || !read_matrix(setup, &matrix_)) return false;
    return plan(team) || setup.fail("out of memory");
  }

  void run(const Call& call) const override {
    const float* const x = call.input<float>(0);
    float* const y = call.output<float>(0);
    const int64_t blocks = ceil_div(pixels_, block_);
    call.team().run(blocks * splits_, [&](int64_t task, int thread) {
      const int64_t begin = task / splits_ * block_;
      const int64_t rows = min(block_, pixels_ - begin);
      const int64_t split = task % splits_;
      const float* patches = x + begin * x_.dims[3];
      if (!is_direct_) {
        float* const scratch = scratch_.data() + thread * block_ * matrix_.depth();
        for (int64_t i = 0; i < rows; ++i) gather(x, begin + i, scratch + i * matrix_.depth());
        patches = scratch;
      }
      matrix_.multiply(patches, matrix_.depth(), rows, matrix_.panels() * split / splits_,
                       matrix_.panels() * (split + 1) / splits_, clamp_, y + begin * y_.dims[3], y_.dims[3]);
    });
  }

 private:
  // Patches of a block stay in the second-level cache; every thread gets work.
  bool plan(const Team& team) {
    constexpr int64_t kBlockFloats = 16 * 1024;
    constexpr int64_t kMostPixels = 64;
    pixels_ = y_.elements() / y_.dims[3];
    is_direct_ = axes_[0].is_pointwise() && axes_[1].is_pointwise();
    block_ = round_up(max<int64_t>(1, min(kMostPixels, kBlockFloats / matrix_.depth())), PackedMatrix::kTile);
    block_ = min(block_, max(PackedMatrix::kTile, round_up(ceil_div(pixels_, team.threads()), PackedMatrix::kTile)));
    splits_ = min(matrix_.panels(), ceil_div(team.threads(), ceil_div(pixels_, block_)));
    return is_direct_ || scratch_.allocate(checked_product(checked_product(block_, matrix_.depth()), team.threads()));
  }

  // The patch of an output pixel, [KH, KW, C]; zeros for what lies outside of the map.
  void gather(const float* x, int64_t pixel, float* patch) const {
    const int64_t channels = x_.dims[3];
    const int64_t column = pixel % axes_[1].output;
    const int64_t row = pixel / axes_[1].output % axes_[0].output;
    const int64_t image = pixel / axes_[1].output / axes_[0].output;
    for (int64_t i = 0; i < axes_[0].kernel; ++i) {
      const int64_t line = axes_[0].position(row, i);
      if (!axes_[0].holds(line)) {
        memset(patch, 0, static_cast<size_t>(axes_[1].kernel * channels) * sizeof(float));
        patch += axes_[1].kernel * channels;
        continue;
      }
      const float* const from = x + (image * axes_[0].input + line) * axes_[1].input * channels;
      for (int64_t j = 0; j < axes_[1].kernel; ++j, patch += channels) {
        const int64_t position = axes_[1].position(column, j);
        if (axes_[1].holds(position)) {
          memcpy(patch, from + position * channels, static_cast<size_t>(channels) * sizeof(float));
        } else {
          memset(patch, 0, static_cast<size_t>(channels) * sizeof(float));
        }
      }
    }
  }

  Shape x_;
  Shape y_;
  Window axes_[2];
  Clamp clamp_;
  PackedMatrix matrix_;
  int64_t pixels_ = 0;
  int64_t block_ = 0;
  int64_t splits_ = 1;
  bool is_direct_ = false;
  Array<float> scratch_;
};

}  // namespace

Builtin* create_convolution(int32_t) { return create<Convolution>(); }

}  // namespace bnncc
