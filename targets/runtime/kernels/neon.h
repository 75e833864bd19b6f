// NEON, 64-bit and 32-bit: `cnt` counts the bits of bytes, up to 31 words are added up bytewise: 31 · 8 = 248.
//
// Included inside a namespace by one file for each schedule.

constexpr int kLanes = 4;
#if defined(__aarch64__)
constexpr int kVectors = 4;          // 16 counters of 32 registers
constexpr bool kInterleaves = true;  // for LD4R
#else
constexpr bool kInterleaves = false;
constexpr int kVectors = 2;  // 8 counters of 16 registers
#endif
constexpr int kPixels = 4;
constexpr int64_t kRun = 31;
constexpr int64_t kShortWords = 0;
constexpr int64_t kMostWords = UINT16_MAX / 16;
constexpr bool kUsesTables = false;

using Bits = uint32x4_t;

inline Bits load(const uint32_t* words) { return vld1q_u32(words); }

inline void broadcast(const uint32_t* words, [[maybe_unused]] int64_t stride, Bits* vectors) {
#if defined(__aarch64__)
  const uint32x4x4_t four = vld4q_dup_u32(words);  // one instruction
  for (int p = 0; p < kPixels; ++p) vectors[p] = four.val[p];
#else
  for (int p = 0; p < kPixels; ++p) vectors[p] = vld1q_dup_u32(words + p * stride);
#endif
}

#if defined(__aarch64__)
// kWords words, 4 or 2, of each of four pixels, side by side.
template <int kWords>
inline void interleave(const uint32_t* from, int64_t step, uint32_t* to) {
  if constexpr (kWords == 4) {
    const uint32x4x4_t four = {
        {vld1q_u32(from), vld1q_u32(from + step), vld1q_u32(from + 2 * step), vld1q_u32(from + 3 * step)}};
    vst4q_u32(to, four);
  } else {
    const uint32x2x4_t four = {
        {vld1_u32(from), vld1_u32(from + step), vld1_u32(from + 2 * step), vld1_u32(from + 3 * step)}};
    vst4_u32(to, four);
  }
}
#endif

inline Bits popcount(Bits x) { return vreinterpretq_u32_u8(vcntq_u8(vreinterpretq_u8_u32(x))); }

inline Bits accumulate(Bits counters, Bits x) {
  return vreinterpretq_u32_u8(vaddq_u8(vreinterpretq_u8_u32(counters), vreinterpretq_u8_u32(x)));
}

// Sums of pairs of bytes: of a word they are 16 at most.
using Wide = uint16x8_t;
inline Wide widen(Bits counters) { return vpaddlq_u8(vreinterpretq_u8_u32(counters)); }
inline Wide widen_onto(Wide sums, Bits counters) { return vpadalq_u8(sums, vreinterpretq_u8_u32(counters)); }
inline int32x4_t finish(Wide sums) { return vreinterpretq_s32_u32(vpaddlq_u16(sums)); }

// Bit i of the result: lane i of masks[i / 4], all ones or all zeros.
inline uint32_t mask_word(const uint32x4_t* masks) {
  const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  uint8x16_t bytes[2];
  for (int i = 0; i < 2; ++i) {
    const uint16x8_t low = vcombine_u16(vmovn_u32(masks[4 * i]), vmovn_u32(masks[4 * i + 1]));
    const uint16x8_t high = vcombine_u16(vmovn_u32(masks[4 * i + 2]), vmovn_u32(masks[4 * i + 3]));
    bytes[i] = vandq_u8(vcombine_u8(vmovn_u16(low), vmovn_u16(high)), vld1q_u8(weights));
  }
  // Three pairwise sums leave one byte for eight lanes.
  const uint8x8_t first = vpadd_u8(vget_low_u8(bytes[0]), vget_high_u8(bytes[0]));
  const uint8x8_t second = vpadd_u8(vget_low_u8(bytes[1]), vget_high_u8(bytes[1]));
  const uint8x8_t fours = vpadd_u8(first, second);
  const uint8x8_t eights = vpadd_u8(fours, fours);
  return vget_lane_u32(vreinterpret_u32_u8(eights), 0);
}

#if defined(__aarch64__)
inline uint32x4_t are_negative(float32x4_t x) { return vcleq_f32(x, vdupq_n_f32(kLargestNegative)); }
#else
// From kLargestNegative down to -∞ the bits rise from 0x80800000 to 0xff800000; NaN is above, all that is positive or 0
// is another distance away.  Floats are not compared: for 32-bit ARM, whose NEON flushes denormals, GCC 12 does that with
// scalars.
inline uint32x4_t are_negative(float32x4_t x) {
  const uint32x4_t first = vdupq_n_u32(0x80800000u), distance = vdupq_n_u32(0x7f000000u);
  return vcleq_u32(vsubq_u32(vreinterpretq_u32_f32(x), first), distance);
}
#endif

inline uint32_t sign_word(const float* x) {
  uint32x4_t masks[8];
  for (int i = 0; i < 8; ++i) masks[i] = are_negative(vld1q_f32(x + 4 * i));
  return mask_word(masks);
}

inline uint32_t greater_word(const int32_t* a, const int32_t* b) {
  uint32x4_t masks[8];
  for (int i = 0; i < 8; ++i) masks[i] = vcgtq_s32(vld1q_s32(a + 4 * i), vld1q_s32(b + 4 * i));
  return mask_word(masks);
}

constexpr int kFactors = 4;
#if defined(__aarch64__)
constexpr int kFloatVectors = 4;  // 20 sums, 5 vectors of factors, 4 of weights of 32 registers
constexpr int kFloatRows = 5;
inline float32x4_t add_product(float32x4_t sums, float32x4_t w, float32x4_t x) { return vfmaq_f32(sums, w, x); }
template <int kLane>
inline float32x4_t add_product_with(float32x4_t sums, float32x4_t w, float32x4_t factors) {
  return vfmaq_laneq_f32(sums, w, factors, kLane);
}
#else
constexpr int kFloatVectors = 2;  // 8 sums, 4 vectors of factors, 2 of weights of 16 registers
constexpr int kFloatRows = 4;
inline float32x4_t add_product(float32x4_t sums, float32x4_t w, float32x4_t x) { return vmlaq_f32(sums, w, x); }
template <int kLane>
inline float32x4_t add_product_with(float32x4_t sums, float32x4_t w, float32x4_t factors) {
  const float32x2_t half = kLane < 2 ? vget_low_f32(factors) : vget_high_f32(factors);
  return vmlaq_lane_f32(sums, w, half, kLane % 2);
}
#endif
inline float32x4_t larger(float32x4_t a, float32x4_t b) { return vmaxq_f32(a, b); }
inline float32x4_t smaller(float32x4_t a, float32x4_t b) { return vminq_f32(a, b); }
