#include "threads.h"

namespace bnncc {

using system::sleep_while;
using system::wake_all;

namespace {

// How often a thread looks for work, or for the others' end, before it sleeps: a few ten microseconds, about the time
// between two loops of one inference.
constexpr int kLooks = 4000;

template <typename T>
T load(const T* value) {
  return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

#if defined(__x86_64__)
// The exception flags in the low six bits are results, not modes.
uint64_t float_mode() { return __builtin_ia32_stmxcsr() & ~0x3fu; }
void set_float_mode(uint64_t mode) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
uint64_t float_mode() {
  uint64_t mode = 0;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
void set_float_mode(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
uint64_t float_mode() {
  uint32_t mode = 0;
  asm volatile("vmrs %0, fpscr" : "=r"(mode));
  return mode;
}
void set_float_mode(uint64_t mode) { asm volatile("vmsr fpscr, %0" : : "r"(static_cast<uint32_t>(mode))); }
#endif

}  // namespace

void ThreadPool::resize(int threads) {
  const int wanted = (threads < kMostThreads ? threads : kMostThreads) - 1;
  while (!occupy()) pause();
  for (; started_ < wanted; ++started_) {
    Worker& worker = workers_[started_];
    worker.pool = this;
    worker.thread = started_ + 1;
    worker.seen = generation_;
    if (!system::start_thread(&worker.handle, work, &worker)) break;
  }
  vacate();
}

bool ThreadPool::occupy() { return __atomic_exchange_n(&busy_, 1, __ATOMIC_ACQUIRE) == 0; }

void ThreadPool::vacate() { __atomic_store_n(&busy_, 0, __ATOMIC_RELEASE); }

void ThreadPool::stop() {
  __atomic_store_n(&stopping_, true, __ATOMIC_RELEASE);
  __atomic_add_fetch(&generation_, 1, __ATOMIC_SEQ_CST);
  wake_all(&generation_);
  for (int i = 0; i < started_; ++i) system::join_thread(workers_[i].handle);
  started_ = 0;
}

system::ThreadResult ThreadPool::work(void* argument) {
  Worker& worker = *static_cast<Worker*>(argument);
  ThreadPool& pool = *worker.pool;
  uint32_t seen = worker.seen;
  while (true) {
    for (int i = 0; i < kLooks && load(&pool.generation_) == seen; ++i) pause();
    while (load(&pool.generation_) == seen) {
      __atomic_add_fetch(&pool.sleeping_, 1, __ATOMIC_SEQ_CST);
      sleep_while(&pool.generation_, seen);
      __atomic_sub_fetch(&pool.sleeping_, 1, __ATOMIC_SEQ_CST);
    }
    seen = load(&pool.generation_);
    if (load(&pool.stopping_)) return {};
    // Generations are only opened when no worker is at work, so the loop's fields belong to `seen`.
    if (worker.thread < pool.threads_) {
      set_float_mode(pool.float_mode_);
      pool.take_tasks(worker.thread);
    }
    if (__atomic_sub_fetch(&pool.working_, 1, __ATOMIC_SEQ_CST) == 0) wake_all(&pool.working_);
  }
}

void ThreadPool::take_tasks(int thread) {
  const size_t count = static_cast<size_t>(count_);
  while (true) {
    const size_t index = __atomic_fetch_add(&next_, 1, __ATOMIC_RELAXED);
    if (index >= count) return;
    task_(argument_, static_cast<int64_t>(index), thread);
  }
}

void ThreadPool::run(Task task, const void* argument, int64_t count, int threads) {
  if (count <= 1 || threads <= 1 || !occupy()) {
    for (int64_t i = 0; i < count; ++i) task(argument, i, 0);
    return;
  }
  task_ = task;
  argument_ = argument;
  count_ = count;
  threads_ = threads;
  next_ = 0;
  float_mode_ = float_mode();
  __atomic_store_n(&working_, static_cast<uint32_t>(started_), __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&generation_, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&sleeping_, __ATOMIC_SEQ_CST) != 0) wake_all(&generation_);
  take_tasks(0);
  for (int i = 0; i < kLooks && load(&working_) != 0; ++i) pause();
  for (uint32_t working = load(&working_); working != 0; working = load(&working_)) sleep_while(&working_, working);
  vacate();
}

}  // namespace bnncc
