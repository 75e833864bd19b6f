// The digest that a file of bnncc's carries of itself: the SHA-256 of all its bytes, with a placeholder where it stands.
#pragma once

#include "../libc.h"

namespace bnncc {

// True where the file has a digest, and it is another file's; and where a file of bnncc's has none.
bool is_damaged(const void* content, size_t size);

}  // namespace bnncc
