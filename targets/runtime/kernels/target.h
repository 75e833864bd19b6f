// Compile what follows for more than the baseline instruction set: BNNCC_TARGET_BEGIN("avx2") … BNNCC_TARGET_END.
//
// So one compiler call with the same flags for every file builds the library.
#pragma once

#define BNNCC_PRAGMA(text) _Pragma(#text)

#if defined(__clang__)
#define BNNCC_TARGET_BEGIN(features) \
  BNNCC_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define BNNCC_TARGET_END _Pragma("clang attribute pop")
#else
#define BNNCC_TARGET_BEGIN(features) _Pragma("GCC push_options") BNNCC_PRAGMA(GCC target(features))
#define BNNCC_TARGET_END _Pragma("GCC pop_options")
#endif
