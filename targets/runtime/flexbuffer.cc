#include "flexbuffer.h"

namespace bnncc {
namespace {

enum FlexType : unsigned { kInt = 1, kUint = 2, kIndirectInt = 6, kIndirectUint = 7, kMap = 9, kFlexBool = 26 };

constexpr unsigned kTypeShift = 2;
constexpr unsigned kWidthMask = 3;

bool is_width(uint64_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }

// The two's complement value of the low `width` bytes.
int64_t sign_extended(uint64_t value, uint64_t width) {
  const unsigned shift = static_cast<unsigned>(64 - 8 * width);
  return static_cast<int64_t>(value << shift) >> shift;
}

}  // namespace

bool FlexbufferMap::read(uint64_t position, uint64_t width, uint64_t* value) const {
  if (position > size_ || width > size_ - position) return false;
  uint64_t result = 0;
  for (uint64_t i = 0; i < width; ++i) result |= uint64_t{data_[position + i]} << (8 * i);
  *value = result;
  return true;
}

bool FlexbufferMap::follow(uint64_t position, uint64_t width, uint64_t* target) const {
  uint64_t distance = 0;
  if (!read(position, width, &distance) || distance > position) return false;
  *target = position - distance;
  return true;
}

bool FlexbufferMap::key_equals(uint64_t position, const char* key) const {
  for (; position < size_; ++position, ++key) {
    if (data_[position] != static_cast<uint8_t>(*key)) return false;
    if (*key == '\0') return true;
  }
  return false;
}

bool FlexbufferMap::parse(const uint8_t* data, size_t size) {
  constexpr uint64_t kTrailer = 2;
  data_ = data;
  size_ = size;
  count_ = 0;
  if (data == nullptr || size < kTrailer) return false;
  const uint64_t root_width = data[size - 1];
  const unsigned root_type = data[size - 2];
  if (!is_width(root_width) || root_type >> kTypeShift != kMap || size - kTrailer < root_width) return false;
  value_width_ = uint64_t{1} << (root_type & kWidthMask);
  if (!follow(size - kTrailer - root_width, root_width, &values_) || values_ < 3 * value_width_) return false;
  if (!follow(values_ - 3 * value_width_, value_width_, &keys_)) return false;
  if (!read(values_ - 2 * value_width_, value_width_, &key_width_) || !is_width(key_width_)) return false;
  uint64_t count = 0;
  if (!read(values_ - value_width_, value_width_, &count)) return false;
  // A value and its type take value_width + 1 bytes, a key's entry key_width.
  if (count > (size_ - values_) / (value_width_ + 1) || count > (size_ - keys_) / key_width_) return false;
  count_ = count;
  return true;
}

FlexbufferMap::Lookup FlexbufferMap::find(const char* key, int64_t* value) const {
  for (uint64_t i = 0; i < count_; ++i) {
    uint64_t name = 0;
    if (!follow(keys_ + i * key_width_, key_width_, &name) || !key_equals(name, key)) continue;
    const unsigned packed_type = data_[values_ + count_ * value_width_ + i];
    uint64_t position = values_ + i * value_width_;
    uint64_t width = value_width_;
    const unsigned type = packed_type >> kTypeShift;
    if (type == kIndirectInt || type == kIndirectUint) {
      if (!follow(position, width, &position)) return Lookup::kNotAnInteger;
      width = uint64_t{1} << (packed_type & kWidthMask);
    } else if (type != kInt && type != kUint && type != kFlexBool) {
      return Lookup::kNotAnInteger;
    }
    uint64_t bits = 0;
    if (!read(position, width, &bits)) return Lookup::kNotAnInteger;
    const bool is_signed = type == kInt || type == kIndirectInt;
    if (!is_signed && bits > INT64_MAX) return Lookup::kNotAnInteger;
    *value = is_signed ? sign_extended(bits, width) : static_cast<int64_t>(bits);
    return Lookup::kFound;
  }
  return Lookup::kMissing;
}

}  // namespace bnncc
