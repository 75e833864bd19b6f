// Products of 8-bit integers by every table of kernels that this processor has,
// beside sums one by one.
//
// Prints the names of the tables, and what differs first.  native.py makes it a part of the interpreter's library; as a
// program it runs on other machines.
#include <stdint.h>
#include <stdio.h>

#include "../../../targets/runtime/integer_matrix.h"

namespace {

using bnncc::FixedPoint;
using bnncc::Rounding;

uint64_t state = 1;

// Knuth's generator of 64 bits; its upper ones.
int64_t draw(int64_t least, int64_t most) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return least + static_cast<int64_t>((state >> 33) %
                                      static_cast<uint64_t>(most - least + 1));
}

struct Case {
  int64_t rows;
  int64_t depth;
  int64_t outputs;
  int32_t zero_point;
  Rounding rounding;
  bool is_extreme; // all numbers are the largest, of either sign
};

bool passes(const bnncc::Kernels *kernels, const Case &c) {
  bnncc::Array<int8_t> x, w, y;
  bnncc::Array<int32_t> bias;
  bnncc::Array<FixedPoint> factors;
  if (!x.allocate(c.rows * c.depth) || !w.allocate(c.outputs * c.depth) ||
      !y.allocate(c.rows * c.outputs))
    return false;
  if (!bias.allocate(c.outputs) || !factors.allocate(c.outputs))
    return false;
  for (int8_t &q : x)
    q = static_cast<int8_t>(c.is_extreme ? -128 : draw(-128, 127));
  for (int8_t &q : w)
    q = static_cast<int8_t>(c.is_extreme ? 127 - 254 * draw(0, 1)
                                         : draw(-127, 127));
  for (int64_t o = 0; o < c.outputs; ++o) {
    bias[o] = static_cast<int32_t>(draw(-20000, 20000));
    // Factors from 2^-12 to 4, and such that a product lies on a tie.
    const double factor =
        o % 3 == 0 ? 1.0 / static_cast<double>(int64_t{1} << draw(0, 9))
                   : 4.0 / static_cast<double>(draw(1, 16384));
    if (!to_fixed_point(factor, &factors[o]))
      return false;
  }
  bnncc::IntegerOutput output;
  output.zero_point = static_cast<int32_t>(draw(-128, 127));
  output.least = static_cast<int32_t>(draw(-128, -100));
  output.rounding = c.rounding;
  bnncc::IntegerMatrix matrix;
  const auto weight = [&](int64_t o, int64_t k) { return w[o * c.depth + k]; };
  if (!matrix.pack(
          kernels, c.outputs, c.depth, c.zero_point, weight,
          [&](int64_t o) { return bias[o]; },
          [&](int64_t o) { return factors[o]; }, output)) {
    return false;
  }
  bnncc::Array<char> rows;
  if (!rows.allocate(c.rows * matrix.row_bytes()))
    return false;
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t k = 0; k < c.depth; ++k) {
      const int64_t place = r * matrix.row_numbers() + k;
      if (matrix.is_wide()) {
        reinterpret_cast<int16_t *>(rows.data())[place] = x[r * c.depth + k];
      } else {
        reinterpret_cast<int8_t *>(rows.data())[place] = x[r * c.depth + k];
      }
    }
  }
  matrix.multiply(rows.data(), c.rows, 0, matrix.panels(), y.data());
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t o = 0; o < c.outputs; ++o) {
      int64_t sum = bias[o];
      for (int64_t k = 0; k < c.depth; ++k)
        sum += (x[r * c.depth + k] - c.zero_point) * weight(o, k);
      const int32_t scaled =
          bnncc::scaled(static_cast<int32_t>(sum), factors[o], c.rounding) +
          output.zero_point;
      const int32_t wanted = scaled < output.least  ? output.least
                             : scaled > output.most ? output.most
                                                    : scaled;
      if (y[r * c.outputs + o] == wanted)
        continue;
      printf("%s: row %lld, output %lld: %d instead of %d\n", kernels->name,
             static_cast<long long>(r), static_cast<long long>(o),
             y[r * c.outputs + o], wanted);
      return false;
    }
  }
  return true;
}

} // namespace

// How many tables are right, -1 where a number differs.
extern "C" __attribute__((visibility("default"))) int bnncc_check_integer_kernels() {
  int count = 0;
  for (const bnncc::Kernels* const* kernels = bnncc::available_kernels(); *kernels != nullptr; ++kernels, ++count) {
    printf("%s\n", (*kernels)->name);
    for (int i = 0; i < 150; ++i) {
      const Case c = {draw(1, 21),
                      draw(1, i % 2 ? 40 : 300),
                      draw(1, 90),
                      static_cast<int32_t>(draw(-128, 127)),
                      i % 3 == 0 ? Rounding::kOnce : Rounding::kTwice,
                      i % 10 == 0};
      if (!passes(*kernels, c)) return -1;
    }
  }
  return count;
}

int main() { return bnncc_check_integer_kernels() < 0; }
