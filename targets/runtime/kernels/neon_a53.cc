// NEON, 64-bit, scheduled for the Cortex-A53, which starts instructions in order: an operation should not follow the
// one whose result it needs for a few cycles, so eight of a kind go together.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels.h"
#include "target.h"

BNNCC_TARGET_BEGIN("tune=cortex-a53")

namespace bnncc {
namespace neon_a53 {
namespace {

#include "neon.h"

constexpr int kBatch = 8;

// Empty instructions that take vectors and give them back; such instructions keep their order.
inline void in_order(Bits (&x)[8]) {
  asm volatile("" : "+w"(x[0]), "+w"(x[1]), "+w"(x[2]), "+w"(x[3]), "+w"(x[4]), "+w"(x[5]), "+w"(x[6]), "+w"(x[7]));
}
inline void in_order(Bits (&x)[6]) {
  asm volatile("" : "+w"(x[0]), "+w"(x[1]), "+w"(x[2]), "+w"(x[3]), "+w"(x[4]), "+w"(x[5]));
}
inline void in_order(Bits (&x)[4]) { asm volatile("" : "+w"(x[0]), "+w"(x[1]), "+w"(x[2]), "+w"(x[3])); }
inline void in_order(Bits& x, Bits& y) { asm volatile("" : "+w"(x), "+w"(y)); }

#include "neon_pairs.h"

#include "panels.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("neon-a53");

}  // namespace neon_a53
}  // namespace bnncc

BNNCC_TARGET_END

#endif
