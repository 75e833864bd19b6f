// What BnnccDelegate.kt calls: makes the delegate, and destroys it.  Neither takes anything of Java's, so that no jni.h
// is needed.
#include <stddef.h>
#include <stdint.h>

extern "C" {

void* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                    void (*report)(const char*));
void tflite_plugin_destroy_delegate(void* delegate);

#define BNNCC_JNI __attribute__((visibility("default")))

// Zero where `threads` is none that the delegate takes.
BNNCC_JNI int64_t Java_dev_bnncc_BnnccDelegate_00024Companion_create(void*, void*, int32_t threads) {
  if (threads < 0 || threads > 99) return 0;
  const char text[] = {static_cast<char>('0' + threads / 10), static_cast<char>('0' + threads % 10), '\0'};
  const char* const key = "threads";
  const char* const value = text;
  return static_cast<int64_t>(reinterpret_cast<intptr_t>(tflite_plugin_create_delegate(&key, &value, 1, nullptr)));
}

BNNCC_JNI void Java_dev_bnncc_BnnccDelegate_00024Companion_destroy(void*, void*, int64_t handle) {
  tflite_plugin_destroy_delegate(reinterpret_cast<void*>(static_cast<intptr_t>(handle)));
}

}  // extern "C"
