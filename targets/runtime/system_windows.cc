// Windows 8 and later: the API's threads, and its wait on an address.
#if defined(_WIN32)
#include "system.h"

extern "C" {
__declspec(dllimport) void* CreateThread(void* security, size_t stack, unsigned long (*start)(void*), void* argument,
                                         unsigned long flags, unsigned long* identifier);
__declspec(dllimport) unsigned long WaitForSingleObject(void* handle, unsigned long milliseconds);
__declspec(dllimport) int CloseHandle(void* handle);
__declspec(dllimport) int WaitOnAddress(const volatile void* address, const void* value, size_t size,
                                        unsigned long milliseconds);
__declspec(dllimport) void WakeByAddressAll(const void* address);
}

namespace bnncc::system {
namespace {

constexpr unsigned long kForEver = 0xffffffff;

}  // namespace

bool start_thread(Thread* thread, ThreadResult (*work)(void*), void* argument) {
  void* const handle = CreateThread(nullptr, 0, work, argument, 0, nullptr);
  *thread = reinterpret_cast<Thread>(handle);
  return handle != nullptr;
}

void join_thread(Thread thread) {
  void* const handle = reinterpret_cast<void*>(thread);
  WaitForSingleObject(handle, kForEver);
  CloseHandle(handle);
}

void sleep_while(const uint32_t* address, uint32_t value) { WaitOnAddress(address, &value, sizeof(value), kForEver); }

void wake_all(const uint32_t* address) { WakeByAddressAll(address); }

unsigned long hardware_features() { return 0; }

}  // namespace bnncc::system
#endif
