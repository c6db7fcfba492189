// Threads for the kernels' parallel loops where there is no torch to lend its own.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "depthsr/kernels.h"

namespace depthsr {

// Cores this process may use.
inline int available_cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

class ThreadPool {
 public:
  // The calling thread works too, so there is one thread fewer in the pool.
  explicit ThreadPool(int threads) : threads_(threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~ThreadPool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return threads_; }

  // As ParallelFor. A loop inside a loop, or one beside another thread's, runs on the calling thread alone. Rethrows
  // the first exception of body.
  void run(std::int64_t count, std::int64_t grain, const Body& body) {
    if (count <= 0) return;
    const std::int64_t most = (count + grain - 1) / std::max<std::int64_t>(grain, 1);
    std::unique_lock alone(one_loop_at_a_time_, std::defer_lock);
    if (threads_ == 1 || most <= 1 || inside_a_loop() || !alone.try_lock()) return body(0, count);

    // Several pieces a thread: another program may hold one of the cores. Rather more and smaller ones than the last one
    // too large: of 20 in threes one thread would do 12.
    const std::int64_t pieces = std::min<std::int64_t>(most, 4 * threads_);
    Loop loop{body, count, count / pieces};
    {
      const std::lock_guard lock(mutex_);
      loop_ = &loop;
    }
    open_.store(true, std::memory_order_relaxed);
    wake_.notify_all();
    take_pieces(loop);
    // Every piece is taken. Threads that come from here on find no loop; those inside it are waited for.
    open_.store(false, std::memory_order_relaxed);
    for (int i = 0; i < SPINS && loop.threads.load(std::memory_order_relaxed) > 0; ++i) pause();
    std::unique_lock lock(mutex_);
    loop_ = nullptr;
    done_.wait(lock, [&] { return loop.threads.load() == 0; });
    if (loop.failure) std::rethrow_exception(loop.failure);
  }

 private:
  // About 40 µs: loops follow each other closely, and waking a sleeping thread takes longer than many a loop.
  static constexpr int SPINS = 2000;

  struct Loop {
    const Body& body;
    std::int64_t count;
    std::int64_t piece;
    std::atomic<std::int64_t> next{0};
    std::atomic<int> threads{0};  // of the pool, now inside; changed under mutex_
    std::exception_ptr failure;   // under mutex_
  };

  static bool& inside_a_loop() {
    thread_local bool inside = false;
    return inside;
  }

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  void take_pieces(Loop& loop) {
    inside_a_loop() = true;
    for (;;) {
      const std::int64_t begin = loop.next.fetch_add(loop.piece);
      if (begin >= loop.count) break;
      try {
        loop.body(begin, std::min(begin + loop.piece, loop.count));
      } catch (...) {  // of any type: it is the caller's
        const std::lock_guard lock(mutex_);
        if (!loop.failure) loop.failure = std::current_exception();
        loop.next = loop.count;
      }
    }
    inside_a_loop() = false;
  }

  void work() {
    for (;;) {
      for (int i = 0; i < SPINS && !open_.load(std::memory_order_relaxed); ++i) pause();
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || (loop_ && loop_->next < loop_->count); });
      if (stopping_) return;
      Loop& loop = *loop_;
      ++loop.threads;
      lock.unlock();
      take_pieces(loop);
      lock.lock();
      if (--loop.threads == 0) done_.notify_one();
    }
  }

  const int threads_;
  std::vector<std::thread> workers_;
  std::mutex one_loop_at_a_time_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<bool> open_{false};
  Loop* loop_ = nullptr;
  bool stopping_ = false;
};

// The process's pool. A child process starts without threads and makes its own; the parent's pool is left as it is
// there, since nothing in it can be trusted.
class ProcessPool {
 public:
  static void run(std::int64_t count, std::int64_t grain, const Body& body) { get()->run(count, grain, body); }

  static int threads() { return get()->threads(); }

  // Takes effect for loops that start from now on.
  static void set_threads(int threads) {
    const std::lock_guard lock(state().mutex);
    if (state().pool && state().pool->threads() == threads) return;
    state().pool = std::make_shared<ThreadPool>(threads);
  }

 private:
  struct State {
    std::mutex mutex;
    std::shared_ptr<ThreadPool> pool;
  };

  // Never destroyed: threads of other libraries may still be in a loop while the process ends.
  static State& state() {
    static State* const state = [] {
      auto* made = new State;
      pthread_atfork([] { ProcessPool::state().mutex.lock(); }, [] { ProcessPool::state().mutex.unlock(); },
                     [] {
                       new std::shared_ptr<ThreadPool>(std::move(ProcessPool::state().pool));
                       ProcessPool::state().mutex.unlock();
                     });
      return made;
    }();
    return *state;
  }

  static std::shared_ptr<ThreadPool> get() {
    const std::lock_guard lock(state().mutex);
    if (!state().pool) state().pool = std::make_shared<ThreadPool>(available_cores());
    return state().pool;
  }
};

}  // namespace depthsr
