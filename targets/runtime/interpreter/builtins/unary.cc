// Operators of one tensor, value by value.
#include "../builtin.h"
#include "../libm.h"

namespace bnncc {
namespace {

constexpr float kSqrtHalf = 0.70710678118654752f;
constexpr float kSqrtTwoByPi = 0.79788456080286536f;
constexpr float kGeluCubic = 0.044715f;

float clamp(float x, float least, float most) { return min(max(x, least), most); }

// alpha: LEAKY_RELU's option.
using Function = void (*)(const void* x, void* y, int64_t size, float alpha);

template <typename T, T (*function)(T, float)>
void apply(const void* x, void* y, int64_t size, float alpha) {
  const T* const from = static_cast<const T*>(x);
  T* const to = static_cast<T*>(y);
  for (int64_t i = 0; i < size; ++i) to[i] = function(from[i], alpha);
}

float absolute(float x, float) { return __builtin_fabsf(x); }
float negate(float x, float) { return -x; }
float square(float x, float) { return x * x; }
float square_root(float x, float) { return sqrtf(x); }
float exponential(float x, float) { return expf(x); }
float logarithm(float x, float) { return logf(x); }
float sine(float x, float) { return sinf(x); }
float cosine(float x, float) { return cosf(x); }
float floor_of(float x, float) { return floorf(x); }
float ceil_of(float x, float) { return ceilf(x); }
float round_to_even(float x, float) { return rintf(x); }
float sign(float x, float) { return static_cast<float>((x > 0) - (x < 0)); }
float relu(float x, float) { return x > 0 ? x : 0; }
float relu6(float x, float) { return clamp(x, 0, 6); }
float relu_n1_to_1(float x, float) { return clamp(x, -1, 1); }
float relu_0_to_1(float x, float) { return clamp(x, 0, 1); }
float leaky_relu(float x, float alpha) { return x > 0 ? x : x * alpha; }
float elu(float x, float) { return x < 0 ? expm1f(x) : x; }
float gelu(float x, float) { return 0.5f * x * erfcf(-kSqrtHalf * x); }
float gelu_by_tanh(float x, float) { return 0.5f * x * (1 + tanhf(kSqrtTwoByPi * (x + kGeluCubic * x * x * x))); }
float hard_swish(float x, float) { return x * clamp(x + 3, 0, 6) * (1.0f / 6); }
float logistic(float x, float) { return 1 / (1 + expf(-x)); }
float hyperbolic_tangent(float x, float) { return tanhf(x); }

// Integers wrap around.
int32_t absolute(int32_t x, float) { return x < 0 ? static_cast<int32_t>(0u - static_cast<uint32_t>(x)) : x; }
int32_t negate(int32_t x, float) { return static_cast<int32_t>(0u - static_cast<uint32_t>(x)); }
int32_t sign(int32_t x, float) { return (x > 0) - (x < 0); }

uint8_t logical_not(uint8_t x, float) { return x == 0; }

Function find_function(int32_t code) {
  switch (code) {
    case code::kAbs: return apply<float, absolute>;
    case code::kNeg: return apply<float, negate>;
    case code::kSquare: return apply<float, square>;
    case code::kSqrt: return apply<float, square_root>;
    case code::kExp: return apply<float, exponential>;
    case code::kLog: return apply<float, logarithm>;
    case code::kSin: return apply<float, sine>;
    case code::kCos: return apply<float, cosine>;
    case code::kFloor: return apply<float, floor_of>;
    case code::kCeil: return apply<float, ceil_of>;
    case code::kRound: return apply<float, round_to_even>;
    case code::kSign: return apply<float, sign>;
    case code::kRelu: return apply<float, relu>;
    case code::kRelu6: return apply<float, relu6>;
    case code::kReluN1To1: return apply<float, relu_n1_to_1>;
    case code::kRelu0To1: return apply<float, relu_0_to_1>;
    case code::kLeakyRelu: return apply<float, leaky_relu>;
    case code::kElu: return apply<float, elu>;
    case code::kGelu: return apply<float, gelu>;
    case code::kHardSwish: return apply<float, hard_swish>;
    case code::kLogistic: return apply<float, logistic>;
    case code::kTanh: return apply<float, hyperbolic_tangent>;
    default: return nullptr;
  }
}

Function find_integer_function(int32_t code) {
  switch (code) {
    case code::kAbs: return apply<int32_t, absolute>;
    case code::kNeg: return apply<int32_t, negate>;
    case code::kSign: return apply<int32_t, sign>;
    default: return nullptr;
  }
}

class Unary : public Builtin {
 public:
  int32_t code = 0;

  bool prepare(Setup& setup, const Team&) override {
    if (!setup.expect(1, 1)) return false;
    const abi::Type type = setup.type(0);
    if (type == abi::kFloat32) {
      function_ = find_function(code);
    } else if (type == abi::kInt32) {
      function_ = find_integer_function(code);
    } else if (type == abi::kBool && code == code::kLogicalNot) {
      function_ = apply<uint8_t, logical_not>;
    }
    if (function_ == nullptr) return setup.fail("it does not take this type");
    if (code == code::kLeakyRelu) alpha_ = setup.options().number<float>(0, 0);
    if (code == code::kGelu && setup.options().number<uint8_t>(0, 0) != 0) function_ = apply<float, gelu_by_tanh>;
    size_ = setup.shape(0).elements();
    element_ = element_size(type);
    return setup.set_output(0, type, setup.shape(0));
  }

  void run(const Call& call) const override {
    constexpr int64_t kTask = 8192;
    const char* const x = call.input<char>(0);
    char* const y = call.output<char>(0);
    call.team().run(ceil_div(size_, kTask), [&](int64_t task, int) {
      const int64_t begin = task * kTask;
      function_(x + begin * element_, y + begin * element_, min(kTask, size_ - begin), alpha_);
    });
  }

 private:
  Function function_ = nullptr;
  float alpha_ = 0;
  int64_t size_ = 0;
  int64_t element_ = 0;
};

}  // namespace

Builtin* create_unary(int32_t code) { return create_with_code<Unary>(code); }

}  // namespace bnncc
