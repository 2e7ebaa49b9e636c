// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace lamps::swap {

// Runs one function on a fixed set of threads, the calling one among them.
class ForkJoin {
 public:
  explicit ForkJoin(int threads);  // throws InvalidOption unless in [1, 256]
  ~ForkJoin();
  ForkJoin(const ForkJoin&) = delete;
  ForkJoin& operator=(const ForkJoin&) = delete;

  [[nodiscard]] int threads() const { return static_cast<int>(helpers_.size()) + 1; }
  // Calls work(0) ... work(threads() - 1), each on its own thread, and returns when all have. It
  // must not throw. One caller at a time.
  void run(const std::function<void(int)>& work);

 private:
  void help(int part);

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  const std::function<void(int)>* work_ = nullptr;
  std::uint64_t round_ = 0;
  int busy_ = 0;
  bool stop_ = false;
  std::vector<std::thread> helpers_;  // last: they use all of the above
};

}  // namespace lamps::swap
