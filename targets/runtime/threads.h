// A small pool of threads that share the tasks of one parallel loop.
//
// It exists because the delegate links no C++ library.  The caller works along; a thread that finds no work looks for
// a moment and then sleeps in the kernel.  Workers take over the caller's floating-point mode: bnncc_run turns denormals
// off before it runs operators, stock interpreters do not.
#pragma once

#include "system.h"

namespace bnncc {

class ThreadPool {
 public:
  static constexpr int kMostThreads = 64;

  // `task(argument, index, thread)` with thread in [0, threads).
  using Task = void (*)(const void* argument, int64_t index, int thread);

  ~ThreadPool() { stop(); }

  // Brings the pool to `threads` threads, the caller among them; there may be fewer where the system refuses.
  void resize(int threads);

  // Runs task(argument, i, thread) for every i in [0, count) on up to `threads` threads and returns when all are done.
  // Where the pool is busy with another interpreter's loop, the caller does all alone.
  void run(Task task, const void* argument, int64_t count, int threads);

 private:
  struct Worker {
    ThreadPool* pool = nullptr;
    system::Thread handle = 0;
    int thread = 0;
    uint32_t seen = 0;  // the last generation that is no work for it
  };

  static system::ThreadResult work(void* worker);
  bool occupy();
  void vacate();
  void take_tasks(int thread);
  void stop();

  Worker workers_[kMostThreads];
  int started_ = 0;  // workers beside the caller

  // The current loop.  `generation_` counts loops; a change of it is what wakes the workers.
  uint32_t generation_ = 0;
  uint32_t sleeping_ = 0;
  uint32_t working_ = 0;
  uint32_t busy_ = 0;
  bool stopping_ = false;
  Task task_ = nullptr;
  const void* argument_ = nullptr;
  int64_t count_ = 0;
  int threads_ = 0;
  // size_t, not int64_t: 32-bit ARM has no cheap 64-bit atomics, and a count fits.
  size_t next_ = 0;
  uint64_t float_mode_ = 0;
};

}  // namespace bnncc
