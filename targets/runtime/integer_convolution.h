// Convolutions of maps of 8-bit integers with constant filters, as products of matrices.
//
// The patches of the input that the filters meet are gathered for a block of pixels, [pixels, KH, KW, C], zero points
// for what lies outside of the map; those of a 1x1 convolution are multiplied where they lie, if the kernels can.
// In groups, each part of the channels meets its own part of the filters: patches are [KH, KW, C / groups].
#pragma once

#include "geometry.h"
#include "integer_matrix.h"

namespace bnncc {

class IntegerConvolution {
 public:
  // Of a map with so many channels, of integers q that stand for q - zero_point.  `axes`: height and width.
  // weight(o, k), with k over [KH, KW, C / groups]; `groups` divides both numbers of channels; for the others see
  // IntegerMatrix.  False where there is no memory.
  template <typename Weight, typename Bias, typename Factor>
  [[nodiscard]] bool prepare(const Kernels* kernels, int64_t channels, const Window (&axes)[2], int64_t outputs,
                             int64_t groups, int32_t zero_point, const Weight& weight, const Bias& bias,
                             const Factor& factor, const IntegerOutput& output) {
    rows_ = axes[0];
    columns_ = axes[1];
    channels_ = channels;
    zero_point_ = static_cast<int8_t>(zero_point);
    width_ = channels / groups;
    const int64_t depth = checked_product(checked_product(rows_.kernel, columns_.kernel), width_);
    return depth >= 0 && matrix_.pack(kernels, outputs, depth, zero_point, weight, bias, factor, output, groups);
  }

  // Whether an output pixel reads the same pixel of the input, and nothing else.
  bool is_pointwise() const { return rows_.is_pointwise() && columns_.is_pointwise(); }

  int64_t channels() const { return channels_; }
  int64_t outputs() const { return matrix_.outputs(); }
  // Of all groups, one after the other.
  int64_t panels() const { return matrix_.groups() * matrix_.panels(); }

  // How many pixels one call of `run` should be given.
  int64_t block() const;

  // Of `run`, for so many pixels; -1 where that is too large.
  int64_t scratch_bytes(int64_t pixels) const;

  // Output pixels [begin, end), counted over all images, panels [first, last) of the outputs; y is that of pixel
  // `begin`.  x: the whole map; where this is pointwise, that of pixel `begin`.
  void run(const int8_t* x, int64_t begin, int64_t end, int64_t first, int64_t last, char* scratch, int8_t* y) const;

 private:
  bool runs_in_place() const { return is_pointwise() && matrix_.takes_bytes() && width_ == channels_; }
  void run_group(const int8_t* x, int64_t begin, int64_t end, int64_t group, int64_t first, int64_t last, char* scratch,
                 int8_t* y) const;

  template <typename T>
  void gather(const int8_t* x, int64_t begin, int64_t end, T* patches) const;
  template <typename T>
  void gather_line(const int8_t* line, int64_t column, int64_t count, T* to) const;

  Window rows_;
  Window columns_;
  int64_t channels_ = 0;
  int64_t width_ = 0;  // the channels of a group
  int8_t zero_point_ = 0;
  IntegerMatrix matrix_;
};

}  // namespace bnncc
