// Places blocks of memory so that those that live at the same time do not overlap.
#pragma once

#include <stdint.h>

namespace bnncc {

// A block of `size` bytes that lives from step `first` to step `last`; `plan` finds its offset.
struct Block {
  int first = 0;
  int last = 0;
  int64_t size = 0;
  int64_t offset = 0;
};

// Puts every block, in order, at the lowest offset that is free while it lives; offsets are multiples of kAlignment.
// Returns the bytes needed in all, or -1 where they are too many.
int64_t plan(Block* blocks, int64_t count);

}  // namespace bnncc
