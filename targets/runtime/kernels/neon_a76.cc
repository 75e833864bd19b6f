// The same as for the Cortex-A72, but for products of 8-bit integers: the Cortex-A76 and later cores have dot products.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels.h"
#include "target.h"

#if defined(__clang__)
#define BNNCC_ALLOW_DOTS
#if __clang_major__ < 16  // knows no tuning, and would ignore the whole
BNNCC_TARGET_BEGIN("dotprod")
#else
BNNCC_TARGET_BEGIN("dotprod,tune=cortex-a72")
#endif
#else
#define BNNCC_ALLOW_DOTS ".arch armv8.2-a+dotprod\n\t"
BNNCC_TARGET_BEGIN("tune=cortex-a72")
#endif

namespace bnncc {
namespace neon_a76 {
namespace {

#include "neon.h"

#include "compiler_schedule.h"

#include "neon_dots.h"

#include "panels.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("neon-a76");

}  // namespace neon_a76
}  // namespace bnncc

BNNCC_TARGET_END

#endif
