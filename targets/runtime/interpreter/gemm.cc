#include "gemm.h"

// A product and its sum may be one instruction, where the processor has it: it rounds less.
#if defined(__clang__)
#pragma clang fp contract(fast)
#endif

namespace bnncc {
namespace {

constexpr int64_t kLanes = 4;
constexpr int64_t kVectors = PackedMatrix::kPanel / kLanes;

Float4 clamp4(Float4 y, const Clamp& clamp) {
  for (int lane = 0; lane < kLanes; ++lane) y[lane] = min(max(y[lane], clamp.least), clamp.most);
  return y;
}

// A tile of kRows rows by a panel.  All loops over rows, vectors and lanes unroll.
template <int kRows>
void multiply_tile(const float* x, int64_t x_step, int64_t depth, const float* panel, const float* bias,
                   const Clamp& clamp, float* y, int64_t y_step, int64_t outputs) {
  Float4 sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int64_t v = 0; v < kVectors; ++v) sums[r][v] = load4(bias + v * kLanes);
  }
  int64_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    Float4 factors[kRows];
    for (int r = 0; r < kRows; ++r) factors[r] = load4(x + r * x_step + k);
#pragma GCC unroll 4
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float* const weights = panel + (k + lane) * PackedMatrix::kPanel;
#pragma GCC unroll 2
      for (int64_t v = 0; v < kVectors; ++v) {
        const Float4 w = load4(weights + v * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) sums[r][v] += w * factors[r][lane];
      }
    }
  }
  for (; k < depth; ++k) {
    for (int64_t v = 0; v < kVectors; ++v) {
      const Float4 w = load4(panel + k * PackedMatrix::kPanel + v * kLanes);
      for (int r = 0; r < kRows; ++r) sums[r][v] += w * x[r * x_step + k];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* const row = y + r * y_step;
    for (int64_t v = 0; v < kVectors; ++v) {
      const Float4 result = clamp.clamps ? clamp4(sums[r][v], clamp) : sums[r][v];
      const int64_t left = outputs - v * kLanes;
      if (left >= kLanes) {
        store4(result, row + v * kLanes);
      } else {
        for (int64_t lane = 0; lane < left; ++lane) row[v * kLanes + lane] = result[lane];
      }
    }
  }
}

}  // namespace

void PackedMatrix::multiply(const float* x, int64_t x_step, int64_t rows, int64_t first, int64_t last,
                            const Clamp& clamp, float* y, int64_t y_step) const {
  for (int64_t index = first; index < last; ++index) {
    const float* const panel = panels_.data() + index * kPanel * depth_;
    const float* const bias = bias_.data() + index * kPanel;
    const int64_t outputs = min(kPanel, outputs_ - index * kPanel);
    float* const column = y + index * kPanel;
    int64_t row = 0;
    for (; row + kTile <= rows; row += kTile) {
      multiply_tile<kTile>(x + row * x_step, x_step, depth_, panel, bias, clamp, column + row * y_step, y_step,
                           outputs);
    }
    for (; row < rows; ++row) {
      multiply_tile<1>(x + row * x_step, x_step, depth_, panel, bias, clamp, column + row * y_step, y_step, outputs);
    }
  }
}

}  // namespace bnncc
