// What run.cc takes from Android's C library, declared here so that it builds without an NDK.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
void* malloc(size_t size);
void free(void* pointer);
void* memcpy(void* destination, const void* source, size_t size);
int memcmp(const void* a, const void* b, size_t size);
size_t strlen(const char* text);
int strcmp(const char* a, const char* b);
char* strstr(const char* text, const char* part);
char* strchr(const char* text, int letter);
char* strrchr(const char* text, int letter);
long strtol(const char* text, char** end, int base);
int printf(const char* format, ...) __attribute__((format(printf, 1, 2)));
int snprintf(char* text, size_t size, const char* format, ...) __attribute__((format(printf, 3, 4)));
int dprintf(int file, const char* format, ...) __attribute__((format(printf, 2, 3)));
int vdprintf(int file, const char* format, va_list arguments);
[[noreturn]] void exit(int status);
void qsort(void* items, size_t count, size_t size, int (*compare)(const void*, const void*));

struct FILE;
FILE* fopen(const char* path, const char* mode);
size_t fread(void* items, size_t size, size_t count, FILE* file);
int fseek(FILE* file, long offset, int whence);
long ftell(FILE* file);
int fclose(FILE* file);
long readlink(const char* path, char* target, size_t size);

struct timespec {
  long tv_sec;
  long tv_nsec;
};
int clock_gettime(int clock, timespec* time);

int __system_property_get(const char* name, char* value);

void* dlopen(const char* path, int flags);
void* dlsym(void* library, const char* name);
char* dlerror();
}
