// Denormal numbers count as 0 while operators run, as in TensorFlow Lite: they are slow, and LCE's signs depend on it.
#pragma once

#include "../libc.h"

namespace bnncc {

class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : mode_(__builtin_ia32_stmxcsr()) {
    constexpr unsigned kFlushesResults = 1u << 15;
    constexpr unsigned kFlushesInputs = 1u << 6;
    __builtin_ia32_ldmxcsr(static_cast<unsigned>(mode_) | kFlushesResults | kFlushesInputs);
  }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(static_cast<unsigned>(mode_)); }
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(mode_));
    asm volatile("msr fpcr, %0" : : "r"(mode_ | kFlushes));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(mode_)); }
#else
  FlushDenormals() {
    uint32_t mode = 0;
    asm volatile("vmrs %0, fpscr" : "=r"(mode));
    mode_ = mode;
    asm volatile("vmsr fpscr, %0" : : "r"(mode | static_cast<uint32_t>(kFlushes)));
  }
  ~FlushDenormals() { asm volatile("vmsr fpscr, %0" : : "r"(static_cast<uint32_t>(mode_))); }
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  static constexpr uint64_t kFlushes = 1u << 24;
  uint64_t mode_ = 0;
};

}  // namespace bnncc
