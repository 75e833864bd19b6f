#if defined(_WIN32)
#include "host.h"

extern "C" {
__declspec(dllimport) unsigned long GetModuleFileNameA(void* module, char* path, unsigned long size);
__declspec(dllimport) int QueryPerformanceCounter(int64_t* count);
__declspec(dllimport) int QueryPerformanceFrequency(int64_t* frequency);
int _write(int file, const void* bytes, unsigned size);
}

namespace bnncc::host {

void program_path(char* path, size_t size) {
  path[GetModuleFileNameA(nullptr, path, static_cast<unsigned long>(size - 1))] = '\0';
  for (char* at = path; *at != '\0'; ++at) {
    if (*at == '\\') *at = '/';  // which Windows takes as well
  }
}

double seconds() {
  int64_t count = 0;
  int64_t frequency = 1;
  QueryPerformanceCounter(&count);
  QueryPerformanceFrequency(&frequency);
  return static_cast<double>(count) / static_cast<double>(frequency);
}

void device_name(char (&name)[kLongestName]) { snprintf(name, sizeof(name), "this machine"); }

void print_error(const char* text) { _write(2, text, static_cast<unsigned>(strlen(text))); }

}  // namespace bnncc::host
#endif
