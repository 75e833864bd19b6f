// Reductions over axes: SUM, MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD; ARG_MAX and ARG_MIN.
//
// Sums and products are taken in float64.  One thread works: what it reads is small beside what made it.
#include "../builtin.h"

namespace bnncc {
namespace {

// How a reduction begins, and how it takes a further number in.
enum class Kind { kSum, kProduct, kMaximum, kMinimum };

template <Kind kind, typename Sum>
Sum take(Sum sum, Sum x) {
  switch (kind) {
    case Kind::kSum: return sum + x;
    case Kind::kProduct: return sum * x;
    case Kind::kMaximum: return x > sum ? x : sum;
    default: return x < sum ? x : sum;
  }
}

// sums[i·step] takes x[i] in.
template <Kind kind, typename T, typename Sum>
void take_row(const void* x, void* sums, int64_t step, int64_t size) {
  const T* const from = static_cast<const T*>(x);
  Sum* const to = static_cast<Sum*>(sums);
  if (step == 0) {
    Sum sum = *to;
    for (int64_t i = 0; i < size; ++i) sum = take<kind, Sum>(sum, static_cast<Sum>(from[i]));
    *to = sum;
  } else {
    for (int64_t i = 0; i < size; ++i) to[i] = take<kind, Sum>(to[i], static_cast<Sum>(from[i]));
  }
}

using Function = void (*)(const void* x, void* sums, int64_t step, int64_t size);

// The sums of integers wrap around at the end: int64 arithmetic of wrapped uint64 is the same modulo 2³².
template <Kind kind>
Function find_function(abi::Type type) {
  constexpr bool compares = kind == Kind::kMaximum || kind == Kind::kMinimum;
  if (type == abi::kFloat32) return take_row<kind, float, double>;
  if (type != abi::kInt32) return nullptr;
  return compares ? take_row<kind, int32_t, int64_t> : take_row<kind, int32_t, uint64_t>;
}

class Reduction : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 1)) return false;
    type_ = setup.type(0);
    const Kind kind = code == code::kReduceMax    ? Kind::kMaximum
                      : code == code::kReduceMin  ? Kind::kMinimum
                      : code == code::kReduceProd ? Kind::kProduct
                                                  : Kind::kSum;
    function_ = kind == Kind::kMaximum   ? find_function<Kind::kMaximum>(type_)
                : kind == Kind::kMinimum ? find_function<Kind::kMinimum>(type_)
                : kind == Kind::kProduct ? find_function<Kind::kProduct>(type_)
                                         : find_function<Kind::kSum>(type_);
    if (function_ == nullptr || (code == code::kMean && type_ != abi::kFloat32)) {
      return setup.fail("it does not take this type");
    }
    start_ = kind == Kind::kMaximum   ? -__builtin_inf()
             : kind == Kind::kMinimum ? __builtin_inf()
             : kind == Kind::kProduct ? 1.0
                                      : 0.0;
    unsigned reduced = 0;
    const Shape x = setup.shape(0);
    const int64_t count = setup.shape(1).elements();
    const int32_t* const axes = setup.constant<int32_t>(1, abi::kInt32);
    if (axes == nullptr) return false;
    for (int64_t i = 0; i < count; ++i) {
      const int axis = axes[i] < 0 ? axes[i] + x.rank : axes[i];
      if (axis < 0 || axis >= x.rank) return setup.fail("an axis does not exist");
      reduced |= 1u << axis;
    }
    Shape y;
    int64_t strides[kMaxRank];
    find_shape(x, reduced, setup.options().number<uint8_t>(0, 0) != 0, &y, strides);
    int64_t stride = x.elements();
    for (int i = 0; i < x.rank; ++i) {
      stride /= x.dims[i];
      add_axis(x.dims[i], stride, (reduced >> i & 1) != 0 ? 0 : strides[i]);
    }
    size_ = y.elements();
    share_ = static_cast<double>(x.elements() / size_);
    if (!setup.set_output(0, type_, y)) return false;
    return sums_.allocate(size_) || setup.fail("out of memory");
  }

  void run(const Call& call) const override {
    const char* const x = call.input<char>(0);
    start();
    int64_t positions[kMaxRank] = {};
    int64_t from = 0;
    int64_t to = 0;
    const int64_t inner = axes_ == 0 ? 1 : sizes_[axes_ - 1];
    const int64_t step = axes_ == 0 ? 0 : y_strides_[axes_ - 1];
    while (true) {
      function_(x + 4 * from, &sums_[to], step, inner);
      int axis = axes_ - 2;
      for (; axis >= 0; --axis) {
        from += x_strides_[axis];
        to += y_strides_[axis];
        if (++positions[axis] < sizes_[axis]) break;
        positions[axis] = 0;
        from -= sizes_[axis] * x_strides_[axis];
        to -= sizes_[axis] * y_strides_[axis];
      }
      if (axis < 0) break;
    }
    finish(call);
  }

 private:
  static void find_shape(const Shape& x, unsigned reduced, bool keeps, Shape* y, int64_t* strides) {
    int64_t stride = 1;
    for (int i = x.rank - 1; i >= 0; --i) {
      strides[i] = stride;
      if ((reduced >> i & 1) == 0) stride *= x.dims[i];
    }
    for (int i = 0; i < x.rank; ++i) {
      if ((reduced >> i & 1) == 0) {
        y->dims[y->rank++] = x.dims[i];
      } else if (keeps) {
        y->dims[y->rank++] = 1;
      }
    }
  }

  // Axes that are one behind the other in input and output merge.
  void add_axis(int64_t size, int64_t x_stride, int64_t y_stride) {
    if (size == 1) return;
    const bool merges =
        axes_ > 0 && x_strides_[axes_ - 1] == size * x_stride && y_strides_[axes_ - 1] == size * y_stride;
    if (merges) {
      sizes_[axes_ - 1] *= size;
    } else {
      sizes_[axes_++] = size;
    }
    x_strides_[axes_ - 1] = x_stride;
    y_strides_[axes_ - 1] = y_stride;
  }

  bool is_float() const { return type_ == abi::kFloat32; }

  void start() const {
    const int64_t whole = code == code::kReduceMax   ? INT64_MIN
                          : code == code::kReduceMin ? INT64_MAX
                                                     : static_cast<int64_t>(start_);
    for (int64_t i = 0; i < size_; ++i) {
      if (is_float()) {
        sums_[i].real = start_;
      } else {
        sums_[i].whole = whole;
      }
    }
  }

  void finish(const Call& call) const {
    const double share = code == code::kMean ? share_ : 1;
    for (int64_t i = 0; i < size_; ++i) {
      if (is_float()) {
        call.output<float>(0)[i] = static_cast<float>(sums_[i].real / share);
      } else {
        call.output<uint32_t>(0)[i] = static_cast<uint32_t>(static_cast<uint64_t>(sums_[i].whole));
      }
    }
  }

  union Sum {
    double real;
    int64_t whole;
  };

  abi::Type type_ = abi::kNoType;
  Function function_ = nullptr;
  double start_ = 0;
  double share_ = 1;
  int64_t size_ = 0;
  int axes_ = 0;
  int64_t sizes_[kMaxRank] = {};
  int64_t x_strides_[kMaxRank] = {};
  int64_t y_strides_[kMaxRank] = {};
  Array<Sum> sums_;
};

// The index of the first largest, or smallest, of `size` numbers that lie `stride` apart.
template <typename T>
int32_t find_extreme(const void* x, int64_t size, int64_t stride, bool largest) {
  const T* const from = static_cast<const T*>(x);
  int64_t found = 0;
  for (int64_t i = 1; i < size; ++i) {
    const T value = from[i * stride];
    const T best = from[found * stride];
    if (largest ? value > best : value < best) found = i;
  }
  return static_cast<int32_t>(found);
}

class ArgExtreme : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 1)) return false;
    const abi::Type type = setup.type(0);
    if (type != abi::kFloat32 && type != abi::kInt32) return setup.fail("it does not take this type");
    function_ = type == abi::kFloat32 ? find_extreme<float> : find_extreme<int32_t>;
    const Shape x = setup.shape(0);
    const int32_t* const given = setup.constant<int32_t>(1, abi::kInt32, 1);
    if (given == nullptr) return false;
    const int axis = *given < 0 ? *given + x.rank : *given;
    if (axis < 0 || axis >= x.rank) return setup.fail("its axis does not exist");
    Shape y;
    for (int i = 0; i < x.rank; ++i) {
      if (i < axis) outer_ *= x.dims[i];
      if (i > axis) inner_ *= x.dims[i];
      if (i != axis) y.dims[y.rank++] = x.dims[i];
    }
    size_ = x.dims[axis];
    return setup.set_output(0, abi::kInt32, y);
  }

  void run(const Call& call) const override {
    const char* const x = call.input<char>(0);
    int32_t* const y = call.output<int32_t>(0);
    call.team().run(outer_, [&](int64_t outer, int) {
      for (int64_t inner = 0; inner < inner_; ++inner) {
        const char* const first = x + 4 * (outer * size_ * inner_ + inner);
        y[outer * inner_ + inner] = function_(first, size_, inner_, code == code::kArgMax);
      }
    });
  }

 private:
  int32_t (*function_)(const void*, int64_t, int64_t, bool) = nullptr;
  int64_t outer_ = 1;
  int64_t inner_ = 1;
  int64_t size_ = 0;
};

}  // namespace

Builtin* create_reduction(int32_t code) { return create_with_code<Reduction>(code); }
Builtin* create_arg_extreme(int32_t code) { return create_with_code<ArgExtreme>(code); }

}  // namespace bnncc
