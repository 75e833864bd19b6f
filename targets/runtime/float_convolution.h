// Convolutions of float maps with constant filters, as products of matrices.
//
// Where the patches of the input that the filters meet come from, depends:
//   1x1, stride 1      the pixels of the map are the patches
//   few channels       a window of lines is copied with its padding; the patches lie in it, a run of KW·C numbers for
//                      each line (see FloatRows), those of neighbours overlapping
//   else               the patches of a block of pixels are gathered, [pixels, KH, KW, C]
//
// In groups, each part of the channels meets its own part of the filters: patches are [KH, KW, C / groups].
#pragma once

#include "float_matrix.h"
#include "geometry.h"

namespace bnncc {

class FloatConvolution {
 public:
  // Of a map with so many channels.  `axes`: height and width.  weight(o, k), with k over [KH, KW, C / groups]; `bias`
  // may be null.  `groups` divides both numbers of channels.  False where there is no memory.
  template <typename Function>
  [[nodiscard]] bool prepare(const Kernels* kernels, int64_t channels, const Window (&axes)[2], int64_t outputs,
                             int64_t groups, const Function& weight, const float* bias, const FloatClamp& clamp) {
    rows_ = axes[0];
    columns_ = axes[1];
    channels_ = channels;
    width_ = channels / groups;
    clamp_ = clamp;
    const int64_t depth = checked_product(checked_product(rows_.kernel, columns_.kernel), width_);
    if (depth < 0 || !matrix_.pack(kernels, outputs, depth, weight, bias, groups)) return false;
    plan(kernels->float_rows);
    return true;
  }

  // Whether an output pixel reads the same pixel of the input, and nothing else.
  bool is_pointwise() const { return rows_.is_pointwise() && columns_.is_pointwise(); }

  int64_t channels() const { return channels_; }
  int64_t outputs() const { return matrix_.outputs(); }
  int64_t filter_bytes() const { return matrix_.bytes(); }
  // Of all groups, one after the other.
  int64_t panels() const { return matrix_.groups() * matrix_.panels(); }

  // How many pixels one call of `run` should be given.
  int64_t block() const { return block_; }

  // Of `run`, for so many pixels; -1 where that is too large.
  int64_t scratch_floats(int64_t pixels) const;

  // Output pixels [begin, end), counted over all images, panels [first, last) of the outputs; y is that of pixel
  // `begin`.  x: the whole map; where this is pointwise, that of pixel `begin`.
  void run(const float* x, int64_t begin, int64_t end, int64_t first, int64_t last, float* scratch, float* y) const;

 private:
  // Output columns [column, column + count) of one line.
  struct Piece {
    int64_t image;
    int64_t row;
    int64_t column;
    int64_t count;
  };

  void plan(int64_t tile);
  bool is_direct() const;
  void run_group(const float* x, int64_t begin, int64_t end, int64_t group, int64_t first, int64_t last, float* scratch,
                 float* y) const;
  Piece piece(int64_t begin, int64_t end) const;
  int64_t window_floats(int64_t columns) const;
  FloatRows copy_window(const float* x, const Piece& piece, float* window) const;
  void copy_line(const float* line, int64_t position, int64_t pixels, float* to) const;
  void copy_parts(const float* from, int64_t pixels, float* to) const;
  void gather(const float* x, const Piece& piece, float* patches) const;
  void gather_line(const float* line, int64_t position, float* to) const;

  Window rows_;
  Window columns_;
  int64_t channels_ = 0;
  int64_t width_ = 0;  // the channels of a group
  FloatClamp clamp_;
  FloatMatrix matrix_;
  int64_t block_ = 0;
};

}  // namespace bnncc
