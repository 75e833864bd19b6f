// Android's C library for a program that runs under glibc: what Android has and glibc has not, or has in another form.
// Everything else the program finds in glibc itself, which this library needs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void __libc_init(void* arguments, void (*on_exit)(void), int (*main)(int, char**, char**), const void* structors) {
  const int argc = (int)*(long*)arguments;
  char** const argv = (char**)arguments + 1;
  exit(main(argc, argv, argv + argc + 1));
}

int* __errno(void) { return __errno_location(); }
char __sF[3][256];  // FILEs; nothing of what the tests run writes to them
size_t __strlen_chk(const char* text, size_t size) { return strlen(text); }
int __open_2(const char* path, int flags) { return open(path, flags); }
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void* library) { return 0; }
void __assert2(const char* file, int line, const char* function, const char* text) {
  fprintf(stderr, "%s:%d: %s: %s\n", file, line, function, text);
  abort();
}
void android_set_abort_message(const char* message) { fprintf(stderr, "%s\n", message); }

int __system_property_get(const char* name, char* value) {
  strcpy(value, "a stand-in");
  return (int)strlen(value);
}

int __android_log_vprint(int priority, const char* tag, const char* format, va_list arguments) { return 0; }

#if !defined(__LP64__)
// Android's struct stat is glibc's struct stat64.
int fstat(int file, struct stat* found) { return fstat64(file, (struct stat64*)found); }
int stat(const char* path, struct stat* found) { return stat64(path, (struct stat64*)found); }
#endif

// Android's mutexes and condition variables are smaller than glibc's: a pointer to glibc's takes their place.
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// What the aligned word at `given` points to; a new object of `size` bytes, zeroed, where that is null.
static void* shadow(void* given, size_t size) {
  void** const slot = (void**)(((uintptr_t)given + sizeof(void*) - 1) & ~(sizeof(void*) - 1));
  void* found = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
  if (found != NULL) return found;
  void* const made = calloc(1, size);
  if (__atomic_compare_exchange_n(slot, &found, made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return made;
  free(made);
  return found;
}

static pthread_mutex_t* mutex_of(void* given) { return shadow(given, sizeof(pthread_mutex_t)); }
static pthread_cond_t* condition_of(void* given) { return shadow(given, sizeof(pthread_cond_t)); }

// Of Android's objects; the word of the pointer lies within.
enum { kMutexSize = sizeof(void*) == 8 ? 40 : 4, kConditionSize = sizeof(void*) == 8 ? 48 : 4 };

int pthread_mutex_init(pthread_mutex_t* given, const pthread_mutexattr_t* attributes) {
  memset(given, 0, kMutexSize);
  return REAL(pthread_mutex_init)(mutex_of(given), attributes);
}

int pthread_mutex_destroy(pthread_mutex_t* given) { return 0; }
int pthread_mutex_lock(pthread_mutex_t* given) { return REAL(pthread_mutex_lock)(mutex_of(given)); }
int pthread_mutex_trylock(pthread_mutex_t* given) { return REAL(pthread_mutex_trylock)(mutex_of(given)); }
int pthread_mutex_unlock(pthread_mutex_t* given) { return REAL(pthread_mutex_unlock)(mutex_of(given)); }

int pthread_cond_init(pthread_cond_t* given, const pthread_condattr_t* attributes) {
  memset(given, 0, kConditionSize);
  return 0;
}

int pthread_cond_destroy(pthread_cond_t* given) { return 0; }

int pthread_cond_wait(pthread_cond_t* given, pthread_mutex_t* mutex) {
  return REAL(pthread_cond_wait)(condition_of(given), mutex_of(mutex));
}

int pthread_cond_timedwait(pthread_cond_t* given, pthread_mutex_t* mutex, const struct timespec* until) {
  return REAL(pthread_cond_timedwait)(condition_of(given), mutex_of(mutex), until);
}

int pthread_cond_signal(pthread_cond_t* given) { return REAL(pthread_cond_signal)(condition_of(given)); }
int pthread_cond_broadcast(pthread_cond_t* given) { return REAL(pthread_cond_broadcast)(condition_of(given)); }
