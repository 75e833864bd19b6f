// Tells a watcher of the program which operator of the file runs from here on: benchmarks/watch_operators.c, which counts
// instructions and cache misses of an emulated processor.  Without BNNCC_MARKS, with which benchmarks/watched.py compiles,
// a mark is nothing.
#pragma once

namespace bnncc {

// Marks that are no operator's: what the interpreter does between them, and the end of an inference.
constexpr long kBetweenOperators = -1;
constexpr long kInferenceEnds = -2;

}  // namespace bnncc

#if defined(BNNCC_MARKS)

extern "C" long syscall(long number, ...);

namespace bnncc {

// getppid takes no argument: what it is given is seen by the watcher alone.
inline void mark(long op) {
#if defined(__aarch64__)
  constexpr long kGetppid = 173;
#elif defined(__arm__)
  constexpr long kGetppid = 64;
#else
#error "marks are for ARM"
#endif
  syscall(kGetppid, op);
}

}  // namespace bnncc

#else

namespace bnncc {

inline void mark(long) {}

}  // namespace bnncc

#endif
