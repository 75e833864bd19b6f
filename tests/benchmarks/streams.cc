// Streams of reads and writes whose traffic one can work out by hand, watched by benchmarks/watch_operators.c: one
// inference whose operators are the marks below.
//
//     streams BYTES    a buffer of so many bytes is read, read again, written, read; then a product of matrices
#include <stdlib.h>

#include "../../targets/runtime/marks.h"

namespace {

constexpr long kLine = 64;
constexpr long kSize = 48;  // of the matrices: tests/benchmarks/test_watched.py
alignas(kLine) char buffer[1 << 22];

struct Matrices {
  float a[kSize][kSize];
  float b[kSize][kSize];
  float c[kSize][kSize];
};
alignas(kLine) Matrices matrices;

void read(long bytes) {
  for (long i = 0; i < bytes; i += kLine) (void)*reinterpret_cast<volatile long*>(buffer + i);
}

void write(long bytes) {
  for (long i = 0; i < bytes; i += kLine) *reinterpret_cast<volatile long*>(buffer + i) = i;
}

void multiply() {
  for (long i = 0; i < kSize; ++i) {
    for (long j = 0; j < kSize; ++j) {
      float sum = 0;
      for (long k = 0; k < kSize; ++k) {
        sum += *const_cast<volatile float*>(&matrices.a[i][k]) * *const_cast<volatile float*>(&matrices.b[k][j]);
      }
      *const_cast<volatile float*>(&matrices.c[i][j]) = sum;
    }
  }
}

}  // namespace

int main(int, char** argv) {
  const long bytes = atol(argv[1]);
  bnncc::mark(bnncc::kBetweenOperators);
  bnncc::mark(0);
  read(bytes);
  bnncc::mark(1);
  read(bytes);
  bnncc::mark(2);
  write(bytes);
  bnncc::mark(3);
  read(bytes);
  bnncc::mark(4);
  multiply();
  bnncc::mark(bnncc::kInferenceEnds);
}
