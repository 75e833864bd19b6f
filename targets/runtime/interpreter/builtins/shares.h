// How the threads of a team share a product of matrices: blocks of its rows, or output pixels, and where these are too
// few, parts of the outputs' panels of each.
#pragma once

#include "../builtin.h"

namespace bnncc {

class Shares {
 public:
  // So many rows, at most `block` of them at a time: every thread gets work.
  void plan(const Team& team, int64_t rows, int64_t block, int64_t panels) {
    rows_ = rows;
    block_ = block;
    panels_ = panels;
    parts_ = min(panels, ceil_div(team.threads(), ceil_div(rows, block)));
  }

  // Calls share(begin, end, first, last, thread) for rows [begin, end) and panels [first, last).
  template <typename Function>
  void run(const Team& team, const Function& share) const {
    team.run(ceil_div(rows_, block_) * parts_, [&](int64_t task, int thread) {
      const int64_t begin = task / parts_ * block_;
      const int64_t part = task % parts_;
      share(begin, min(begin + block_, rows_), panels_ * part / parts_, panels_ * (part + 1) / parts_, thread);
    });
  }

 private:
  int64_t rows_ = 0;
  int64_t block_ = 0;
  int64_t panels_ = 0;
  int64_t parts_ = 1;
};

}  // namespace bnncc
