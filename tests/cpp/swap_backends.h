// SPDX-License-Identifier: Apache-2.0
// Backends for tests of the mover: one that a test leads by the hand, one that fails.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <vector>

#include "swap/backend.h"
#include "swap/cpu_backend.h"

namespace lamps::swap::testing {

// Starts slices without copying; a test sees them and says how each goes on. Slices are one move
// long at most, so that the order of service is visible.
class LedBackend final : public Backend {
 public:
  struct Started {
    Direction direction;
    Path path;
    Move move;
    Mark after;
  };

  void attach(Address, Bytes) override {}
  Mark mark(std::uint64_t stream) override {
    const std::lock_guard lock(mutex_);
    ++marks_held_;
    return static_cast<Mark>(1000 + stream);
  }
  void release(Mark) override {
    const std::lock_guard lock(mutex_);
    --marks_held_;
  }
  [[nodiscard]] Path usable(Path path, Direction) const override { return path; }
  [[nodiscard]] SliceLimit slice_limit() const override { return {Bytes{1} << 40, 1}; }
  Ticket start(const Slice& slice) override {
    const std::lock_guard lock(mutex_);
    started_.push_back({slice.direction, slice.path, slice.moves.front(), slice.after});
    states_.push_back(SliceState::kRunning);
    changed_.notify_all();
    return static_cast<Ticket>(started_.size() - 1);
  }
  SliceState state(Ticket ticket) override {
    const std::lock_guard lock(mutex_);
    return states_[static_cast<std::size_t>(ticket)];
  }
  [[nodiscard]] bool synchronous() const override { return false; }
  [[nodiscard]] bool device_readable() const override { return false; }

  // For the test's thread.
  void set(std::size_t slice, SliceState state) {
    const std::lock_guard lock(mutex_);
    states_[slice] = state;
  }
  Started slice(std::size_t index) {  // waits until it has been started
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return index < started_.size(); });
    return started_[index];
  }
  std::size_t started() {
    const std::lock_guard lock(mutex_);
    return started_.size();
  }
  int marks_held() {
    const std::lock_guard lock(mutex_);
    return marks_held_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Started> started_;
  std::vector<SliceState> states_;
  int marks_held_ = 0;
};

// The CPU backend with tiny slices, which fails at the `fails_at`-th of them (from 1; 0: never).
// Like a device, it does not let the CPU read its pages, if told so.
class FrailBackend final : public Backend {
 public:
  FrailBackend(int fails_at, bool device_readable)
      : copier_(1), fails_at_(fails_at), device_readable_(device_readable) {}
  void attach(Address, Bytes) override {}
  Mark mark(std::uint64_t) override { return kNoMark; }
  void release(Mark) override {}
  [[nodiscard]] Path usable(Path path, Direction) const override { return path; }
  [[nodiscard]] SliceLimit slice_limit() const override { return {1000, 3}; }
  Ticket start(const Slice& slice) override {
    if (++started_ != fails_at_) copier_.start(slice);
    return started_;
  }
  SliceState state(Ticket ticket) override {
    return ticket == fails_at_ ? SliceState::kFailed : SliceState::kDone;
  }
  [[nodiscard]] bool synchronous() const override { return true; }
  [[nodiscard]] bool device_readable() const override { return device_readable_; }

 private:
  CpuBackend copier_;
  int fails_at_;
  bool device_readable_;
  int started_ = 0;
};

}  // namespace lamps::swap::testing
