// Products of matrices of 8-bit integers: rows that are given against a constant matrix that is packed once
// (IntegerGemm in kernels/kernels.h), or against one of several, of a grouped convolution, whose outputs lie side by
// side.
#pragma once

#include "fixed_point.h"
#include "kernels/kernels.h"
#include "memory.h"

namespace bnncc {

// What sums of products become: 8-bit integers of the scale of an output.
struct IntegerOutput {
  int32_t zero_point = 0;
  int32_t least = -128;
  int32_t most = 127;
  Rounding rounding = Rounding::kTwice;
};

// The factors of a Requantization, for each output; whole panels.
class IntegerFactors {
 public:
  // For so many places.  False where there is no memory.
  [[nodiscard]] bool allocate(int64_t places, const IntegerOutput& output) {
    if (!multiplier_.allocate(places) || !left_.allocate(places) || !right_.allocate(places)) return false;
    for (int32_t& right : right_) right = 1;
    output_ = output;
    divides_ = output.rounding == Rounding::kTwice;
    return true;
  }

  // As many as there are outputs, and those that fill a panel: factor(o).  False where there is no memory.
  template <typename Function>
  [[nodiscard]] bool pack(int64_t panel, int64_t outputs, const Function& factor, const IntegerOutput& output) {
    if (!allocate(round_up(outputs, panel), output)) return false;
    for (int64_t o = 0; o < outputs; ++o) put(o, factor(o));
    return true;
  }

  void put(int64_t place, const FixedPoint& factor) {
    multiplier_[place] = factor.multiplier;
    left_[place] = factor.left();
    right_[place] = factor.right();
    divides_ = divides_ && factor.right() > 0;
  }

  // From a place on.
  Requantization from(int64_t first) const {
    const bool rounds_once = output_.rounding == Rounding::kOnce;
    return {multiplier_.data() + first, left_.data() + first, right_.data() + first, rounds_once, divides_,
            output_.zero_point,         output_.least,        output_.most};
  }

 private:
  Array<int32_t> multiplier_;
  Array<int32_t> left_;
  Array<int32_t> right_;
  IntegerOutput output_;
  bool divides_ = true;
};

class IntegerMatrix {
 public:
  // Packs `outputs` rows of `depth` weights from -127 to 127: number k of row o is weight(o, k).  Each of `groups`
  // equal parts of the rows is a matrix.  The rows that they meet are of integers q that stand for q - zero_point;
  // bias(o) is added to their products, which factor(o), a FixedPoint, scales.  False where there is no memory.
  template <typename Weight, typename Bias, typename Factor>
  [[nodiscard]] bool pack(const Kernels* kernels, int64_t outputs, int64_t depth, int32_t zero_point,
                          const Weight& weight, const Bias& bias, const Factor& factor, const IntegerOutput& output,
                          int64_t groups = 1) {
    kernels_ = kernels;
    groups_ = groups;
    width_ = outputs / groups;
    padded_ = round_up(width_, kernels->integer_panel);
    depth_ = depth;
    const int64_t padded = checked_product(padded_, groups);
    const int64_t bytes = checked_product(checked_product(padded, row_numbers()), number_bytes());
    if (!panels_.allocate(bytes) || !bias_.allocate(padded) || !factors_.allocate(padded, output)) return false;
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t place = o / width_ * padded_ + o % width_;
      factors_.put(place, factor(o));
      // Σ w · (q - z) = Σ w · (q + offset) - (z + offset) · Σ w
      int64_t sum = 0;
      for (int64_t k = 0; k < depth; ++k) {
        sum += weight(o, k);
        put(place, k, weight(o, k));
      }
      bias_[place] = static_cast<int32_t>(static_cast<uint32_t>(bias(o)) -
                                          static_cast<uint32_t>((zero_point + kernels->integer_offset) * sum));
    }
    return true;
  }

  int64_t groups() const { return groups_; }
  int64_t outputs() const { return width_ * groups_; }
  int64_t depth() const { return depth_; }
  // Of one group.
  int64_t panels() const { return padded_ / kernels_->integer_panel; }

  // Whether rows of `depth` bytes one behind the other are multiplied where they lie.
  bool takes_bytes() const { return !kernels_->integers_are_wide && depth_ == row_numbers(); }

  // A row as it is multiplied otherwise: a multiple of integer_multiple numbers, what is behind the row's own being
  // anything.
  int64_t row_numbers() const { return round_up(depth_, kernels_->integer_multiple); }
  int64_t row_bytes() const { return row_numbers() * number_bytes(); }
  bool is_wide() const { return kernels_->integers_are_wide; }

  // `count` such rows, of which panels [first, last) of the group are written; rows of y are `outputs` apart.
  void multiply(const void* rows, int64_t count, int64_t first, int64_t last, int8_t* y, int64_t group = 0) const {
    const int64_t begin = first * kernels_->integer_panel;
    const int64_t end = min(last * kernels_->integer_panel, width_);
    const int64_t place = group * padded_ + begin;
    const int64_t numbers = row_numbers();
    const char* const panels = panels_.data() + place * numbers * number_bytes();
    kernels_->integer_gemm(
        {rows, numbers, count, numbers, panels, bias_.data() + place, factors_.from(place), end - begin, outputs()},
        y + group * width_ + begin);
  }

 private:
  int64_t number_bytes() const { return kernels_->integers_are_wide ? 2 : 1; }

  void put(int64_t place, int64_t k, int8_t weight) {
    const int64_t panel = kernels_->integer_panel;
    const int64_t step = kernels_->integer_step;
    const int64_t index = (place / panel * row_numbers() + k / step * step) * panel + place % panel * step + k % step;
    if (is_wide()) {
      reinterpret_cast<int16_t*>(panels_.data())[index] = weight;
    } else {
      reinterpret_cast<int8_t*>(panels_.data())[index] = weight;
    }
  }

  const Kernels* kernels_ = nullptr;
  int64_t groups_ = 1;
  int64_t width_ = 0;   // the outputs of a group
  int64_t padded_ = 0;  // and with those that fill a panel
  int64_t depth_ = 0;
  Array<char> panels_;
  Array<int32_t> bias_;
  IntegerFactors factors_;
};

}  // namespace bnncc
