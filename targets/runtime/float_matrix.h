// Products of float matrices: rows that are given against a constant matrix that is packed once (FloatGemm in
// kernels/kernels.h), or against one of several, of a grouped convolution, whose outputs lie side by side.
#pragma once

#include "kernels/kernels.h"
#include "memory.h"

namespace bnncc {

class FloatMatrix {
 public:
  // Packs `outputs` rows of `depth` numbers: number k of row o is weight(o, k).  Each of `groups` equal parts of the
  // rows is a matrix.  `bias` has as many numbers as there are outputs, or is null for zeros.  False where there is no
  // memory.
  template <typename Function>
  [[nodiscard]] bool pack(const Kernels* kernels, int64_t outputs, int64_t depth, const Function& weight,
                          const float* bias, int64_t groups = 1) {
    kernels_ = kernels;
    groups_ = groups;
    width_ = outputs / groups;
    depth_ = depth;
    padded_ = round_up(width_, kernels->lanes);
    const int64_t padded = checked_product(padded_, groups);
    if (!panels_.allocate(checked_product(padded, depth)) || !bias_.allocate(padded)) return false;
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t group = o / width_;
      const int64_t row = o % width_;
      const int64_t first = row / kernels->float_panel * kernels->float_panel;
      const int64_t step = min(kernels->float_panel, padded_ - first);
      float* const column = panels_.data() + (group * padded_ + first) * depth + (row - first);
      for (int64_t k = 0; k < depth; ++k) column[k * step] = weight(o, k);
      bias_[group * padded_ + row] = bias == nullptr ? 0 : bias[o];
    }
    return true;
  }

  int64_t groups() const { return groups_; }
  int64_t outputs() const { return width_ * groups_; }
  int64_t depth() const { return depth_; }
  int64_t bytes() const { return panels_.size() * static_cast<int64_t>(sizeof(float)); }
  // Of one group.
  int64_t panels() const { return ceil_div(width_, kernels_->float_panel); }

  // Rows of y that are `outputs` numbers apart, of which panels [first, last) of the group are written.
  void multiply(const FloatRows& rows, int64_t first, int64_t last, const FloatClamp& clamp, float* y,
                int64_t group = 0) const {
    const int64_t begin = first * kernels_->float_panel;
    const int64_t end = min(last * kernels_->float_panel, width_);
    const int64_t packed = group * padded_ + begin;
    kernels_->float_gemm(
        {rows, panels_.data() + packed * depth_, bias_.data() + packed, end - begin, outputs(), clamp},
        y + group * width_ + begin);
  }

 private:
  const Kernels* kernels_ = nullptr;
  int64_t groups_ = 1;
  int64_t width_ = 0;   // the outputs of a group
  int64_t padded_ = 0;  // and with those that fill a vector
  int64_t depth_ = 0;
  Array<float> panels_;
  Array<float> bias_;
};

}  // namespace bnncc
