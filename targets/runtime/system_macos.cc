// macOS: POSIX threads, and the wait on an address that libc++ uses as well, which has been there since macOS 10.12.
#if defined(__APPLE__)
#include "system.h"

extern "C" {
int pthread_create(void** thread, const void* attributes, void* (*start)(void*), void* argument);
int pthread_join(void* thread, void** result);
int __ulock_wait(uint32_t operation, void* address, uint64_t value, uint32_t microseconds);
int __ulock_wake(uint32_t operation, void* address, uint64_t thread);
}

namespace bnncc::system {
namespace {

constexpr uint32_t kCompareAndWait = 1;
constexpr uint32_t kWakeAll = 0x100;
constexpr uint32_t kForEver = 0;

void* as_pointer(const uint32_t* address) { return const_cast<uint32_t*>(address); }

}  // namespace

bool start_thread(Thread* thread, ThreadResult (*work)(void*), void* argument) {
  void* handle = nullptr;
  if (pthread_create(&handle, nullptr, work, argument) != 0) return false;
  *thread = reinterpret_cast<Thread>(handle);
  return true;
}

void join_thread(Thread thread) { pthread_join(reinterpret_cast<void*>(thread), nullptr); }

void sleep_while(const uint32_t* address, uint32_t value) {
  __ulock_wait(kCompareAndWait, as_pointer(address), value, kForEver);
}

void wake_all(const uint32_t* address) { __ulock_wake(kCompareAndWait | kWakeAll, as_pointer(address), 0); }

unsigned long hardware_features() { return 0; }

}  // namespace bnncc::system
#endif
