// Operators that take, for each position of the output, the element at a position of each axis that a table names:
// GATHER, MIRROR_PAD, RESIZE_NEAREST_NEIGHBOR.
#include "../builtin.h"
#include "../libm.h"
#include "interpolation.h"

namespace bnncc {
namespace {

class Gather : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 1)) return false;
    x_ = setup.shape(0);
    element_ = element_size(setup.type(0));
    return code == code::kGather      ? prepare_gather(setup)
           : code == code::kMirrorPad ? prepare_mirror(setup)
                                      : prepare_resize(setup);
  }

  // Blocks of `block_` bytes that lie side by side; before them up to kMaxRank axes with a table each.
  void run(const Call& call) const override {
    const char* const x = call.input<char>(0);
    char* const y = call.output<char>(0);
    const int64_t inner = sizes_[axes_ - 1];
    const int64_t* const offsets = tables_[axes_ - 1].data();
    if (positions_ > 0) {
      run_computed(call);
      return;
    }
    call.team().run(rows_, [&](int64_t row, int) {
      int64_t begin = 0;
      int64_t rest = row;
      for (int axis = axes_ - 2; axis >= 0; --axis) {
        begin += tables_[axis][rest % sizes_[axis]];
        rest /= sizes_[axis];
      }
      char* const target = y + row * inner * block_;
      const char* const from = x + begin;
      if (block_ == 4) {
        for (int64_t i = 0; i < inner; ++i) __builtin_memcpy(target + 4 * i, from + offsets[i], 4);
      } else {
        for (int64_t i = 0; i < inner; ++i) memcpy(target + i * block_, from + offsets[i], static_cast<size_t>(block_));
      }
    });
  }

 private:
  // The second axis' table is an input: one that is out of range takes the nearest position.
  void run_computed(const Call& call) const {
    const char* const x = call.input<char>(0);
    const int32_t* const indices = call.input<int32_t>(1);
    char* const y = call.output<char>(0);
    call.team().run(rows_, [&](int64_t row, int) {
      for (int64_t i = 0; i < sizes_[1]; ++i) {
        const int64_t position = min<int64_t>(max<int64_t>(indices[i], 0), positions_ - 1);
        memcpy(y + (row * sizes_[1] + i) * block_, x + tables_[0][row] + position * strides_[1],
               static_cast<size_t>(block_));
      }
    });
  }

  // Adds a table of so many positions of an axis of the input, in which positions are `stride` bytes apart.
  bool add_table(Setup& setup, int64_t size, int64_t stride) {
    if (!tables_[axes_].allocate(size)) return setup.fail("out of memory");
    sizes_[axes_] = size;
    strides_[axes_++] = stride;
    return true;
  }

  void set(int axis, int64_t index, int64_t position) { tables_[axis][index] = position * strides_[axis]; }

  bool finish(int64_t block) {
    block_ = block;
    rows_ = 1;
    for (int axis = 0; axis + 1 < axes_; ++axis) rows_ *= sizes_[axis];
    return true;
  }

  bool prepare_gather(Setup& setup) {
    const FlatbufferTable& options = setup.options();
    const int axis = options.number<int32_t>(0, 0) + (options.number<int32_t>(0, 0) < 0 ? x_.rank : 0);
    const bool computed = setup.is_computed(1);
    if (computed && setup.type(1) != abi::kInt32) return setup.fail("its indices are not of type int32");
    const int32_t* const indices = computed ? nullptr : setup.constant<int32_t>(1, abi::kInt32);
    if (indices == nullptr && !computed) return false;
    if (axis < 0 || axis >= x_.rank || options.number<int32_t>(1, 0) != 0) return setup.fail("its axis is not known");
    const Shape chosen = setup.shape(1);
    Shape y;
    y.rank = x_.rank - 1 + chosen.rank;
    if (y.rank > kMaxRank) return setup.fail("its output has too many axes");
    int64_t outer = 1;
    int64_t inner = element_;
    for (int i = 0; i < x_.rank; ++i) {
      if (i < axis) outer *= x_.dims[i];
      if (i > axis) inner *= x_.dims[i];
      if (i != axis) y.dims[i < axis ? i : i - 1 + chosen.rank] = x_.dims[i];
    }
    for (int i = 0; i < chosen.rank; ++i) y.dims[axis + i] = chosen.dims[i];
    if (!setup.set_output(0, setup.type(0), y)) return false;
    if (!add_table(setup, outer, x_.dims[axis] * inner) || !add_table(setup, chosen.elements(), inner)) return false;
    for (int64_t i = 0; i < outer; ++i) set(0, i, i);
    if (computed) {
      positions_ = x_.dims[axis];
      return finish(inner);
    }
    for (int64_t i = 0; i < chosen.elements(); ++i) {
      if (indices[i] < 0 || indices[i] >= x_.dims[axis]) return setup.fail("an index is out of range");
      set(1, i, indices[i]);
    }
    return finish(inner);
  }

  // Every axis has a table, the last one of elements.
  bool prepare_mirror(Setup& setup) {
    const int32_t* const amounts = setup.constant<int32_t>(1, abi::kInt32, 2 * x_.rank);
    if (amounts == nullptr) return false;
    // REFLECT leaves the edge out, SYMMETRIC repeats it.
    const int8_t mode = setup.options().number<int8_t>(0, 0);
    if (x_.rank == 0 || mode < 0 || mode > 1) return setup.fail("its mode is unknown");
    Shape y = x_;
    int64_t stride = element_;
    for (int i = 0; i < x_.rank; ++i) {
      if (min(amounts[2 * i], amounts[2 * i + 1]) < 0 ||
          max(amounts[2 * i], amounts[2 * i + 1]) > x_.dims[i] - (mode == 0)) {
        return setup.fail("it pads by more than its input has");
      }
      const int64_t size = checked_sum(checked_sum(x_.dims[i], amounts[2 * i]), amounts[2 * i + 1]);
      if (size < 0) return setup.fail("its output is too large");
      y.dims[i] = static_cast<int>(size);
      stride *= x_.dims[i];
    }
    if (!setup.set_output(0, setup.type(0), y)) return false;
    for (int i = 0; i < x_.rank; ++i) {
      const int64_t size = x_.dims[i];
      stride /= size;
      if (!add_table(setup, y.dims[i], stride)) return false;
      for (int64_t k = 0; k < y.dims[i]; ++k) {
        int64_t position = k - amounts[2 * i];
        if (position < 0) position = mode == 0 ? -position : -position - 1;
        if (position >= size) position = mode == 0 ? 2 * (size - 1) - position : 2 * size - 1 - position;
        set(i, k, position);
      }
    }
    return finish(element_);
  }

  bool prepare_resize(Setup& setup) {
    Shape y = x_;
    if (!read_size(setup, x_, &y) || !setup.set_output(0, setup.type(0), y)) return false;
    const Grid grid = {setup.options().number<uint8_t>(0, 0) != 0, setup.options().number<uint8_t>(1, 0) != 0};
    const int64_t pixel = x_.dims[3] * element_;
    const int64_t strides[] = {pixel * x_.dims[2] * x_.dims[1], pixel * x_.dims[2], pixel};
    for (int axis = 0; axis < 3; ++axis) {
      if (!add_table(setup, y.dims[axis], strides[axis])) return false;
      for (int64_t i = 0; i < y.dims[axis]; ++i) {
        set(axis, i, axis == 0 ? i : grid.nearest(i, x_.dims[axis], y.dims[axis]));
      }
    }
    return finish(pixel);
  }

  Shape x_;
  int64_t element_ = 0;
  int64_t block_ = 0;
  int64_t rows_ = 0;
  int64_t positions_ = 0;  // of the axis that computed indices choose from; 0 where none are
  int axes_ = 0;
  int64_t sizes_[kMaxRank] = {};
  int64_t strides_[kMaxRank] = {};
  Array<int64_t> tables_[kMaxRank];  // offsets in the input, in bytes
};

}  // namespace

Builtin* create_gather(int32_t code) { return create_with_code<Gather>(code); }

}  // namespace bnncc
