// Which kernels the processor can run, asked of the processor (x86) or of the kernel (ARM).
#include "../libc.h"
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace bnncc {

namespace portable {
extern const Kernels kTable;
}

#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kTable;
}
namespace avx512 {
extern const Kernels kTable;
}
#elif defined(__aarch64__)
namespace neon_a53 {
extern const Kernels kTable;
}
namespace neon_a72 {
extern const Kernels kTable;
}
#elif defined(__arm__) && defined(__ARM_NEON)
namespace neon {
extern const Kernels kTable;
}
#endif

namespace {

constexpr int kMostKernels = 4;  // a null among them

#if defined(__x86_64__)

// Registers that the operating system saves, as XGETBV names them.
constexpr uint32_t kSavesAvx = 0x06;
constexpr uint32_t kSavesAvx512 = 0xe6;

struct X86Features {
  bool avx2 = false;
  bool avx512 = false;
};

X86Features x86_features() {
  X86Features found;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned kOsxsave = 1u << 27;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsxsave)) return found;
  uint32_t saved = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  constexpr unsigned kAvx2 = 1u << 5;
  constexpr unsigned kAvx512f = 1u << 16;
  constexpr unsigned kAvx512bw = 1u << 30;
  constexpr unsigned kAvx512vpopcntdq = 1u << 14;
  found.avx2 = (saved & kSavesAvx) == kSavesAvx && (b & kAvx2);
  found.avx512 = (saved & kSavesAvx512) == kSavesAvx512 && (b & kAvx512f) && (b & kAvx512bw) && (c & kAvx512vpopcntdq);
  return found;
}

#elif defined(__aarch64__)

// In-order cores of ARM, by the part number of MIDR_EL1, which Linux lets programs read where HWCAP says so.
bool is_in_order_core() {
  constexpr unsigned long kAtHwcap = 16;
  constexpr unsigned long kHwcapCpuid = 1ul << 11;
  if (!(getauxval(kAtHwcap) & kHwcapCpuid)) return false;
  uint64_t midr = 0;
  asm("mrs %0, MIDR_EL1" : "=r"(midr));
  const unsigned implementer = (midr >> 24) & 0xff;
  const unsigned part = (midr >> 4) & 0xfff;
  constexpr unsigned kArm = 0x41;
  constexpr unsigned kCortexA53 = 0xd03;
  constexpr unsigned kCortexA35 = 0xd04;
  constexpr unsigned kCortexA55 = 0xd05;
  return implementer == kArm && (part == kCortexA35 || part == kCortexA53 || part == kCortexA55);
}

#endif

}  // namespace

const Kernels* const* available_kernels() {
  // Written with the same values by whoever comes first: no lock is needed.
  static const Kernels* available[kMostKernels] = {};
  int size = 0;
#if defined(__x86_64__)
  const X86Features features = x86_features();
  if (features.avx512) available[size++] = &avx512::kTable;
  if (features.avx2) available[size++] = &avx2::kTable;
#elif defined(__aarch64__)
  const bool in_order = is_in_order_core();
  available[size++] = in_order ? &neon_a53::kTable : &neon_a72::kTable;
  available[size++] = in_order ? &neon_a72::kTable : &neon_a53::kTable;
#elif defined(__arm__) && defined(__ARM_NEON)
  constexpr unsigned long kAtHwcap = 16;
  constexpr unsigned long kHwcapNeon = 1ul << 12;
  if (getauxval(kAtHwcap) & kHwcapNeon) available[size++] = &neon::kTable;
#endif
  available[size++] = &portable::kTable;
  return available;
}

const Kernels* find_kernels(const char* name) {
  for (const Kernels* const* kernels = available_kernels(); *kernels != nullptr; ++kernels) {
    if (strcmp((*kernels)->name, name) == 0) return *kernels;
  }
  return nullptr;
}

}  // namespace bnncc
