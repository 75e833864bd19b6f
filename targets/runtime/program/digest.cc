#include "digest.h"

#include "../interpreter/flatbuffer.h"

namespace bnncc {
namespace {

// As bnncc/targets/tflite/digest.py has them.
constexpr char kDigestName[] = "bnncc_sha256";
constexpr char kOtherName[] = "bnncc";
constexpr char kPlaceholder[] = "here is the SHA-256 of the file ";
constexpr size_t kDigestSize = 32;

// Fields of the schema's tables, in its order.
enum ModelField { kModelBuffers = 4, kModelMetadata = 6 };
enum MetadataField { kMetadataName, kMetadataBuffer };
enum BufferField { kBufferData };

// SHA-256 (FIPS 180-4), fed in pieces.
class Sha256 {
 public:
  void add(const uint8_t* bytes, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      block_[length_++ % kBlock] = bytes[i];
      if (length_ % kBlock == 0) compress();
    }
  }

  void finish(uint8_t* digest) {
    const uint64_t bits = 8 * length_;
    const uint8_t one = 0x80;
    const uint8_t zero = 0;
    add(&one, 1);
    while (length_ % kBlock != kBlock - sizeof(bits)) add(&zero, 1);
    for (int shift = 56; shift >= 0; shift -= 8) {
      const uint8_t byte = static_cast<uint8_t>(bits >> shift);
      add(&byte, 1);
    }
    for (size_t i = 0; i < kDigestSize; ++i) digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
  }

 private:
  static constexpr size_t kBlock = 64;

  static uint32_t rotated(uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

  void compress() {
    // The first 32 bits of the fractions of the cube roots of the first 64 primes.
    static const uint32_t kRounds[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t schedule[64];
    for (int i = 0; i < 16; ++i) {
      const uint8_t* const at = block_ + 4 * i;
      schedule[i] = static_cast<uint32_t>(at[0]) << 24 | static_cast<uint32_t>(at[1]) << 16 |
                    static_cast<uint32_t>(at[2]) << 8 | at[3];
    }
    for (int i = 16; i < 64; ++i) {
      const uint32_t w15 = schedule[i - 15];
      const uint32_t w2 = schedule[i - 2];
      schedule[i] = schedule[i - 16] + (rotated(w15, 7) ^ rotated(w15, 18) ^ w15 >> 3) + schedule[i - 7] +
                    (rotated(w2, 17) ^ rotated(w2, 19) ^ w2 >> 10);
    }
    uint32_t s[8];
    memcpy(s, state_, sizeof(s));
    for (int i = 0; i < 64; ++i) {
      const uint32_t first = s[7] + (rotated(s[4], 6) ^ rotated(s[4], 11) ^ rotated(s[4], 25)) +
                             ((s[4] & s[5]) ^ (~s[4] & s[6])) + kRounds[i] + schedule[i];
      const uint32_t second = (rotated(s[0], 2) ^ rotated(s[0], 13) ^ rotated(s[0], 22)) +
                              ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      for (int j = 7; j > 0; --j) s[j] = s[j - 1];
      s[4] += first;
      s[0] = first + second;
    }
    for (int i = 0; i < 8; ++i) state_[i] += s[i];
  }

  // The first 32 bits of the fractions of the square roots of the first eight primes.
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t block_[kBlock] = {};
  uint64_t length_ = 0;
};

// What a file's metadata say of its digest.
struct Metadata {
  uint64_t digest = 0;        // where it begins; 0 where the file has none
  bool is_of_bnncc = false;   // it has the description that every file of bnncc's has
  bool ends_with_it = false;  // which is the last entry: versions before the digest wrote them so
};

Metadata read_metadata(const FlatbufferFile& file) {
  Metadata found;
  const FlatbufferTable model = FlatbufferTable::root(file, "TFL3");
  if (!model.is_present()) return found;
  const FlatbufferVector entries = model.vector(kModelMetadata, sizeof(uint32_t));
  const FlatbufferVector buffers = model.vector(kModelBuffers, sizeof(uint32_t));
  for (uint64_t i = 0; i < entries.count; ++i) {
    const FlatbufferTable entry = FlatbufferTable::element(entries, i);
    const char* const name = entry.is_present() ? entry.text(kMetadataName) : nullptr;
    found.ends_with_it = name != nullptr && strcmp(name, kOtherName) == 0;
    if (name == nullptr) continue;
    if (found.ends_with_it) found.is_of_bnncc = true;
    if (strcmp(name, kDigestName) != 0) continue;
    const uint32_t buffer = entry.number<uint32_t>(kMetadataBuffer, 0);
    if (buffer >= buffers.count) continue;
    const FlatbufferTable holder = FlatbufferTable::element(buffers, buffer);
    if (!holder.is_present()) continue;
    const FlatbufferVector data = holder.vector(kBufferData, 1);
    if (data.count == kDigestSize) found.digest = data.begin;
  }
  return found;
}

// Whether the digest's name is anywhere in the file, even where nothing leads to it.
bool names_digest(const FlatbufferFile& file) {
  constexpr uint64_t kLength = sizeof(kDigestName) - 1;
  for (uint64_t i = 0; i + kLength <= file.size(); ++i) {
    if (memcmp(file.data() + i, kDigestName, kLength) == 0) return true;
  }
  return false;
}

}  // namespace

bool is_damaged(const void* content, size_t size) {
  const FlatbufferFile file(content, size);
  const Metadata metadata = read_metadata(file);
  const uint64_t position = metadata.digest;
  if (position == 0) {
    const bool lost_it = metadata.is_of_bnncc && (!metadata.ends_with_it || names_digest(file));
    return lost_it || file.is_damaged();
  }
  Sha256 found;
  found.add(file.data(), position);
  found.add(reinterpret_cast<const uint8_t*>(kPlaceholder), kDigestSize);
  found.add(file.data() + position + kDigestSize, size - position - kDigestSize);
  uint8_t digest[kDigestSize];
  found.finish(digest);
  return memcmp(digest, file.data() + position, kDigestSize) != 0;
}

}  // namespace bnncc
