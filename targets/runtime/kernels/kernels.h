// The inner loops, one table of functions for each instruction set.
//
// All read and write rows: a feature map is [pixels, channels], channels last, without gaps.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../fixed_point.h"
#include "../memory.h"

namespace bnncc {

// A float x is a -1 where x ≤ this, the largest negative number that is no denormal: so -0.0, NaN and denormals are +1,
// in every floating-point mode.
constexpr float kLargestNegative = -1.17549435e-38f;

// The filters of a binary convolution against the patches of the input that they meet.
//
// With bit 0 for +1 and bit 1 for -1, two factors differ in their bits where their product is -1.  Of K products p are
// -1 if the exclusive or of patch and filter has p bits set, and their sum is
//
//     Σ a·w = (K - p) - p = K - 2·p,   p = popcount(a xor w).
//
// The filters are stored in panels, as `fill_panels` makes them: what belongs together of all filters of a panel lies side
// by side, so that a part of a patch meets a vector of filters at once and no sum ever crosses lanes.  The patches are
// stored as `pack` of the same table puts them.  Instead of panels there may be tables.
struct BinaryGemm {
  const uint32_t* patches;  // up to a multiple of `patch_pixels`; what is too much is ignored
  int64_t pixels;
  int64_t words;
  const uint32_t* panels;
  int64_t filters;
  int64_t stride;         // from one pixel's output to the next one's, in elements
  const uint8_t* tables;  // of `Kernels::fill_tables`, aligned to 64 bytes; or null
};

// y = clamp(p) · multiplier + bias, evaluated as written, rounded after each step.
//
// For clamp(acc) · m + b with acc = K - 2·p: multiplier = -2·m, bias = b + K·m rounded once, and the clamp reversed
// about K and halved.  LCE's own arithmetic on x86-64 is clamp(2·p) · -m + bias: as 2 only moves the exponent, the
// floats are LCE's to the last bit.
struct Affine {
  const float* multiplier;
  const float* bias;
  bool clamps;
  float least;  // of p, if it clamps
  float most;
};

// The bounds of what is written.
struct FloatClamp {
  bool clamps = false;
  float least = -__builtin_inff();  // if it clamps
  float most = __builtin_inff();
};

// Rows of numbers, `step` apart.  A row is `runs` runs of `run` numbers, `run_step` apart: so the patches of an image
// are rows where they lie, a run for each line that the kernel covers.
struct FloatRows {
  const float* x;
  int64_t step;
  int64_t count;
  int64_t runs;
  int64_t run_step;
  int64_t run;
};

// y[r, o] = clamp(bias[o] + Σ_k x[r, k] · w[o, k]), summed in the order of k, with one rounding for each product and
// its addition where the instruction set has that.
//
// The rows of w lie in panels of `Kernels::float_panel`, in each [k, float_panel], the last panel's rounded up to whole
// vectors by zeros, as are the biases.
struct FloatGemm {
  FloatRows rows;
  const float* panels;
  const float* bias;
  int64_t outputs;
  int64_t stride;  // from one row of y to the next
  FloatClamp clamp;
};

// From integers to integers of another scale: clamp(x · factor + zero_point), with a factor for each output, rounded
// twice or once as in fixed_point.h.
//
// The factors' parts have as many elements as whole panels of outputs have.
struct Requantization {
  const int32_t* multiplier;
  const int32_t* left;
  const int32_t* right;
  bool rounds_once;
  bool divides;  // rounds twice, `right` is at least 1, and `left` 0, for all
  int32_t zero_point;
  int32_t least;  // of y, zero point and all
  int32_t most;
};

// y[r, o] = requantized(bias[o] + Σ_k (x[r, k] + integer_offset) · w[o, k]), of 8-bit integers; no product has a weight of -128.
//
// The rows of w lie in panels of `Kernels::integer_panel` outputs, in each [depth / integer_step, integer_panel,
// integer_step], the last panel's filled up with zeros; `depth` is a whole number of steps, filled up with zero
// weights. Where `Kernels::integers_are_wide`, rows and panels have 16 bits for each number, else 8.
struct IntegerGemm {
  const void* rows;
  int64_t step;  // from one row to the next, in numbers
  int64_t count;
  int64_t depth;
  const void* panels;
  const int32_t* bias;
  Requantization requantization;
  int64_t outputs;
  int64_t stride;  // from one row of y to the next
};

// How two 8-bit integers become one, of numbers a and b without their zero points and of factors that round twice
// (fixed_point.h).
enum class ByteCombination {
  kSum,      // (2^20 · a · a_factor + 2^20 · b · b_factor) · factor
  kProduct,  // a · b · factor
  kPrelu,    // a · factor where a ≥ 0, else a · b · b_factor
};

constexpr int kSumBits = 20;

// Operands whose elements lie side by side, or of one element that serves all: then the step is 0.
struct BytePairs {
  const int8_t* a;
  const int8_t* b;
  int64_t a_step;
  int64_t b_step;
  int32_t a_point;
  int32_t b_point;
  FixedPoint a_factor;
  FixedPoint b_factor;
  FixedPoint factor;
  int32_t zero_point;
  int32_t least;  // of y, zero point and all
  int32_t most;
};

// An integer q stands for scale · (q - zero_point).
struct IntegerScale {
  float scale;
  int32_t zero_point;
  bool is_unsigned;  // it is a byte from 0 to 255
  float factor;      // yields what a division by the scale does (exact_factor.h); 0 where none is known
};

// Pixels of a map of bytes, as those of a FloatWindow.
struct ByteWindow {
  const int8_t* x;
  int64_t step;
  int64_t lines;
  int64_t pixels;
};

// Pixels of a map: in some lines, `step` numbers apart, so many side by side.
struct FloatWindow {
  const float* x;
  int64_t step;
  int64_t lines;
  int64_t pixels;
};

// What becomes of an element a of a map, or of it and an element b of another.
enum class Combination {
  kFirst,  // a
  kNegative,
  kAbsolute,
  kSum,
  kDifference,          // a - b
  kReversedDifference,  // b - a
  kProduct,
  kQuotient,          // a / b
  kReversedQuotient,  // b / a
  kMaximum,
  kMinimum,
  kPrelu,  // a < 0 ? a · b : a
};

// Element (pixel, channel) is data[pixel · pixel_step + channel · channel_step]: pixel_step is 0 where all pixels share
// one, channel_step 1, or 0 where all channels share one.
struct Operand {
  const float* data;
  int64_t pixel_step;
  int64_t channel_step;
};

// A step of a chain: x = clamp(x ∘ b), of which one row a pixel is written to y, where that is not null.
struct ChainStep {
  Combination combination;
  Operand b;
  FloatClamp clamp;
  float* y;
};

// A part of a tile's patches.
struct PatchSlice {
  int64_t patch_words;  // of a whole patch
  int64_t first_pixel;
  int64_t pixels;
  int64_t first_word;
  int64_t words;
};

struct Kernels {
  const char* name;
  int64_t lanes;             // 32-bit elements of a vector
  int64_t most_words;        // of a filter
  int64_t block_pixels;      // pixels that meet a panel together
  int64_t patch_pixels;      // patches are stored up to a multiple of so many
  int64_t patch_word_bytes;  // of a word of a patch
  bool patches_are_rows;     // whether `pack` puts words as they are, one behind the other: [pixels, words]
  int64_t float_panel;       // outputs of a panel of FloatGemm, a multiple of lanes
  int64_t float_rows;        // rows that meet a panel together

  // The size of all panels of so many filters, in words, and how filters [count, words] become them.
  int64_t (*panel_words)(int64_t words, int64_t filters);
  void (*fill_panels)(const uint32_t* filters, int64_t words, int64_t count, uint32_t* panels);

  // The size of the tables that count so many filters of so many words faster than panels do; 0 where none would.
  int64_t (*table_bytes)(int64_t words, int64_t filters, int64_t pixels);
  // From filters [count, words], not in panels; null where table_bytes is always 0.
  void (*fill_tables)(const uint32_t* filters, int64_t words, int64_t count, uint8_t* tables);

  // y[pixel, filter], floats, and p[pixel, filter] itself.
  void (*gemm_float)(const BinaryGemm&, const Affine&, float* y);
  void (*gemm_counts)(const BinaryGemm&, int32_t* p);

  // Puts words [first_word, first_word + words) of the patches of pixels [first_pixel, first_pixel + pixels) in place,
  // each pixel's `step` words behind the one's before; zeros where `from` is null.
  void (*pack)(const uint32_t* from, int64_t step, const PatchSlice&, uint32_t* patches);

  // Bit of channel c: x ≤ kLargestNegative.  Unused bits of a pixel's last word are 0.
  void (*quantize)(const float* x, uint32_t* bits, int64_t pixels, int64_t channels);
  // Bit of channel c: count > threshold[c].
  void (*threshold)(const int32_t* counts, const int32_t* threshold, uint32_t* bits, int64_t pixels, int64_t channels);

  // The elements of [pixels, channels], from those of x on, go through all steps before the next ones do.  What a step
  // reads may be what an earlier one has written.
  void (*run_chain)(const Operand& x, const ChainStep* steps, int count, int64_t pixels, int64_t channels);

  // y = x · clamp(x + 3, 0, 6) / 6;  y = 1 / (1 + e⁻ˣ)
  void (*hard_swish)(const float* x, float* y, int64_t size);
  void (*logistic)(const float* x, float* y, int64_t size);

  // sums += terms;  y += multiplier · sums
  void (*add_counts)(const int32_t* terms, int32_t* sums, int64_t size);
  void (*multiply_add)(const float* multiplier, const int32_t* sums, float* y, int64_t size);

  void (*float_gemm)(const FloatGemm&, float* y);
  // y += factor · x;  y += x · w;  each with one rounding where float_gemm has one
  void (*add_scaled)(float factor, const float* x, float* y, int64_t size);
  void (*add_products)(const float* x, const float* w, float* y, int64_t size);
  // y = the largest of the window's pixels, channel by channel
  void (*maximum)(const FloatWindow&, int64_t channels, float* y);

  int64_t integer_panel;     // outputs of a panel of IntegerGemm, a multiple of lanes
  int64_t integer_step;      // numbers of a row that lie together in a panel
  int64_t integer_multiple;  // what depths are filled up to
  bool integers_are_wide;    // 16 bits for each number of rows and panels
  int32_t integer_offset;    // by how much the numbers of rows are more when they are multiplied
  void (*integer_gemm)(const IntegerGemm&, int8_t* y);
  // y = requantized(sums), [pixels, channels]
  void (*requantize)(const int32_t* sums, const Requantization&, int64_t pixels, int64_t channels, int8_t* y);

  // Element by element.
  void (*combine_bytes)(ByteCombination, const BytePairs&, int64_t size, int8_t* y);
  // The largest of the window's pixels, or their mean, to the nearest, ties away from 0, channel by channel.
  void (*maximum_bytes)(const ByteWindow&, int64_t channels, int8_t* y);
  void (*average_bytes)(const ByteWindow&, int64_t channels, int8_t* y);
  // y = round(x / scale) + zero_point, ties away from 0, saturated, zero_point for NaN;  y = scale · (x - zero_point)
  void (*quantize_bytes)(const float* x, const IntegerScale&, int64_t size, uint8_t* y);
  void (*dequantize_bytes)(const uint8_t* x, const IntegerScale&, int64_t size, float* y);
  // The same of 16 bits, whose zero point is 0.
  void (*quantize_shorts)(const float* x, const IntegerScale&, int64_t size, int16_t* y);
  void (*dequantize_shorts)(const int16_t* x, const IntegerScale&, int64_t size, float* y);
};

// What each of so many threads has of the second-level cache, in bytes.  x86-64 says how large that is, cores of ARM
// which they are; where neither helps, and at least, 256 kB are taken for it.
int64_t second_level_cache(int threads);

// The kernels that run on this machine's processor, the fastest first; ends with a null.
const Kernels* const* available_kernels();

// The first of them, or the one called `name`; null where there is none.
const Kernels* find_kernels(const char* name);

}  // namespace bnncc
