// RESIZE_BILINEAR.
#include "../builtin.h"
#include "interpolation.h"

namespace bnncc {
namespace {

class Bilinear : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 1)) return false;
    if (setup.type(0) != abi::kFloat32) return setup.fail("it does not take this type");
    x_ = setup.shape(0);
    if (!read_size(setup, x_, &y_) || !setup.set_output(0, abi::kFloat32, y_)) return false;
    // The schema's fields 0 and 1 are no longer used.
    const Grid grid = {setup.options().number<uint8_t>(2, 0) != 0, setup.options().number<uint8_t>(3, 0) != 0};
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t size = y_.dims[axis + 1];
      if (!lower_[axis].allocate(size) || !upper_[axis].allocate(size) || !share_[axis].allocate(size)) {
        return setup.fail("out of memory");
      }
      for (int64_t i = 0; i < size; ++i) {
        grid.linear(i, x_.dims[axis + 1], size, &lower_[axis][i], &upper_[axis][i], &share_[axis][i]);
      }
    }
    return true;
  }

  void run(const Call& call) const override {
    const int64_t height = y_.dims[1];
    const int64_t width = y_.dims[2];
    const int64_t channels = y_.dims[3];
    const int64_t row_size = x_.dims[2] * channels;
    const float* const x = call.input<float>(0);
    float* const y = call.output<float>(0);
    call.team().run(y_.dims[0] * height, [&](int64_t row, int) {
      const float* const map = x + row / height * x_.dims[1] * row_size;
      const int64_t i = row % height;
      const float* const top = map + lower_[0][i] * row_size;
      const float* const bottom = map + upper_[0][i] * row_size;
      const float down = share_[0][i];
      for (int64_t j = 0; j < width; ++j) {
        const int64_t left = lower_[1][j] * channels;
        const int64_t right = upper_[1][j] * channels;
        const float across = share_[1][j];
        float* const to = y + (row * width + j) * channels;
        for (int64_t c = 0; c < channels; ++c) {
          to[c] = top[left + c] * (1 - down) * (1 - across) + bottom[left + c] * down * (1 - across) +
                  top[right + c] * (1 - down) * across + bottom[right + c] * down * across;
        }
      }
    });
  }

 private:
  Shape x_;
  Shape y_;
  Array<int64_t> lower_[2];
  Array<int64_t> upper_[2];
  Array<float> share_[2];
};

}  // namespace

Builtin* create_bilinear(int32_t) { return create<Bilinear>(); }

}  // namespace bnncc
