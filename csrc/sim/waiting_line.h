// SPDX-License-Identifier: Apache-2.0
// Turns that wait, as an engine's scheduling loop sees them.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "sim/engine_model.h"
#include "sim/turn.h"

namespace lamps::sim {

// kFcfs: a queue; who was preempted goes to its head. kPriority: by running number of the session.
// kCore: whoever the policy core lets in, in its order; nobody before open() is called.
class WaitingLine {
 public:
  explicit WaitingLine(Scheduling scheduling) : scheduling_(scheduling) {}

  void add(TurnId turn, std::int64_t number);
  void put_back(TurnId turn, std::int64_t number);  // after a preemption
  void open(std::span<const TurnId> lane);          // kCore: for the coming step
  void remove(TurnId turn, std::int64_t number);    // it has ended while it waited. O(n)

  [[nodiscard]] TurnId first() const;  // kNoHandle: nobody may enter
  void pop();                          // the first one enters
  void skip();                         // the first one cannot enter in this step
  // Those skipped since the last call, in order; they are offered again.
  std::vector<TurnId> end_step();
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  using Ranked = std::pair<std::int64_t, TurnId>;
  void drop_first();

  Scheduling scheduling_;
  std::size_t size_ = 0;
  std::deque<TurnId> queue_;  // kFcfs, and the lane of kCore
  std::vector<Ranked> heap_;  // kPriority
  std::vector<Ranked> skipped_;
};

}  // namespace lamps::sim
