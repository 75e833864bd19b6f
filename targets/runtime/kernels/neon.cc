// NEON with the compiler's own schedule, for 32-bit ARM.
#if defined(__arm__) && defined(__ARM_NEON)

#include <arm_neon.h>

#include "kernels.h"

namespace bnncc {
namespace neon {
namespace {

#include "neon.h"

#include "compiler_schedule.h"

#include "neon_pairs.h"

#include "panels.h"

#include "body.h"

}  // namespace

extern const Kernels kTable;
const Kernels kTable = table("neon");

}  // namespace neon
}  // namespace bnncc

#endif
