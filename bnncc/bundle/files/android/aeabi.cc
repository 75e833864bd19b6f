// What a compiler for 32-bit ARM calls to copy and to fill.  Those that zig brings along call themselves for ever: its
// compiler turns their calls of memcpy into calls of __aeabi_memcpy.  An NDK takes them from Android's C library.
#include <stddef.h>

#if defined(__arm__)
extern "C" {
void* memcpy(void* destination, const void* source, size_t size);
void* memmove(void* destination, const void* source, size_t size);

void* memset(void* destination, int byte, size_t size);

#define BNNCC_FOR_EACH_ALIGNMENT(suffix)                                                             \
  void __aeabi_memcpy##suffix(void* to, const void* from, size_t size) { memcpy(to, from, size); }   \
  void __aeabi_memmove##suffix(void* to, const void* from, size_t size) { memmove(to, from, size); } \
  void __aeabi_memset##suffix(void* to, size_t size, int byte) { memset(to, byte, size); }           \
  void __aeabi_memclr##suffix(void* to, size_t size) { memset(to, 0, size); }
BNNCC_FOR_EACH_ALIGNMENT()
BNNCC_FOR_EACH_ALIGNMENT(4)
BNNCC_FOR_EACH_ALIGNMENT(8)
#undef BNNCC_FOR_EACH_ALIGNMENT
}
#endif
