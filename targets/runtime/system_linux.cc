// Linux, Android's too: POSIX threads, and futexes to sleep on.
#if defined(__linux__)
#include "system.h"

extern "C" {
long syscall(long number, ...);
int pthread_create(unsigned long* thread, const void* attributes, void* (*start)(void*), void* argument);
int pthread_join(unsigned long thread, void** result);
unsigned long getauxval(unsigned long type);
}

namespace bnncc::system {
namespace {

#if defined(__x86_64__)
constexpr long kSysFutex = 202;
#elif defined(__aarch64__)
constexpr long kSysFutex = 98;
#elif defined(__arm__)
constexpr long kSysFutex = 240;
#else
#error "the number of the futex system call on this architecture is not known"
#endif
constexpr int kFutexWaitPrivate = 128;
constexpr int kFutexWakePrivate = 129;
constexpr unsigned long kAtHwcap = 16;

}  // namespace

// pthread_t is one machine word on glibc, musl and bionic.
bool start_thread(Thread* thread, ThreadResult (*work)(void*), void* argument) {
  unsigned long handle = 0;
  if (pthread_create(&handle, nullptr, work, argument) != 0) return false;
  *thread = handle;
  return true;
}

void join_thread(Thread thread) { pthread_join(thread, nullptr); }

void sleep_while(const uint32_t* address, uint32_t value) {
  syscall(kSysFutex, address, kFutexWaitPrivate, value, nullptr, nullptr, 0);
}

void wake_all(const uint32_t* address) {
  syscall(kSysFutex, address, kFutexWakePrivate, INT32_MAX, nullptr, nullptr, 0);
}

unsigned long hardware_features() { return getauxval(kAtHwcap); }

}  // namespace bnncc::system
#endif
