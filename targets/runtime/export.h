// What a function is declared with that the shared library offers.
#pragma once

#if defined(_WIN32)
#define BNNCC_EXPORT extern "C" __declspec(dllexport)
#else
#define BNNCC_EXPORT extern "C" __attribute__((visibility("default")))
#endif
