// Operators of two tensors with broadcasting: arithmetic with a fused activation, comparisons, logic, PRELU.
#include "../builtin.h"
#include "../libm.h"
#include "activation.h"
#include "broadcast.h"

namespace bnncc {
namespace {

// y[i] = a[i·sa] ∘ b[i·sb]; strides are 0 or 1.
using Function = void (*)(const void* a, int64_t sa, const void* b, int64_t sb, void* y, int64_t size);

template <typename T, typename R, R (*function)(T, T)>
void apply(const void* a, int64_t sa, const void* b, int64_t sb, void* y, int64_t size) {
  const T* const left = static_cast<const T*>(a);
  const T* const right = static_cast<const T*>(b);
  R* const to = static_cast<R*>(y);
  if (sa == 1 && sb == 1) {
    for (int64_t i = 0; i < size; ++i) to[i] = function(left[i], right[i]);
  } else if (sb == 0) {
    const T value = *right;
    for (int64_t i = 0; i < size; ++i) to[i] = function(left[i * sa], value);
  } else {
    const T value = *left;
    for (int64_t i = 0; i < size; ++i) to[i] = function(value, right[i]);
  }
}

float add(float a, float b) { return a + b; }
float subtract(float a, float b) { return a - b; }
float multiply(float a, float b) { return a * b; }
float divide(float a, float b) { return a / b; }
float power(float a, float b) { return powf(a, b); }
float remainder(float a, float b) {
  const float rest = fmodf(a, b);
  return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
}
float prelu(float x, float slope) { return x >= 0 ? x : x * slope; }

// Integers wrap around; a quotient by 0 is 0.
int32_t wrap(uint32_t x) { return static_cast<int32_t>(x); }
int32_t add(int32_t a, int32_t b) { return wrap(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
int32_t subtract(int32_t a, int32_t b) { return wrap(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }
int32_t multiply(int32_t a, int32_t b) { return wrap(static_cast<uint32_t>(a) * static_cast<uint32_t>(b)); }
int32_t divide(int32_t a, int32_t b) { return b == 0 ? 0 : b == -1 ? wrap(0u - static_cast<uint32_t>(a)) : a / b; }

// It has the divisor's sign.
int32_t remainder(int32_t a, int32_t b) {
  if (b == 0 || b == -1) return 0;
  const int32_t rest = a % b;
  return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
}

int32_t power(int32_t a, int32_t b) {
  // 1 / aᵇ is an integer for 1 and -1 only.
  if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
  uint32_t result = 1;
  for (uint32_t base = static_cast<uint32_t>(a); b > 0; b >>= 1, base *= base) result *= b % 2 != 0 ? base : 1;
  return wrap(result);
}

template <typename T>
T maximum(T a, T b) {
  return a > b ? a : b;
}

template <typename T>
T minimum(T a, T b) {
  return a < b ? a : b;
}

template <typename T>
uint8_t equal(T a, T b) {
  return a == b;
}

template <typename T>
uint8_t not_equal(T a, T b) {
  return a != b;
}

template <typename T>
uint8_t less(T a, T b) {
  return a < b;
}

template <typename T>
uint8_t less_equal(T a, T b) {
  return a <= b;
}

template <typename T>
uint8_t greater(T a, T b) {
  return a > b;
}

template <typename T>
uint8_t greater_equal(T a, T b) {
  return a >= b;
}

uint8_t logical_and(uint8_t a, uint8_t b) { return a != 0 && b != 0; }
uint8_t logical_or(uint8_t a, uint8_t b) { return a != 0 || b != 0; }

template <typename T>
Function find_comparison(int32_t code) {
  switch (code) {
    case code::kEqual: return apply<T, uint8_t, equal<T>>;
    case code::kNotEqual: return apply<T, uint8_t, not_equal<T>>;
    case code::kLess: return apply<T, uint8_t, less<T>>;
    case code::kLessEqual: return apply<T, uint8_t, less_equal<T>>;
    case code::kGreater: return apply<T, uint8_t, greater<T>>;
    case code::kGreaterEqual: return apply<T, uint8_t, greater_equal<T>>;
    default: return nullptr;
  }
}

template <typename T>
Function find_arithmetic(int32_t code) {
  switch (code) {
    case code::kAdd: return apply<T, T, add>;
    case code::kSub: return apply<T, T, subtract>;
    case code::kMul: return apply<T, T, multiply>;
    case code::kDiv: return apply<T, T, divide>;
    case code::kPow: return apply<T, T, power>;
    case code::kFloorMod: return apply<T, T, remainder>;
    case code::kMaximum: return apply<T, T, maximum<T>>;
    case code::kMinimum: return apply<T, T, minimum<T>>;
    default: return nullptr;
  }
}

class Binary : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(2, 1)) return false;
    const abi::Type type = setup.type(0);
    if (setup.type(1) != type) return setup.fail("its inputs are of different types");
    abi::Type result = type;
    find_function(type, &result);
    if (function_ == nullptr) return setup.fail("it does not take this type");
    const bool has_activation = code == code::kAdd || code == code::kSub || code == code::kMul || code == code::kDiv;
    if (has_activation && !clamp_.read(setup.options().number<int8_t>(0, 0))) {
      return setup.fail("its activation is unknown");
    }
    is_integer_ = type == abi::kInt32;
    const Shape shapes[] = {setup.shape(0), setup.shape(1)};
    Shape y;
    if (!broadcast(shapes[0], shapes[1], &y)) return setup.fail("its inputs do not broadcast");
    loop_ = broadcast_loop(shapes, 2, y);
    element_ = element_size(type);
    result_element_ = element_size(result);
    return setup.set_output(0, result, y);
  }

  void run(const Call& call) const override {
    const char* const a = call.input<char>(0);
    const char* const b = call.input<char>(1);
    char* const y = call.output<char>(0);
    loop_.run(call.team(), [&](const int64_t* offsets, int64_t size) {
      char* const to = y + offsets[2] * result_element_;
      function_(a + offsets[0] * element_, loop_.inner_stride(0), b + offsets[1] * element_, loop_.inner_stride(1), to,
                size);
      if (!clamp_.clamps) return;
      if (is_integer_) {
        clamp_.apply(reinterpret_cast<int32_t*>(to), size);
      } else {
        clamp_.apply(reinterpret_cast<float*>(to), size);
      }
    });
  }

 private:
  void find_function(abi::Type type, abi::Type* result) {
    if (type == abi::kFloat32) {
      function_ = code == code::kPrelu ? apply<float, float, prelu> : find_arithmetic<float>(code);
    } else if (type == abi::kInt32) {
      function_ = find_arithmetic<int32_t>(code);
    } else if (type == abi::kBool) {
      if (code == code::kLogicalAnd) function_ = apply<uint8_t, uint8_t, logical_and>;
      if (code == code::kLogicalOr) function_ = apply<uint8_t, uint8_t, logical_or>;
    }
    if (function_ != nullptr) return;
    *result = abi::kBool;
    switch (type) {
      case abi::kFloat32: function_ = find_comparison<float>(code); break;
      case abi::kInt32: function_ = find_comparison<int32_t>(code); break;
      case abi::kInt8: function_ = find_comparison<int8_t>(code); break;
      case abi::kUInt8:
      case abi::kBool: function_ = find_comparison<uint8_t>(code); break;
      default: break;
    }
  }

  Function function_ = nullptr;
  Clamp clamp_;
  bool is_integer_ = false;
  Loop loop_;
  int64_t element_ = 0;
  int64_t result_element_ = 0;
};

}  // namespace

Builtin* create_binary(int32_t code) { return create_with_code<Binary>(code); }

}  // namespace bnncc
