// Everything the delegate takes from the C library, declared here so that it builds without any system header.
//
// The declarations hold on glibc (2.17 and later), musl and Android's bionic: pthread_t is one machine word on each.
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
long syscall(long number, ...);
int pthread_create(unsigned long* thread, const void* attributes, void* (*start)(void*), void* argument);
int pthread_join(unsigned long thread, void** result);
unsigned long getauxval(unsigned long type);
}
