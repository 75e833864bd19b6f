#include "planner.h"

#include "memory.h"

namespace bnncc {

int64_t plan(Block* blocks, int64_t count) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) {
    Block& block = blocks[i];
    if (block.size < 0 || block.size > kLargestSize) return -1;
    // Each clash moves the block behind the one it clashes with; offsets only grow, so this ends.
    int64_t offset = 0;
    bool is_free = false;
    while (!is_free) {
      is_free = true;
      for (int64_t j = 0; j < i; ++j) {
        const Block& other = blocks[j];
        const bool same_time = other.first <= block.last && block.first <= other.last;
        const bool same_place = other.offset < offset + block.size && offset < other.offset + other.size;
        if (!same_time || !same_place) continue;
        offset = round_up(other.offset + other.size, kAlignment);
        is_free = false;
      }
    }
    block.offset = offset;
    total = max(total, checked_sum(offset, block.size));
    if (offset > kLargestSize || total < 0 || checked_sum(offset, block.size) < 0) return -1;
  }
  return total;
}

}  // namespace bnncc
