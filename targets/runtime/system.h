// What the thread pool and the kernels ask of the operating system: threads, sleeping on a number, what the processor is.
// system_linux.cc, system_macos.cc and system_windows.cc are each empty on the systems of the others.
#pragma once

#include "libc.h"

namespace bnncc::system {

// What a thread's function returns, as the system's own type; its value is not looked at.
#if defined(_WIN32)
using ThreadResult = unsigned long;
#else
using ThreadResult = void*;
#endif

// A thread that was started; as wide as each system's own handle.
using Thread = uintptr_t;

// False where the system refuses.
bool start_thread(Thread* thread, ThreadResult (*work)(void*), void* argument);
void join_thread(Thread thread);

// Sleeps in the kernel while `*address` is `value`; may return early.
void sleep_while(const uint32_t* address, uint32_t value);
void wake_all(const uint32_t* address);

// HWCAP as Linux tells it on ARM: the processor's features.  0 elsewhere.
unsigned long hardware_features();

}  // namespace bnncc::system
