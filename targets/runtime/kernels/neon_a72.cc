// NEON, 64-bit, scheduled for the Cortex-A72 and larger cores (out of order).
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels.h"
#include "target.h"

BNNCC_TARGET_BEGIN("tune=cortex-a72")

namespace bnncc {
namespace neon_a72 {
namespace {

#include "neon.h"

#include "compiler_schedule.h"

#include "neon_pairs.h"

#include "panels.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("neon-a72");

}  // namespace neon_a72
}  // namespace bnncc

BNNCC_TARGET_END

#endif
