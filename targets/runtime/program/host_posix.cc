// Linux, Android's too, and macOS.
#if !defined(_WIN32)
#include "host.h"

extern "C" {
struct timespec {
  long tv_sec;
  long tv_nsec;
};
int clock_gettime(int clock, timespec* time);
int dprintf(int file, const char* format, ...) __attribute__((format(printf, 2, 3)));
#if defined(__APPLE__)
int _NSGetExecutablePath(char* path, uint32_t* size);
#else
long readlink(const char* path, char* target, size_t size);
// Android alone has it.
int __system_property_get(const char* name, char* value) __attribute__((weak));
#endif
}

namespace bnncc::host {

#if defined(__APPLE__)

void program_path(char* path, size_t size) {
  uint32_t length = static_cast<uint32_t>(size);
  if (_NSGetExecutablePath(path, &length) != 0) path[0] = '\0';
}

#else

void program_path(char* path, size_t size) {
  const long length = readlink("/proc/self/exe", path, size - 1);
  path[length < 0 ? 0 : length] = '\0';
}

#endif

double seconds() {
#if defined(__APPLE__)
  constexpr int kMonotonic = 6;
#else
  constexpr int kMonotonic = 1;
#endif
  timespec now;
  clock_gettime(kMonotonic, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void device_name(char (&name)[kLongestName]) {
  snprintf(name, sizeof(name), "this machine");
#if !defined(__APPLE__)
  if (__system_property_get != nullptr) __system_property_get("ro.product.model", name);
#endif
}

void print_error(const char* text) { dprintf(2, "%s", text); }

}  // namespace bnncc::host
#endif
