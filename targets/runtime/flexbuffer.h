// Reads a FlexBuffer map of integers, the form of LCE's operator options, without trusting a byte of it.
//
// Layout, from the end of the buffer: one byte w, the width of the root; one byte (type << 2 | log2 of a width), the
// root's packed type; before them the root itself, w bytes: for a map, how far back the map's values begin.  All
// numbers are little-endian.  Around the first value v0 of a map whose own width is m:
//
//   v0 - 3m: distance back to the keys' first entry   v0 - 2m: width k of the keys' entries   v0 - m: number n
//   v0 + i·m: value i (an integer in place, or the distance back to it)   v0 + n·m + i: packed type of value i
//   key i: a distance at keys + i·k, back to a NUL-terminated string
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace bnncc {

class FlexbufferMap {
 public:
  enum class Lookup { kFound, kMissing, kNotAnInteger };

  // False where `data` holds no well-formed map.  The bytes must outlive the map.
  bool parse(const uint8_t* data, size_t size);

  Lookup find(const char* key, int64_t* value) const;

 private:
  bool read(uint64_t position, uint64_t width, uint64_t* value) const;
  bool follow(uint64_t position, uint64_t width, uint64_t* target) const;
  bool key_equals(uint64_t position, const char* key) const;

  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  uint64_t values_ = 0;
  uint64_t value_width_ = 0;
  uint64_t keys_ = 0;
  uint64_t key_width_ = 0;
  uint64_t count_ = 0;
};

}  // namespace bnncc
