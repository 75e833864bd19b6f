// Products of float matrices: rows that are given against a constant matrix that is packed once (FloatGemm in
// kernels/kernels.h).
#pragma once

#include "kernels/kernels.h"
#include "memory.h"

namespace bnncc {

class FloatMatrix {
 public:
  // Packs `outputs` rows of `depth` numbers: number k of row o is weight(o, k).  `bias` has as many numbers as there
  // are outputs, or is null for zeros.  False where there is no memory.
  template <typename Function>
  [[nodiscard]] bool pack(const Kernels* kernels, int64_t outputs, int64_t depth, const Function& weight,
                          const float* bias) {
    kernels_ = kernels;
    outputs_ = outputs;
    depth_ = depth;
    const int64_t padded = round_up(outputs, kernels->lanes);
    if (!panels_.allocate(checked_product(padded, depth)) || !bias_.allocate(padded)) return false;
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t first = o / kernels->float_panel * kernels->float_panel;
      const int64_t width = min(kernels->float_panel, padded - first);
      float* const column = panels_.data() + first * depth + (o - first);
      for (int64_t k = 0; k < depth; ++k) column[k * width] = weight(o, k);
      bias_[o] = bias == nullptr ? 0 : bias[o];
    }
    return true;
  }

  int64_t outputs() const { return outputs_; }
  int64_t depth() const { return depth_; }
  int64_t panels() const { return ceil_div(outputs_, kernels_->float_panel); }

  // Rows of y that are `outputs` numbers apart, of which panels [first, last) are written.
  void multiply(const FloatRows& rows, int64_t first, int64_t last, const FloatClamp& clamp, float* y) const {
    const int64_t begin = first * kernels_->float_panel;
    const int64_t end = min(last * kernels_->float_panel, outputs_);
    kernels_->float_gemm(
        {rows, panels_.data() + begin * depth_, bias_.data() + begin, end - begin, outputs_, clamp}, y + begin);
  }

 private:
  const Kernels* kernels_ = nullptr;
  int64_t outputs_ = 0;
  int64_t depth_ = 0;
  Array<float> panels_;
  Array<float> bias_;
};

}  // namespace bnncc
