// What the program takes from the C library beside what the interpreter does, declared here as there (../libc.h): so it
// builds for Android without an NDK.  What it takes from the operating system is in host.h.
#pragma once

#include "../interpreter/libm.h"

extern "C" {
char* strstr(const char* text, const char* part);
char* strchr(const char* text, int letter);
char* strrchr(const char* text, int letter);
long strtol(const char* text, char** end, int base);
int printf(const char* format, ...) __attribute__((format(printf, 1, 2)));
int snprintf(char* text, size_t size, const char* format, ...) __attribute__((format(printf, 3, 4)));
[[noreturn]] void exit(int status);
void qsort(void* items, size_t count, size_t size, int (*compare)(const void*, const void*));

struct FILE;
FILE* fopen(const char* path, const char* mode);
size_t fread(void* items, size_t size, size_t count, FILE* file);
int fseek(FILE* file, long offset, int whence);
long ftell(FILE* file);
int fclose(FILE* file);
}
