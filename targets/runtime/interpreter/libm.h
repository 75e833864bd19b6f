// Everything the interpreter takes from the C library beside what the delegate does, declared here as there (libc.h).
#pragma once

#include <stdarg.h>

#include "../libc.h"

extern "C" {
int vsnprintf(char* text, size_t size, const char* format, va_list arguments);

float ceilf(float x);
float cosf(float x);
float erfcf(float x);
float expf(float x);
float expm1f(float x);
float floorf(float x);
float fmodf(float x, float y);
float logf(float x);
float powf(float x, float y);
float rintf(float x);
float sinf(float x);
float sqrtf(float x);
float tanhf(float x);
}
