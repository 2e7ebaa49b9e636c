// SPDX-License-Identifier: Apache-2.0
#include "swap/fork_join.h"

#include "lamps/errors.h"

namespace lamps::swap {

ForkJoin::ForkJoin(int threads) {
  require_in_range("copy threads", threads, 1, 256);
  for (int part = 1; part < threads; ++part) {
    helpers_.emplace_back([this, part] { help(part); });
  }
}

ForkJoin::~ForkJoin() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  begin_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ForkJoin::run(const std::function<void(int)>& work) {
  if (!helpers_.empty()) {
    {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      busy_ = static_cast<int>(helpers_.size());
      ++round_;
    }
    begin_.notify_all();
  }
  work(0);
  std::unique_lock lock(mutex_);
  end_.wait(lock, [this] { return busy_ == 0; });
}

void ForkJoin::help(int part) {
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    begin_.wait(lock, [&] { return stop_ || round_ != seen; });
    if (stop_) return;
    seen = round_;
    const std::function<void(int)>& work = *work_;
    lock.unlock();
    work(part);
    lock.lock();
    if (--busy_ == 0) end_.notify_one();
  }
}

}  // namespace lamps::swap
