// A nest of loops over the elements of up to four tensors at once, each with its own strides: broadcasting,
// transposing, slicing, padding.
//
// Axes of size 1 vanish and axes that are one behind the other in every tensor merge, so that most nests become one or
// two loops and the innermost one is long.
#pragma once

#include "../memory.h"
#include "../threads.h"

namespace bnncc {

// Who works on an operator; the pool may be null where the caller is alone.
class Team {
 public:
  Team(ThreadPool* pool, int threads) : pool_(pool), threads_(threads) {}

  int threads() const { return threads_; }

  // task(index, thread) for every index in [0, count), shared by the threads.
  template <typename Function>
  void run(int64_t count, const Function& task) const {
    if (threads_ == 1 || count == 1) {
      for (int64_t i = 0; i < count; ++i) task(i, 0);
      return;
    }
    pool_->run([](const void* f, int64_t index, int thread) { (*static_cast<const Function*>(f))(index, thread); },
               &task, count, threads_);
  }

 private:
  ThreadPool* pool_;
  int threads_;
};

class Loop {
 public:
  static constexpr int kMostOperands = 4;
  static constexpr int kMostAxes = 20;

  explicit Loop(int operands = 0) : operands_(operands) {}

  // Adds an axis inside those there are; a stride, in elements, for each operand.
  void add_axis(int64_t size, const int64_t (&strides)[kMostOperands]);

  // How far an operand moves with each element of the innermost loop, and how many elements that has.
  int64_t inner_stride(int operand) const { return axes_ == 0 ? 1 : strides_[axes_ - 1][operand]; }
  int64_t inner_size() const { return axes_ == 0 ? 1 : sizes_[axes_ - 1]; }

  Loop without_inner_axis() const {
    Loop outer = *this;
    outer.axes_ = max(axes_ - 1, 0);
    return outer;
  }

  // row(offsets, count) for every row, or part of a row: `offsets` of its first elements, `count` elements.
  template <typename Function>
  void run(const Team& team, const Function& row) const {
    const int64_t inner = inner_size();
    const int64_t rows = outer_size();
    if (rows == 1) {
      team.run(ceil_div(inner, kTaskElements), [&](int64_t task, int) {
        const int64_t begin = task * kTaskElements;
        int64_t offsets[kMostOperands];
        for (int k = 0; k < operands_; ++k) offsets[k] = begin * inner_stride(k);
        row(offsets, min(kTaskElements, inner - begin));
      });
      return;
    }
    const int64_t task_rows = max<int64_t>(1, kTaskElements / inner);
    team.run(ceil_div(rows, task_rows), [&](int64_t task, int) {
      const int64_t begin = task * task_rows;
      const int64_t end = min(begin + task_rows, rows);
      int64_t positions[kMostAxes];
      int64_t offsets[kMostOperands];
      locate(begin, positions, offsets);
      for (int64_t i = begin; i < end; ++i) {
        row(offsets, inner);
        advance(positions, offsets);
      }
    });
  }

 private:
  static constexpr int64_t kTaskElements = 16384;

  int64_t outer_size() const;
  void locate(int64_t row, int64_t* positions, int64_t* offsets) const;
  void advance(int64_t* positions, int64_t* offsets) const;

  int operands_ = 0;
  int axes_ = 0;
  int64_t sizes_[kMostAxes] = {};
  int64_t strides_[kMostAxes][kMostOperands] = {};
};

}  // namespace bnncc
