// What requantize.h asks of NEON, and how a row's outputs are stored.
#pragma once

#include "requantize.h"

// The rounding shift's ties go upwards: a negative number is made less by 1 before.
inline Ints scaled_twice(Ints x, Ints multiplier, Ints right) {
  const int32x4_t high = vqrdmulhq_s32(x, multiplier);
  return vrshlq_s32(vsraq_n_s32(high, high, 31), vnegq_s32(right));
}

inline Ints scaled_any(Ints x, const Factors& factors) {
  const int32x4_t shifted = vshlq_s32(x, factors.left), left = vnegq_s32(factors.right);
  const int32x4_t high = vbslq_s32(vreinterpretq_u32_s32(factors.rounds), vqrdmulhq_s32(shifted, factors.multiplier),
                                   vqdmulhq_s32(shifted, factors.multiplier));
  const int32x4_t less = vshrq_n_s32(vandq_s32(vandq_s32(high, left), factors.away), 31);
  return vrshlq_s32(vqaddq_s32(high, less), left);
}

// What does not fit into 16 bits is beyond the bounds, whatever the zero point is.
inline void store_bytes(const Ints (&x)[kIntegerVectors], const Requantization& requantization, int8_t* y) {
  const int16x8_t zero_point = vdupq_n_s16(static_cast<int16_t>(requantization.zero_point));
  const int8x8_t least = vdup_n_s8(static_cast<int8_t>(requantization.least));
  const int8x8_t most = vdup_n_s8(static_cast<int8_t>(requantization.most));
#pragma GCC unroll 2
  for (int v = 0; v < kIntegerVectors; v += 2) {
    const int16x8_t wide = vqaddq_s16(vcombine_s16(vqmovn_s32(x[v]), vqmovn_s32(x[v + 1])), zero_point);
    vst1_s8(y + v * kLanes, vmin_s8(vmax_s8(vqmovn_s16(wide), least), most));
  }
}

inline void store_nearest(const Ints (&x)[kIntegerVectors], int32_t zero_point, int8_t* y) {
  const int16x8_t point = vdupq_n_s16(static_cast<int16_t>(zero_point));
#pragma GCC unroll 2
  for (int v = 0; v < kIntegerVectors; v += 2) {
    vst1_s8(y + v * kLanes, vqmovn_s16(vqaddq_s16(vcombine_s16(vqmovn_s32(x[v]), vqmovn_s32(x[v + 1])), point)));
  }
}

inline void store_nearest(const Ints (&x)[kIntegerVectors], int16_t* y) {
#pragma GCC unroll 4
  for (int v = 0; v < kIntegerVectors; ++v) vst1_s16(y + v * kLanes, vqmovn_s32(x[v]));
}

inline void load_bytes(const int8_t* x, Ints (&y)[kIntegerVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kIntegerVectors; v += 2) {
    const int16x8_t wide = vmovl_s8(vld1_s8(x + v * kLanes));
    y[v] = vmovl_s16(vget_low_s16(wide));
    y[v + 1] = vmovl_s16(vget_high_s16(wide));
  }
}

#if defined(__aarch64__)
inline Ints nearest_integers(Floats x, Floats, Floats) { return vcvtaq_s32_f32(x); }
#else
#include "nearest_integers.h"
#endif
