#include "flatbuffer.h"

namespace bnncc {

FlatbufferTable::FlatbufferTable(const FlatbufferFile* file, uint64_t position) {
  if (!file->holds(position, sizeof(int32_t))) return;
  // The vtable may lie on either side of the table: a position below 0 becomes one beyond the end.
  const uint64_t vtable = position - static_cast<uint64_t>(int64_t{file->read<int32_t>(position)});
  constexpr uint64_t kVtableHeader = 4;
  if (!file->holds(vtable, kVtableHeader)) return;
  const uint64_t size = file->read<uint16_t>(vtable);
  if (!file->holds(vtable, size)) return;
  file_ = file;
  position_ = position;
  vtable_ = vtable;
  vtable_size_ = size;
}

FlatbufferTable FlatbufferTable::root(const FlatbufferFile& file, const char* identifier) {
  constexpr uint64_t kIdentifierSize = 4;
  if (!file.holds(4, kIdentifierSize) || memcmp(file.data() + 4, identifier, kIdentifierSize) != 0) return {};
  return {&file, file.read<uint32_t>(0)};
}

// The position of a field; 0 where it is absent.
uint64_t FlatbufferTable::find(int field) const {
  const uint64_t entry = 4 + 2 * static_cast<uint64_t>(field);
  if (file_ == nullptr || entry + 2 > vtable_size_) return 0;
  const uint64_t offset = file_->read<uint16_t>(vtable_ + entry);
  return offset == 0 ? 0 : position_ + offset;
}

// The position that a field refers to; 0 where it is absent.
uint64_t FlatbufferTable::follow(int field) const {
  const uint64_t position = find(field);
  return position == 0 ? 0 : position + file_->read<uint32_t>(position);
}

FlatbufferTable FlatbufferTable::table(int field) const {
  const uint64_t position = follow(field);
  return position == 0 ? FlatbufferTable() : FlatbufferTable(file_, position);
}

FlatbufferVector FlatbufferTable::vector(int field, uint64_t width) const {
  const uint64_t position = follow(field);
  if (position == 0) return {};
  const uint64_t count = file_->read<uint32_t>(position);
  if (!file_->holds(position, sizeof(uint32_t) + count * width)) return {};
  return {file_, position + sizeof(uint32_t), count};
}

const char* FlatbufferTable::text(int field) const {
  const FlatbufferVector letters = vector(field, 1);
  if (letters.file == nullptr) return nullptr;
  // A zero within the text only makes it shorter.
  if (!file_->holds(letters.begin, letters.count + 1) || file_->data()[letters.begin + letters.count] != 0) {
    return nullptr;
  }
  return reinterpret_cast<const char*>(file_->data() + letters.begin);
}

FlatbufferTable FlatbufferTable::element(const FlatbufferVector& vector, uint64_t index) {
  if (index >= vector.count) return {};
  const uint64_t position = vector.begin + index * sizeof(uint32_t);
  return {vector.file, position + vector.file->read<uint32_t>(position)};
}

}  // namespace bnncc
