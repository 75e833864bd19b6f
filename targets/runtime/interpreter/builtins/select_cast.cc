// SELECT_V2, and what changes types: CAST, DEQUANTIZE, QUANTIZE.
#include "../builtin.h"
#include "broadcast.h"

namespace bnncc {
namespace {

// Strides are 0 or 1.
template <typename T>
void select(const uint8_t* condition, const int64_t* strides, const void* a, const void* b, void* y, int64_t size) {
  const T* const left = static_cast<const T*>(a);
  const T* const right = static_cast<const T*>(b);
  T* const to = static_cast<T*>(y);
  for (int64_t i = 0; i < size; ++i) {
    to[i] = condition[i * strides[0]] != 0 ? left[i * strides[1]] : right[i * strides[2]];
  }
}

class Select : public Builtin {
 public:
  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(3, 1)) return false;
    const abi::Type type = setup.type(1);
    if (setup.type(0) != abi::kBool || setup.type(2) != type) return setup.fail("it does not take these types");
    const Shape shapes[] = {setup.shape(0), setup.shape(1), setup.shape(2)};
    Shape choice;
    Shape y;
    if (!broadcast(shapes[1], shapes[2], &choice) || !broadcast(shapes[0], choice, &y)) {
      return setup.fail("its inputs do not broadcast");
    }
    loop_ = broadcast_loop(shapes, 3, y);
    element_ = element_size(type);
    function_ = element_ == 8   ? select<int64_t>
                : element_ == 4 ? select<int32_t>
                : element_ == 2 ? select<int16_t>
                                : select<int8_t>;
    return setup.set_output(0, type, y);
  }

  void run(const Call& call) const override {
    const uint8_t* const condition = call.input<uint8_t>(0);
    const char* const a = call.input<char>(1);
    const char* const b = call.input<char>(2);
    char* const y = call.output<char>(0);
    const int64_t strides[] = {loop_.inner_stride(0), loop_.inner_stride(1), loop_.inner_stride(2)};
    loop_.run(call.team(), [&](const int64_t* offsets, int64_t size) {
      function_(condition + offsets[0], strides, a + offsets[1] * element_, b + offsets[2] * element_,
                y + offsets[3] * element_, size);
    });
  }

 private:
  decltype(&select<int8_t>) function_ = nullptr;
  Loop loop_;
  int64_t element_ = 0;
};

// A float16, whose bits these are, as a float32: exact.
float widen(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = bits >> 10 & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -value : value;
  }
  // The exponents' biases are 15 and 127; all ones stand for infinity and NaN.
  const uint32_t wide = exponent == 0x1f ? 0xffu : exponent + 127 - 15;
  const uint32_t result = sign | wide << 23 | fraction << 13;
  float value = 0;
  memcpy(&value, &result, sizeof(value));
  return value;
}

template <typename To, typename From>
struct Convert {
  static To one(From x) { return static_cast<To>(x); }
};

// What an integer cannot hold becomes the nearest that it can; NaN becomes 0.
template <typename To>
struct Convert<To, float> {
  static To one(float x) {
    constexpr int bits = 8 * static_cast<int>(sizeof(To));
    constexpr bool is_signed = static_cast<To>(-1) < To{1};
    constexpr int64_t most = (int64_t{1} << (bits - is_signed)) - 1;
    constexpr int64_t least = is_signed ? -most - 1 : 0;
    if (!(x > static_cast<float>(least))) return x == x ? static_cast<To>(least) : To{0};
    if (!(x < static_cast<float>(most))) return static_cast<To>(most);
    return static_cast<To>(static_cast<int64_t>(x));
  }
};

template <>
struct Convert<float, float> {
  static float one(float x) { return x; }
};

template <typename From>
struct Convert<bool, From> {
  static bool one(From x) { return x != From{0}; }
};

template <>
struct Convert<bool, float> {
  static bool one(float x) { return x != 0; }
};

using Function = void (*)(const void* x, void* y, int64_t size);

template <typename From, typename To>
void convert(const void* x, void* y, int64_t size) {
  const From* const from = static_cast<const From*>(x);
  To* const to = static_cast<To*>(y);
  for (int64_t i = 0; i < size; ++i) to[i] = Convert<To, From>::one(from[i]);
}

void convert_half(const void* x, void* y, int64_t size) {
  for (int64_t i = 0; i < size; ++i) static_cast<float*>(y)[i] = widen(static_cast<const uint16_t*>(x)[i]);
}

// A boolean is read as a byte, which a damaged file may fill with anything.
template <typename From>
Function find_conversion(abi::Type to) {
  switch (to) {
    case abi::kFloat32: return convert<From, float>;
    case abi::kInt32: return convert<From, int32_t>;
    case abi::kInt8: return convert<From, int8_t>;
    case abi::kUInt8: return convert<From, uint8_t>;
    case abi::kBool: return convert<From, bool>;
    default: return nullptr;
  }
}

Function find_conversion(abi::Type from, abi::Type to) {
  switch (from) {
    case abi::kFloat32: return find_conversion<float>(to);
    case abi::kInt32: return find_conversion<int32_t>(to);
    case abi::kInt8: return find_conversion<int8_t>(to);
    case abi::kUInt8:
    case abi::kBool: return find_conversion<uint8_t>(to);
    case abi::kFloat16: return to == abi::kFloat32 ? convert_half : nullptr;
    default: return nullptr;
  }
}

class Cast : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(1, 1)) return false;
    const abi::Type from = setup.type(0);
    const abi::Type to = setup.output_type(0);
    // The schema's float16 constants are dequantized as well.
    if (code == code::kCast || from == abi::kFloat16) {
      function_ = find_conversion(from, to);
    } else if (code == code::kDequantize && to == abi::kFloat32) {
      dequantizes_ = read_scale(from, setup.file_tensor(0));
    } else if (code == code::kQuantize && from == abi::kFloat32) {
      quantizes_ = read_scale(to, setup.file_output(0));
    }
    if (function_ == nullptr && !dequantizes_ && !quantizes_) {
      return setup.fail("it does not convert between these types");
    }
    kernels_ = setup.kernels();
    size_ = setup.shape(0).elements();
    from_ = element_size(from);
    to_ = element_size(to);
    return setup.set_output(0, to, setup.shape(0));
  }

  void run(const Call& call) const override {
    constexpr int64_t kTask = 16384;
    const char* const x = call.input<char>(0);
    char* const y = call.output<char>(0);
    call.team().run(ceil_div(size_, kTask), [&](int64_t task, int) {
      const int64_t begin = task * kTask;
      convert(x + begin * from_, min(kTask, size_ - begin), y + begin * to_);
    });
  }

 private:
  void convert(const char* x, int64_t size, char* y) const {
    if (dequantizes_) {
      auto* const to = reinterpret_cast<float*>(y);
      if (from_ == 2) return kernels_->dequantize_shorts(reinterpret_cast<const int16_t*>(x), scale_, size, to);
      kernels_->dequantize_bytes(reinterpret_cast<const uint8_t*>(x), scale_, size, to);
    } else if (quantizes_) {
      const auto* const from = reinterpret_cast<const float*>(x);
      if (to_ == 2) return kernels_->quantize_shorts(from, scale_, size, reinterpret_cast<int16_t*>(y));
      kernels_->quantize_bytes(from, scale_, size, reinterpret_cast<uint8_t*>(y));
    } else {
      function_(x, y, size);
    }
  }

  // False where the tensor has not one scale for all elements.
  bool read_scale(abi::Type type, const FileTensor& tensor) {
    if (tensor.scales.count != 1 || tensor.zero_points.count > 1) return false;
    const int64_t point = tensor.zero_points.count == 0 ? 0 : tensor.zero_points.at<int64_t>(0);
    scale_ = {tensor.scales.at<float>(0), static_cast<int32_t>(point), type == abi::kUInt8, 0};
    if (type == abi::kInt16) return scale_.scale > 0 && point == 0;
    return (type == abi::kUInt8 || type == abi::kInt8) && scale_.scale > 0 && point >= -128 && point <= 255;
  }

  IntegerScale scale_ = {};
  bool dequantizes_ = false;
  bool quantizes_ = false;
  const Kernels* kernels_ = nullptr;
  Function function_ = nullptr;
  int64_t size_ = 0;
  int64_t from_ = 0;
  int64_t to_ = 0;
};

}  // namespace

Builtin* create_select(int32_t) { return create<Select>(); }
Builtin* create_cast(int32_t code) { return create_with_code<Cast>(code); }

}  // namespace bnncc
