// Operators that copy whole tensors into parts of another, or parts into whole ones: CONCATENATION, SPLIT, SPLIT_V,
// PAD.
#include "../builtin.h"
#include "activation.h"
#include "copy.h"

namespace bnncc {
namespace {

// Copies between a whole and a part of it that begins at `offset` along `axis` and goes on for `size`.
Copy copy_part(const Shape& whole, int axis, int64_t offset, int64_t size, bool part_is_source) {
  int64_t outer = 1;
  int64_t inner = 1;
  for (int i = 0; i < whole.rank; ++i) (i < axis ? outer : i > axis ? inner : size) *= i == axis ? 1 : whole.dims[i];
  const int64_t step = whole.dims[axis] * inner;
  Copy copy;
  if (part_is_source) {
    copy.add_axis(outer, size * inner, step);
    copy.start(0, offset * inner);
  } else {
    copy.add_axis(outer, step, size * inner);
    copy.start(offset * inner, 0);
  }
  copy.add_axis(size * inner, 1, 1);
  return copy;
}

// The axis counted from 0; -1 where it does not exist.
int find_axis(int64_t axis, int rank) {
  axis = axis < 0 ? axis + rank : axis;
  return axis >= 0 && axis < rank ? static_cast<int>(axis) : -1;
}

class Join : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    const int count = setup.inputs();
    if (count < 1 || !setup.expect(count, 1)) return false;
    const abi::Type type = setup.type(0);
    Shape y = setup.shape(0);
    const int axis = find_axis(setup.options().number<int32_t>(0, 0), y.rank);
    if (axis < 0) return setup.fail("its axis does not exist");
    if (!clamp_.read(setup.options().number<int8_t>(1, 0)) || (clamp_.clamps && type != abi::kFloat32)) {
      return setup.fail("its activation is unknown");
    }
    int64_t size = 0;
    for (int i = 0; i < count; ++i) {
      const Shape part = setup.shape(i);
      if (setup.type(i) != type || part.rank != y.rank) return setup.fail("its inputs do not fit each other");
      for (int k = 0; k < part.rank; ++k) {
        if (k != axis && part.dims[k] != y.dims[k]) return setup.fail("its inputs do not fit each other");
      }
      size = checked_sum(size, part.dims[axis]);
    }
    if (size < 0) return setup.fail("its output is too large");
    y.dims[axis] = static_cast<int>(size);
    if (!copies_.allocate(count)) return setup.fail("out of memory");
    int64_t offset = 0;
    for (int i = 0; i < count; ++i) {
      const int64_t part = setup.shape(i).dims[axis];
      new (InPlace{}, &copies_[i]) Copy(copy_part(y, axis, offset, part, true));
      offset += part;
    }
    element_ = element_size(type);
    size_ = y.elements();
    return setup.set_output(0, type, y);
  }

  void run(const Call& call) const override {
    for (int i = 0; i < copies_.size(); ++i) {
      copies_[i].run(call.team(), call.input<void>(i), call.output<void>(0), element_);
    }
    if (clamp_.clamps) clamp_.apply(call.output<float>(0), size_);
  }

 private:
  Array<Copy> copies_;
  Clamp clamp_;
  int64_t element_ = 0;
  int64_t size_ = 0;
};

class Split : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    const bool has_sizes = code == code::kSplitV;
    const int count = setup.outputs();
    if (count < 1 || !setup.expect(has_sizes ? 3 : 2, count)) return false;
    x_ = has_sizes ? 0 : 1;
    const int32_t* const given = setup.constant<int32_t>(has_sizes ? 2 : 0, abi::kInt32, 1);
    const int32_t* const sizes = has_sizes ? setup.constant<int32_t>(1, abi::kInt32, count) : nullptr;
    if (given == nullptr || (has_sizes && sizes == nullptr)) return false;
    const Shape x = setup.shape(x_);
    const int axis = find_axis(*given, x.rank);
    if (axis < 0) return setup.fail("its axis does not exist");
    if (!has_sizes && x.dims[axis] % count != 0) return setup.fail("its input does not split evenly");
    if (!copies_.allocate(count)) return setup.fail("out of memory");
    // One size may be -1: what remains.
    int64_t known = 0;
    for (int i = 0; i < count && has_sizes; ++i) known += max(sizes[i], 0);
    int64_t offset = 0;
    for (int i = 0; i < count; ++i) {
      Shape part = x;
      const int64_t size = !has_sizes ? x.dims[axis] / count : sizes[i] == -1 ? x.dims[axis] - known : sizes[i];
      if (size < 1 || size > x.dims[axis] - offset) return setup.fail("its sizes do not fit its input");
      part.dims[axis] = static_cast<int>(size);
      new (InPlace{}, &copies_[i]) Copy(copy_part(x, axis, offset, size, false));
      offset += size;
      if (!setup.set_output(i, setup.type(x_), part)) return false;
    }
    if (offset != x.dims[axis]) return setup.fail("its sizes do not fit its input");
    element_ = element_size(setup.type(x_));
    return true;
  }

  void run(const Call& call) const override {
    for (int i = 0; i < copies_.size(); ++i) {
      copies_[i].run(call.team(), call.input<void>(x_), call.output<void>(i), element_);
    }
  }

 private:
  Array<Copy> copies_;
  int x_ = 0;
  int64_t element_ = 0;
};

class Pad : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(code == code::kPadV2 ? 3 : 2, 1)) return false;
    const abi::Type type = setup.type(0);
    const Shape x = setup.shape(0);
    element_ = element_size(type);
    const int32_t* const amounts = setup.constant<int32_t>(1, abi::kInt32, 2 * x.rank);
    if (amounts == nullptr) return false;
    if (code == code::kPadV2) {
      const void* const value = setup.constant<void>(2, type, 1);
      if (value == nullptr) return false;
      memcpy(fill_, value, static_cast<size_t>(element_));
    } else if (element_ == 1 && setup.file_output(0).zero_points.count == 1) {
      const int64_t zero_point = setup.file_output(0).zero_points.at<int64_t>(0);
      fill_[0] = static_cast<char>(zero_point);
    }
    Shape y = x;
    for (int i = 0; i < x.rank; ++i) {
      const int64_t size = checked_sum(checked_sum(x.dims[i], amounts[2 * i]), amounts[2 * i + 1]);
      if (size < 0) return setup.fail("its amounts are negative or too large");
      y.dims[i] = static_cast<int>(size);
    }
    if (!setup.set_output(0, type, y)) return false;
    int64_t x_strides[kMaxRank];
    int64_t y_strides[kMaxRank];
    find_strides(x, x_strides);
    find_strides(y, y_strides);
    int64_t first = 0;
    for (int i = 0; i < x.rank; ++i) {
      first += amounts[2 * i] * y_strides[i];
      copy_.add_axis(x.dims[i], x_strides[i], y_strides[i]);
    }
    copy_.start(0, first);
    filling_.add_axis(y.elements(), 0, 1);
    return true;
  }

  void run(const Call& call) const override {
    filling_.run(call.team(), fill_, call.output<void>(0), element_);
    copy_.run(call.team(), call.input<void>(0), call.output<void>(0), element_);
  }

 private:
  alignas(8) char fill_[8] = {};
  int64_t element_ = 0;
  Copy filling_;
  Copy copy_;
};

}  // namespace

Builtin* create_join(int32_t) { return create<Join>(); }
Builtin* create_split(int32_t code) { return create_with_code<Split>(code); }
Builtin* create_pad(int32_t code) { return create_with_code<Pad>(code); }

}  // namespace bnncc
