// Products of float matrices: rows that are given against a constant matrix that is packed once.
//
// y[p, o] = Σ_k x[p, k] · w[o, k] + bias[o].  The rows of w, the outputs, lie in panels of kPanel, in each [k, kPanel]:
// one number of a row of x meets a vector of outputs, and no sum ever crosses lanes.  Tiles of kTile rows by a panel
// stay in registers over all k.
#pragma once

#include "../memory.h"
#include "builtins/activation.h"
#include "loop.h"

namespace bnncc {

// Four floats: SSE2 on x86-64, NEON on ARM.
using Float4 = float __attribute__((vector_size(16)));

// In memory they need not be aligned to more than a float.
struct __attribute__((packed, aligned(4), may_alias)) Float4InMemory {
  Float4 value;
};

inline Float4 load4(const float* x) { return reinterpret_cast<const Float4InMemory*>(x)->value; }

inline void store4(Float4 value, float* y) { reinterpret_cast<Float4InMemory*>(y)->value = value; }

// y += factor · x
inline void add_scaled(float factor, const float* x, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + 4 <= size; i += 4) store4(load4(y + i) + load4(x + i) * factor, y + i);
  for (; i < size; ++i) y[i] += x[i] * factor;
}

class PackedMatrix {
 public:
  static constexpr int64_t kPanel = 8;
#if defined(__aarch64__)
  static constexpr int64_t kTile = 8;  // of 32 vector registers
#else
  static constexpr int64_t kTile = 4;  // of 16
#endif

  // Packs `outputs` rows of `depth` numbers: number k of row o is weight(o, k).  False where there is no memory.
  template <typename Function>
  [[nodiscard]] bool pack(int64_t outputs, int64_t depth, const Function& weight) {
    outputs_ = outputs;
    depth_ = depth;
    if (!panels_.allocate(checked_product(round_up(outputs, kPanel), depth)) ||
        !bias_.allocate(round_up(outputs, kPanel))) {
      return false;
    }
    for (int64_t o = 0; o < outputs; ++o) {
      float* const panel = panels_.data() + o / kPanel * kPanel * depth + o % kPanel;
      for (int64_t k = 0; k < depth; ++k) panel[k * kPanel] = weight(o, k);
    }
    return true;
  }

  // Of as many numbers as there are outputs.
  void set_bias(const float* bias) { memcpy(bias_.data(), bias, static_cast<size_t>(outputs_) * sizeof(float)); }

  int64_t outputs() const { return outputs_; }
  int64_t depth() const { return depth_; }
  int64_t panels() const { return ceil_div(outputs_, kPanel); }

  // Rows [0, rows) of x, `x_step` numbers apart, against panels [first, last); rows of y are `y_step` apart.
  void multiply(const float* x, int64_t x_step, int64_t rows, int64_t first, int64_t last, const Clamp& clamp, float* y,
                int64_t y_step) const;

 private:
  int64_t outputs_ = 0;
  int64_t depth_ = 0;
  Array<float> panels_;
  Array<float> bias_;
};

}  // namespace bnncc
