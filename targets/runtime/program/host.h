// What the program asks of the operating system; host_posix.cc and host_windows.cc are each empty on the other's.
#pragma once

#include "libc.h"

namespace bnncc::host {

// PROP_VALUE_MAX of Android, the longest name of a device.
constexpr size_t kLongestName = 92;

// Writes the path of this program, and a zero, to `path`; what does not fit is cut off.
void program_path(char* path, size_t size);

// Of a clock that only goes forward.
double seconds();

// Writes what the device calls itself, as Android does, or "this machine".
void device_name(char (&name)[kLongestName]);

// Writes to the standard error.
void print_error(const char* text);

}  // namespace bnncc::host
