#include "options.h"

#include "flexbuffer.h"

namespace bnncc {
namespace {

const char* const kNoMap = "its options are no FlexBuffer map";

// An option that must be there, in [least, most].
bool read(const FlexbufferMap& map, const char* key, int64_t least, int64_t most, int32_t* value) {
  int64_t found = 0;
  if (map.find(key, &found) != FlexbufferMap::Lookup::kFound || found < least || found > most) return false;
  *value = static_cast<int32_t>(found);
  return true;
}

// An option that is 0 where it is missing.
bool read_or_zero(const FlexbufferMap& map, const char* key, int64_t most, int32_t* value) {
  int64_t found = 0;
  *value = 0;
  return map.find(key, &found) == FlexbufferMap::Lookup::kMissing || read(map, key, 0, most, value);
}

bool read_padding(const FlexbufferMap& map, PaddingMode* mode) {
  int32_t value = 0;
  if (!read(map, "padding", 0, 1, &value)) return false;
  *mode = value == 0 ? PaddingMode::kSame : PaddingMode::kValid;
  return true;
}

}  // namespace

const char* parse(const void* data, size_t size, Bconv2dOptions* options) {
  FlexbufferMap map;
  if (!map.parse(static_cast<const uint8_t*>(data), size)) return kNoMap;
  if (!read(map, "channels_in", 1, INT32_MAX, &options->channels_in)) return "channels_in is missing or not positive";
  if (!read(map, "stride_height", 1, INT32_MAX, &options->stride_height) ||
      !read(map, "stride_width", 1, INT32_MAX, &options->stride_width)) {
    return "a stride is missing or not positive";
  }
  if (!read(map, "dilation_height_factor", 1, INT32_MAX, &options->dilation_height) ||
      !read(map, "dilation_width_factor", 1, INT32_MAX, &options->dilation_width)) {
    return "a dilation is missing or not positive";
  }
  int32_t value = 0;
  if (!read_or_zero(map, "fused_activation_function", 3, &value)) return "fused_activation_function is not 0 to 3";
  options->activation = static_cast<Activation>(value);
  if (!read_padding(map, &options->padding)) return "padding is not 0 (SAME) or 1 (VALID)";
  if (!read_or_zero(map, "pad_values", 1, &value)) return "pad_values is not 0 or 1";
  options->pads_with_ones = value == 1;
  return nullptr;
}

const char* parse(const void* data, size_t size, BMaxPool2dOptions* options) {
  FlexbufferMap map;
  if (!map.parse(static_cast<const uint8_t*>(data), size)) return kNoMap;
  if (!read(map, "filter_height", 1, INT32_MAX, &options->filter_height) ||
      !read(map, "filter_width", 1, INT32_MAX, &options->filter_width)) {
    return "a filter size is missing or not positive";
  }
  if (!read(map, "stride_height", 1, INT32_MAX, &options->stride_height) ||
      !read(map, "stride_width", 1, INT32_MAX, &options->stride_width)) {
    return "a stride is missing or not positive";
  }
  if (!read_padding(map, &options->padding)) return "padding is not 0 (SAME) or 1 (VALID)";
  return nullptr;
}

}  // namespace bnncc
