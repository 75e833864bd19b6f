// TensorFlow Lite's operators that only move elements (arrangement.h), of feature maps of floats or of 8-bit integers,
// and of words of signs: RESHAPE, TRANSPOSE, REVERSE_V2, STRIDED_SLICE, SPLIT, PAD, SPACE_TO_DEPTH, DEPTH_TO_SPACE.
#include "../arrangement.h"
#include "builtin_operator.h"
#include "copy_rows.h"
#include "integers.h"

namespace bnncc {
namespace {

struct Kind {
  int32_t code;
  const char* name;
  int inputs;
};

constexpr Kind kKinds[] = {{abi::kBuiltinDepthToSpace, "DEPTH_TO_SPACE", 1},
                           {abi::kBuiltinPad, "PAD", 2},
                           {abi::kBuiltinPadV2, "PADV2", 3},
                           {abi::kBuiltinReshape, "RESHAPE", 2},
                           {abi::kBuiltinReverseV2, "REVERSE_V2", 2},
                           {abi::kBuiltinSpaceToDepth, "SPACE_TO_DEPTH", 1},
                           {abi::kBuiltinSplit, "SPLIT", 2},
                           {abi::kBuiltinSplitV, "SPLIT_V", 3},
                           {abi::kBuiltinStridedSlice, "STRIDED_SLICE", 4},
                           {abi::kBuiltinTranspose, "TRANSPOSE", 2}};

const Kind& find_kind(int32_t code) {
  const Kind* found = kKinds;
  while (found->code != code) ++found;
  return *found;
}

class Rearrange final : public Operator {
 public:
  int32_t code = 0;

  const char* name() const override { return find_kind(code).name; }

  bool is_one_of_several() const override { return code == abi::kBuiltinSplit || code == abi::kBuiltinSplitV; }

  const char* parse(const abi::Node& node) override {
    parts_ = node.outputs->size;
    if (find_kind(code).inputs != input_count) return "the number of its inputs is wrong";
    if (code == abi::kBuiltinStridedSlice || find_kind(code).inputs == 1) {
      if (node.builtin_data == nullptr) return "it has no options";
      if (code == abi::kBuiltinStridedSlice) {
        slice_ = *static_cast<const abi::StridedSliceParams*>(node.builtin_data);
      } else {
        block_ = static_cast<const abi::BlockParams*>(node.builtin_data)->block_size;
      }
    }
    return nullptr;
  }

  bool is_padding(const abi::Context& context, const abi::Node& node, Padding* padding) const override {
    if (code != abi::kBuiltinPad && code != abi::kBuiltinPadV2) return false;
    for (int i = 0; i < input_count; ++i) {
      if (inputs[i] < 0) return false;
    }
    constexpr int kRank = 4;
    Value amounts;
    if (context.tensors[node.inputs->data[0]].type != abi::kFloat32) return false;
    if (read_tensor(context.tensors[node.inputs->data[1]], &amounts) != nullptr || amounts.constant == nullptr ||
        amounts.type != abi::kInt32 || amounts.shape.elements() != 2 * kRank) {
      return false;
    }
    const auto* const numbers = static_cast<const int32_t*>(amounts.constant);
    for (int axis = 0; axis < kRank; ++axis) {
      const int32_t before = numbers[2 * axis];
      const int32_t behind = numbers[2 * axis + 1];
      const bool is_of_map = axis == 1 || axis == 2;
      if (before < 0 || behind < 0 || (!is_of_map && (before > 0 || behind > 0))) return false;
      if (!is_of_map) continue;
      padding->before[axis - 1] = before;
      padding->behind[axis - 1] = behind;
    }
    if (code == abi::kBuiltinPad) return true;
    Value fill;
    if (read_tensor(context.tensors[node.inputs->data[2]], &fill) != nullptr || fill.constant == nullptr ||
        fill.type != abi::kFloat32 || fill.shape.elements() != 1) {
      return false;
    }
    padding->fill = *static_cast<const float*>(fill.constant);
    return true;
  }

  bool prepare(Preparation& preparation) override {
    x_ = code == abi::kBuiltinSplit ? inputs[1] : inputs[0];
    const Value& x = preparation.value(x_);
    is_byte_ = is_byte(x.type);
    if (x.type != abi::kFloat32 && x.type != abi::kInt32 && !is_byte_) {
      return preparation.fail("its input is not float32, int32, int8 or uint8");
    }
    if (x.shape.rank == 0) return preparation.fail("its input is a scalar");
    const Value& y = preparation.value(output);
    if (y.type != x.type || !have_one_scale(x, y)) return preparation.fail("its output has another type or scale");
    const char* const problem = arrange(preparation, x.shape);
    if (problem != nullptr) return preparation.fail("%s", problem);
    fills_ = code == abi::kBuiltinPad || code == abi::kBuiltinPadV2;
    x_channels_ = x.shape.channels();
    channels_ = arrangement_.shape().channels();
    return preparation.set_shape(output, arrangement_.shape());
  }

  Locality locality() const override { return arrangement_.locality(); }

  void run(const Tile& tile) const override { return is_byte_ ? run_as<uint8_t>(tile) : run_as<uint32_t>(tile); }

 private:
  template <typename T>
  void run_as(const Tile& tile) const {
    int64_t first = 0;
    const T* const x = tile.map<T>(x_, arrangement_.locality(), &first);
    const int64_t offset = arrangement_.start() - first * x_channels_;
    copy(x, offset, tile.begin * channels_, tile.end * channels_, tile.rows<T>(output));
  }

  // Null, or what is wrong.
  const char* arrange(const Preparation& preparation, const Shape& x) {
    switch (code) {
      case abi::kBuiltinSpaceToDepth: return arrangement_.space_to_depth(x, block_);
      case abi::kBuiltinDepthToSpace: return arrangement_.depth_to_space(x, block_);
      case abi::kBuiltinSplit: return split(x, constant(preparation, 0, 1), nullptr);
      case abi::kBuiltinSplitV: return split(x, constant(preparation, 2, 1), constant(preparation, 1, parts_));
      default: break;
    }
    const Value& second = preparation.value(inputs[1]);
    const int64_t count = second.shape.elements();
    const bool counts_axes = code != abi::kBuiltinReshape && code != abi::kBuiltinReverseV2;
    const bool is_pad = code == abi::kBuiltinPad || code == abi::kBuiltinPadV2;
    const int32_t* const numbers = constant(preparation, 1, counts_axes ? (is_pad ? 2 * x.rank : x.rank) : count);
    if (numbers == nullptr) return kNoConstant;
    switch (code) {
      case abi::kBuiltinReshape: return arrangement_.reshape(x, numbers, count);
      case abi::kBuiltinReverseV2: return arrangement_.reverse(x, numbers, count);
      case abi::kBuiltinTranspose: return arrangement_.transpose(x, numbers);
      case abi::kBuiltinStridedSlice: {
        const int32_t* const ends = constant(preparation, 2, x.rank);
        const int32_t* const steps = constant(preparation, 3, x.rank);
        return ends == nullptr || steps == nullptr ? kNoConstant : arrangement_.slice(x, numbers, ends, steps, slice_);
      }
      default: break;
    }
    // Zeros: of integers, what stands for it.
    fill_ = is_byte_ ? static_cast<uint32_t>(preparation.value(output).quantization.zero_point) : 0;
    if (code == abi::kBuiltinPadV2) {
      const Value& fill = preparation.value(inputs[2]);
      if (fill.constant == nullptr || fill.type != preparation.value(x_).type || fill.shape.elements() != 1) {
        return kNoConstant;
      }
      if (is_byte_) {
        fill_ = *static_cast<const uint8_t*>(fill.constant);
      } else {
        memcpy(&fill_, fill.constant, sizeof(fill_));
      }
    }
    return arrangement_.pad(x, numbers);
  }

  const int32_t* constant(const Preparation& preparation, int input, int64_t elements) const {
    return preparation.constant<int32_t>(inputs[input], abi::kInt32, elements);
  }

  // This operator's part of SPLIT, or of SPLIT_V, whose sizes may have one of -1: what remains.
  const char* split(const Shape& x, const int32_t* axis_number, const int32_t* sizes) {
    if (axis_number == nullptr || (sizes == nullptr) != (code == abi::kBuiltinSplit)) return kNoConstant;
    const int64_t axis = *axis_number < 0 ? *axis_number + x.rank : *axis_number;
    if (axis < 0 || axis >= x.rank) return "its axis does not exist";
    const int64_t whole = x.dims[axis];
    if (sizes == nullptr) {
      if (whole % parts_ != 0) return "its input does not split evenly";
      return arrangement_.part(x, axis, part * (whole / parts_), whole / parts_);
    }
    int64_t known = 0;
    for (int i = 0; i < parts_; ++i) known += max(sizes[i], 0);
    const auto size_of = [=](int i) { return sizes[i] == -1 ? whole - known : sizes[i]; };
    int64_t offset = 0;
    int64_t sum = 0;
    for (int i = 0; i < parts_; ++i) {
      if (size_of(i) < 1) return "its sizes do not fit its input";
      if (i < part) offset += size_of(i);
      sum += size_of(i);
    }
    if (sum != whole) return "its sizes do not fit its input";
    return arrangement_.part(x, axis, offset, size_of(part));
  }

  // Elements [begin, end) of the output; `offset`: in x, of where the arrangement starts.
  template <typename T>
  void copy(const T* x, int64_t offset, int64_t begin, int64_t end, T* y) const {
    const int axes = arrangement_.axes();
    const Arrangement::Axis& inner = arrangement_.axis(axes - 1);
    int64_t positions[kMostAxes];
    int64_t column = begin % inner.size;
    int64_t row = begin / inner.size;
    for (int i = axes - 2; i >= 0; --i) {
      const Arrangement::Axis& axis = arrangement_.axis(i);
      positions[i] = row % axis.size;
      offset += positions[i] * axis.stride;
      row /= axis.size;
    }
    while (begin < end) {
      // Whole rows of one axis, or a row, or a part of one.
      const bool is_whole = column == 0 && end - begin >= inner.size;
      int64_t rows = 1;
      if (is_whole && axes > 1 && !fills_) {
        rows = min(arrangement_.axis(axes - 2).size - positions[axes - 2], (end - begin) / inner.size);
      }
      const int64_t size = is_whole ? inner.size : min(inner.size - column, end - begin);
      const int64_t step = axes > 1 ? arrangement_.axis(axes - 2).stride : 0;
      if (fills_) {
        write_filled(x, offset, column, size, holds(positions), y);
      } else {
        write(x + offset + column * inner.stride, inner.stride, step, size, rows, y);
      }
      y += rows * size;
      begin += rows * size;
      column = 0;
      offset += rows * step;
      for (int i = axes - 2; i >= 0; --i) {
        const Arrangement::Axis& axis = arrangement_.axis(i);
        positions[i] += i == axes - 2 ? rows : 1;
        if (i < axes - 2) offset += axis.stride;
        if (positions[i] < axis.size) break;
        positions[i] = 0;
        offset -= axis.size * axis.stride;
      }
    }
  }

  template <typename T>
  static void write(const T* from, int64_t stride, int64_t step, int64_t size, int64_t rows, T* to) {
    if (stride == 1) return copy_rows(from, step, size, rows, size, to);
    for (int64_t row = 0; row < rows; ++row, from += step, to += size) {
      for (int64_t i = 0; i < size; ++i) to[i] = from[i * stride];
    }
  }

  // Whether the input has the row at these positions of all axes but the innermost.
  bool holds(const int64_t* positions) const {
    for (int i = 0; i + 1 < arrangement_.axes(); ++i) {
      const Arrangement::Axis& axis = arrangement_.axis(i);
      if (positions[i] < axis.first || positions[i] >= axis.last) return false;
    }
    return true;
  }

  // Positions [column, column + size) of a row, which begins at x[offset]; `holds`: the input has elements of it.
  template <typename T>
  void write_filled(const T* x, int64_t offset, int64_t column, int64_t size, bool holds, T* to) const {
    const T fill = static_cast<T>(fill_);
    const Arrangement::Axis& inner = arrangement_.axis(arrangement_.axes() - 1);
    const int64_t first = holds ? min(max(inner.first - column, int64_t{0}), size) : size;
    const int64_t last = holds ? min(max(inner.last - column, first), size) : size;
    for (int64_t i = 0; i < first; ++i) to[i] = fill;
    if (first < last) {
      write(x + offset + (column + first) * inner.stride, inner.stride, 0, last - first, 1, to + first);
    }
    for (int64_t i = last; i < size; ++i) to[i] = fill;
  }

  static constexpr int kMostAxes = 2 * kMaxRank;
  static constexpr const char* kNoConstant = "an input is not the constant that it must be";

  int parts_ = 1;  // of its node
  int block_ = 0;
  abi::StridedSliceParams slice_ = {};
  Arrangement arrangement_;
  int x_ = 0;
  int64_t x_channels_ = 0;
  int64_t channels_ = 0;  // of the output
  bool is_byte_ = false;
  bool fills_ = false;
  uint32_t fill_ = 0;
};

}  // namespace

Operator* create_rearrange(int32_t code) { return create_with_code<Rearrange>(code); }

}  // namespace bnncc
