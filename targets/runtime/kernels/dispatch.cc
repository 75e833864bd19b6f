// Which kernels the processor can run, asked of the processor (x86) or of the kernel (ARM).
#include "../system.h"
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
namespace neon_a76 {
extern const Kernels kTable;
}
#elif defined(__arm__) && defined(__ARM_NEON)
namespace neon {
extern const Kernels kTable;
}
#endif

namespace {

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
  constexpr unsigned kFma = 1u << 12;
  const bool has_fma = c & kFma;
  uint32_t saved = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  constexpr unsigned kAvx2 = 1u << 5;
  constexpr unsigned kAvx512f = 1u << 16;
  constexpr unsigned kAvx512bw = 1u << 30;
  constexpr unsigned kAvx512vnni = 1u << 11;
  constexpr unsigned kAvx512vpopcntdq = 1u << 14;
  found.avx2 = (saved & kSavesAvx) == kSavesAvx && (b & kAvx2) && has_fma;
  found.avx512 = (saved & kSavesAvx512) == kSavesAvx512 && (b & kAvx512f) && (b & kAvx512bw) && (c & kAvx512vnni) &&
                 (c & kAvx512vpopcntdq);
  return found;
}

#elif defined(__aarch64__)

// What is known of a core of ARM.
struct Core {
  unsigned part;  // its number in MIDR_EL1
  bool is_in_order;
  int64_t second_level_cache;  // bytes; 0 where that differs from chip to chip
  bool shares_cache;           // with the other cores
};

// Caches: those of Raspberry Pi's boards, by Linux's device trees (bcm2837.dtsi, bcm2711.dtsi, bcm2712.dtsi).
constexpr Core kCores[] = {{0xd03, true, 512 * 1024, true},     // Cortex-A53
                           {0xd04, true, 0, true},              // Cortex-A35
                           {0xd05, true, 0, false},             // Cortex-A55
                           {0xd08, false, 1024 * 1024, true},   // Cortex-A72
                           {0xd0b, false, 512 * 1024, false}};  // Cortex-A76
constexpr Core kUnknownCore = {0, false, 0, false};

// By MIDR_EL1, which Linux lets programs read where HWCAP says so.
Core find_core() {
  constexpr unsigned long kHwcapCpuid = 1ul << 11;
  if (!(system::hardware_features() & kHwcapCpuid)) return kUnknownCore;
  uint64_t midr = 0;
  asm("mrs %0, MIDR_EL1" : "=r"(midr));
  const unsigned implementer = (midr >> 24) & 0xff;
  const unsigned part = (midr >> 4) & 0xfff;
  constexpr unsigned kArm = 0x41;
  for (const Core& core : kCores) {
    if (implementer == kArm && part == core.part) return core;
  }
  return kUnknownCore;
}

#endif

}  // namespace

// Constant lists: threads may ask at once, and before any constructor has run.
const Kernels* const* available_kernels() {
#if defined(__x86_64__)
  static const Kernels* const kKernels[] = {&avx512::kTable, &avx2::kTable, &portable::kTable, nullptr};
  const X86Features features = x86_features();
  if (!features.avx2) return kKernels + 2;
  return features.avx512 ? kKernels : kKernels + 1;
#elif defined(__aarch64__)
  static const Kernels* const kInOrder[] = {&neon_a53::kTable, &neon_a72::kTable, &portable::kTable, nullptr};
  static const Kernels* const kOutOfOrder[] = {&neon_a72::kTable, &neon_a53::kTable, &portable::kTable, nullptr};
  static const Kernels* const kWithDots[] = {&neon_a76::kTable, &neon_a72::kTable, &neon_a53::kTable,
                                             &portable::kTable, nullptr};
  constexpr unsigned long kHwcapDotProduct = 1ul << 20;
  if (find_core().is_in_order) return kInOrder;
  return system::hardware_features() & kHwcapDotProduct ? kWithDots : kOutOfOrder;
#elif defined(__arm__) && defined(__ARM_NEON)
  static const Kernels* const kKernels[] = {&neon::kTable, &portable::kTable, nullptr};
  constexpr unsigned long kHwcapNeon = 1ul << 12;
  return system::hardware_features() & kHwcapNeon ? kKernels : kKernels + 1;
#else
  static const Kernels* const kKernels[] = {&portable::kTable, nullptr};
  return kKernels;
#endif
}

int64_t second_level_cache([[maybe_unused]] int threads) {
  constexpr int64_t kSmallestCache = 256 * 1024;
  int64_t cache = 0;
#if defined(__x86_64__)
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned kCaches = 0x80000006;  // Intel's processors answer as AMD's do: the size in kB, in bits 16 to 31
  if (__get_cpuid(kCaches, &a, &b, &c, &d)) cache = int64_t{c >> 16} * 1024;
#elif defined(__aarch64__)
  const Core core = find_core();
  cache = core.second_level_cache / (core.shares_cache ? threads : 1);
#endif
  return cache > kSmallestCache ? cache : kSmallestCache;
}

const Kernels* find_kernels(const char* name) {
  for (const Kernels* const* kernels = available_kernels(); *kernels != nullptr; ++kernels) {
    if (strcmp((*kernels)->name, name) == 0) return *kernels;
  }
  return nullptr;
}

}  // namespace bnncc
