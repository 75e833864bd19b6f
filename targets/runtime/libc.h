// Everything the delegate takes from the C library, declared here so that it builds without any system header.  What it
// takes from the operating system is in system.h.
#pragma once

#include <stddef.h>
#include <stdint.h>

extern "C" {
void* malloc(size_t size);
void free(void* pointer);
void* memcpy(void* destination, const void* source, size_t size);
void* memset(void* destination, int byte, size_t size);
int memcmp(const void* a, const void* b, size_t size);
size_t strlen(const char* text);
int strcmp(const char* a, const char* b);
}
