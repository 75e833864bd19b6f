// Operators that arrange one tensor's elements anew: RESHAPE, TRANSPOSE, STRIDED_SLICE, REVERSE_V2, TILE, BROADCAST_TO,
// SPACE_TO_DEPTH, DEPTH_TO_SPACE.
#include "../builtin.h"
#include "copy.h"

namespace bnncc {
namespace {

const char* const kUnfitSize = "its sizes do not fit its input";

class Move : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    const bool is_depth = code == code::kSpaceToDepth || code == code::kDepthToSpace;
    const int inputs = is_depth ? 1 : code == code::kStridedSlice ? 4 : 2;
    if (!setup.expect(inputs, 1)) return false;
    x_ = setup.shape(0);
    y_ = Shape();
    find_strides(x_, strides_);
    element_ = element_size(setup.type(0));
    return arrange(setup) && setup.set_output(0, setup.type(0), y_);
  }

  void run(const Call& call) const override {
    copy_.run(call.team(), call.input<void>(0), call.output<void>(0), element_);
  }

 private:
  bool arrange(Setup& setup) {
    switch (code) {
      case code::kReshape: return reshape(setup);
      case code::kTranspose: return transpose(setup);
      case code::kStridedSlice: return slice(setup);
      case code::kReverseV2: return reverse(setup);
      case code::kTile: return tile(setup);
      case code::kBroadcastTo: return broadcast_to(setup);
      case code::kSpaceToDepth: return space_to_depth(setup);
      default: return depth_to_space(setup);
    }
  }

  // Adds the output's next axis: it has so many positions, each so far from the one before in the input.
  bool add(int64_t size, int64_t x_stride) {
    axis_sizes_[axes_] = size;
    axis_strides_[axes_++] = x_stride;
    return true;
  }

  // Ends the list of axes: the output has no gaps.  False where it would be too large.
  bool finish(Setup& setup, int64_t first = 0) {
    int64_t elements = 1;
    for (int i = 0; i < axes_; ++i) elements = checked_product(elements, axis_sizes_[i]);
    if (elements < 1) return setup.fail("its output would be too large, or have no elements");
    for (int i = 0; i < axes_; ++i) {
      elements /= axis_sizes_[i];
      copy_.add_axis(axis_sizes_[i], axis_strides_[i], elements);
    }
    copy_.start(first, 0);
    return true;
  }

  void set_shape(int rank, const int64_t* sizes) {
    y_.rank = rank;
    for (int i = 0; i < rank; ++i) y_.dims[i] = static_cast<int>(sizes[i]);
  }

  bool reshape(Setup& setup) {
    const int64_t rank = setup.shape(1).elements();
    const int32_t* const sizes = setup.constant<int32_t>(1, abi::kInt32);
    if (sizes == nullptr) return false;
    if (rank > kMaxRank || setup.shape(1).rank != 1) return setup.fail("its shape has too many axes");
    // One size may be -1: what remains.
    int64_t known = 1;
    int open = -1;
    for (int i = 0; i < rank; ++i) {
      if (sizes[i] == -1 && open < 0) {
        open = i;
      } else {
        known = checked_product(known, sizes[i]);
      }
      y_.dims[i] = sizes[i];
    }
    y_.rank = static_cast<int>(rank);
    if (known < 1) return setup.fail(kUnfitSize);
    if (open >= 0) y_.dims[open] = static_cast<int>(x_.elements() / known);
    if (y_.elements() != x_.elements()) return setup.fail(kUnfitSize);
    return add(x_.elements(), 1) && finish(setup);
  }

  bool transpose(Setup& setup) {
    const int32_t* const order = setup.constant<int32_t>(1, abi::kInt32, x_.rank);
    if (order == nullptr) return false;
    unsigned seen = 0;
    y_.rank = x_.rank;
    for (int i = 0; i < x_.rank; ++i) {
      const int axis = order[i] < 0 ? order[i] + x_.rank : order[i];
      if (axis < 0 || axis >= x_.rank || (seen & 1u << axis) != 0) return setup.fail("its permutation is none");
      seen |= 1u << axis;
      y_.dims[i] = x_.dims[axis];
      add(x_.dims[axis], strides_[axis]);
    }
    return finish(setup);
  }

  // As in Python: positions from `begin` to before `end`; a mask's bit stands for the axis's own first or last one.
  bool slice(Setup& setup) {
    const int32_t* const begins = setup.constant<int32_t>(1, abi::kInt32, x_.rank);
    const int32_t* const ends = setup.constant<int32_t>(2, abi::kInt32, x_.rank);
    const int32_t* const steps = setup.constant<int32_t>(3, abi::kInt32, x_.rank);
    if (begins == nullptr || ends == nullptr || steps == nullptr) return false;
    const FlatbufferTable& options = setup.options();
    const int32_t begin_mask = options.number<int32_t>(0, 0);
    const int32_t end_mask = options.number<int32_t>(1, 0);
    for (int field = 2; field <= 4; ++field) {
      if (options.number<int32_t>(field, 0) != 0) return setup.fail("it adds or removes axes");
    }
    if (options.number<uint8_t>(5, 0) != 0) return setup.fail("its ends are offsets");
    int64_t first = 0;
    y_.rank = x_.rank;
    for (int i = 0; i < x_.rank; ++i) {
      const int64_t size = x_.dims[i];
      const int64_t step = steps[i];
      if (step == 0) return setup.fail("a step is 0");
      const int64_t least = step > 0 ? 0 : -1;
      const int64_t most = step > 0 ? size : size - 1;
      const int64_t begin = begin_mask >> i & 1 ? (step > 0 ? least : most) : place(begins[i], size, least, most);
      const int64_t end = end_mask >> i & 1 ? (step > 0 ? most : least) : place(ends[i], size, least, most);
      const int64_t span = step > 0 ? end - begin : begin - end;
      const int64_t count = span <= 0 ? 0 : ceil_div(span, step > 0 ? step : -step);
      if (count < 1) return setup.fail("its output would have no elements");
      first += begin * strides_[i];
      y_.dims[i] = static_cast<int>(count);
      add(count, count == 1 ? 0 : step * strides_[i]);
    }
    return finish(setup, first);
  }

  static int64_t place(int64_t position, int64_t size, int64_t least, int64_t most) {
    return min(max(position < 0 ? position + size : position, least), most);
  }

  bool reverse(Setup& setup) {
    const int64_t count = setup.shape(1).elements();
    const int32_t* const axes = setup.constant<int32_t>(1, abi::kInt32);
    if (axes == nullptr) return false;
    unsigned reversed = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int axis = axes[i] < 0 ? axes[i] + x_.rank : axes[i];
      if (axis < 0 || axis >= x_.rank) return setup.fail("an axis does not exist");
      reversed |= 1u << axis;
    }
    int64_t first = 0;
    y_ = x_;
    for (int i = 0; i < x_.rank; ++i) {
      const bool turns = (reversed >> i & 1) != 0;
      first += turns ? (x_.dims[i] - 1) * strides_[i] : 0;
      add(x_.dims[i], turns ? -strides_[i] : strides_[i]);
    }
    return finish(setup, first);
  }

  bool tile(Setup& setup) {
    const int32_t* const repeats = setup.constant<int32_t>(1, abi::kInt32, x_.rank);
    if (repeats == nullptr) return false;
    y_.rank = x_.rank;
    for (int i = 0; i < x_.rank; ++i) {
      const int64_t size = checked_product(x_.dims[i], repeats[i]);
      if (size < 1) return setup.fail(kUnfitSize);
      y_.dims[i] = static_cast<int>(size);
      add(repeats[i], 0);
      add(x_.dims[i], strides_[i]);
    }
    return finish(setup);
  }

  bool broadcast_to(Setup& setup) {
    const int64_t rank = setup.shape(1).elements();
    const int32_t* const sizes = setup.constant<int32_t>(1, abi::kInt32);
    if (sizes == nullptr) return false;
    if (rank > kMaxRank || rank < x_.rank) return setup.fail(kUnfitSize);
    y_.rank = static_cast<int>(rank);
    for (int i = 0; i < y_.rank; ++i) {
      const int axis = i - (y_.rank - x_.rank);
      y_.dims[i] = sizes[i];
      if (axis < 0 || x_.dims[axis] == 1) {
        add(sizes[i], 0);
      } else if (x_.dims[axis] == sizes[i]) {
        add(sizes[i], strides_[axis]);
      } else {
        return setup.fail(kUnfitSize);
      }
    }
    return finish(setup);
  }

  // The block size; 0 after a failure.
  int64_t read_block(Setup& setup) {
    const int32_t block = setup.options().number<int32_t>(0, 0);
    if (x_.rank != 4 || block < 1 || block > 4096) {
      setup.fail(kUnfitSize);
      return 0;
    }
    return block;
  }

  // A channel of the output stands for (row, column, channel) of a block of the input.
  bool space_to_depth(Setup& setup) {
    const int64_t block = read_block(setup);
    if (block == 0) return false;
    const int64_t height = x_.dims[1] / block;
    const int64_t width = x_.dims[2] / block;
    if (x_.dims[1] % block != 0 || x_.dims[2] % block != 0) return setup.fail(kUnfitSize);
    const int64_t channels = checked_product(x_.dims[3], block * block);
    if (channels < 0) return setup.fail("its output is too large");
    const int64_t sizes[] = {x_.dims[0], height, width, channels};
    set_shape(4, sizes);
    add(x_.dims[0], strides_[0]);
    add(height, block * strides_[1]);
    add(width, block * strides_[2]);
    add(block, strides_[1]);
    add(block, strides_[2]);
    add(x_.dims[3], strides_[3]);
    return finish(setup);
  }

  bool depth_to_space(Setup& setup) {
    const int64_t block = read_block(setup);
    if (block == 0) return false;
    const int64_t channels = x_.dims[3] / (block * block);
    const int64_t height = checked_product(x_.dims[1], block);
    const int64_t width = checked_product(x_.dims[2], block);
    if (x_.dims[3] % (block * block) != 0 || height < 0 || width < 0) return setup.fail(kUnfitSize);
    const int64_t sizes[] = {x_.dims[0], height, width, channels};
    set_shape(4, sizes);
    add(x_.dims[0], strides_[0]);
    add(x_.dims[1], strides_[1]);
    add(block, block * channels);
    add(x_.dims[2], strides_[2]);
    add(block, channels);
    add(channels, 1);
    return finish(setup);
  }

  static constexpr int kMostAxes = 2 * kMaxRank;

  Shape x_;
  Shape y_;
  int64_t strides_[kMaxRank] = {};
  int64_t element_ = 0;
  int axes_ = 0;
  int64_t axis_sizes_[kMostAxes] = {};
  int64_t axis_strides_[kMostAxes] = {};
  Copy copy_;
};

}  // namespace

Builtin* create_move(int32_t code) { return create_with_code<Move>(code); }

}  // namespace bnncc
