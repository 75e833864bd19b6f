// Vectors of kLanes floats and integers, from and to memory; included by outputs.h.
#pragma once

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef float UnalignedFloats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int16_t ShortInts __attribute__((vector_size(kLanes * 2)));
typedef int32_t UnalignedInts __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int16_t UnalignedShortInts __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

inline Floats load_floats(const float* x) { return *reinterpret_cast<const UnalignedFloats*>(x); }
inline Ints load_ints(const int32_t* x) { return *reinterpret_cast<const UnalignedInts*>(x); }
inline void store(Floats value, float* y) { *reinterpret_cast<UnalignedFloats*>(y) = value; }
inline void store(Ints value, int32_t* y) { *reinterpret_cast<UnalignedInts*>(y) = value; }

// The first `size` lanes only.  Rare, and so not inlined.
template <typename Vector, typename T>
__attribute__((noinline)) void store_some(Vector value, T* y, int64_t size) {
  alignas(kLanes * 4) T lanes[kLanes];
  store(value, lanes);
  for (int64_t i = 0; i < size; ++i) y[i] = lanes[i];
}
