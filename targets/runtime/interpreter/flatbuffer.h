// Reads a FlatBuffer without trusting a byte of it.
//
// Layout: all numbers little-endian.  The first four bytes say where the root table begins.  A table begins with how
// far back its vtable lies; the vtable is uint16s: its own size, the table's size, and for field i, at 4 + 2·i, how far
// behind the table's begin the field lies (0, or beyond the vtable's end: absent).  A field is a number in place, or
// the distance to a table, a vector (a uint32 count, then the elements) or a string (a vector of bytes with a zero
// behind).
//
// What is malformed reads as absent, and the file remembers it: a reader asks `is_damaged` once, at its end.
#pragma once

#include "../libc.h"

namespace bnncc {

class FlatbufferFile {
 public:
  FlatbufferFile() = default;
  FlatbufferFile(const void* data, size_t size) : data_(static_cast<const uint8_t*>(data)), size_(size) {}

  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  bool is_damaged() const { return is_damaged_; }

  // Whether bytes [begin, begin + size) exist; if not the file is damaged.
  bool holds(uint64_t begin, uint64_t size) const {
    if (begin <= size_ && size <= size_ - begin) return true;
    is_damaged_ = true;
    return false;
  }

  // The number at a position; 0 where it does not exist.
  template <typename T>
  T read(uint64_t position) const {
    T value = 0;
    if (holds(position, sizeof(T))) memcpy(&value, data_ + position, sizeof(T));
    return value;
  }

 private:
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  mutable bool is_damaged_ = false;
};

// A vector; empty where it is absent.  Elements of `width` bytes lie from `begin` on.
struct FlatbufferVector {
  const FlatbufferFile* file = nullptr;
  uint64_t begin = 0;
  uint64_t count = 0;

  template <typename T>
  T at(uint64_t index) const {
    return file->read<T>(begin + index * sizeof(T));
  }
};

class FlatbufferTable {
 public:
  FlatbufferTable() = default;

  // The root of the file, absent where the file identifier is another.
  static FlatbufferTable root(const FlatbufferFile& file, const char* identifier);

  bool is_present() const { return file_ != nullptr; }

  template <typename T>
  T number(int field, T missing) const {
    const uint64_t position = find(field);
    return position == 0 ? missing : file_->read<T>(position);
  }

  FlatbufferTable table(int field) const;

  // A vector of elements of so many bytes.
  FlatbufferVector vector(int field, uint64_t width) const;

  // Null where it is absent; a zero ends it.
  const char* text(int field) const;

  // The table that element `index` of a vector of tables refers to.
  static FlatbufferTable element(const FlatbufferVector& vector, uint64_t index);

 private:
  FlatbufferTable(const FlatbufferFile* file, uint64_t position);

  uint64_t find(int field) const;
  uint64_t follow(int field) const;

  const FlatbufferFile* file_ = nullptr;
  uint64_t position_ = 0;
  uint64_t vtable_ = 0;
  uint64_t vtable_size_ = 0;
};

}  // namespace bnncc
