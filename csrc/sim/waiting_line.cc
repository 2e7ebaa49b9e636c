// SPDX-License-Identifier: Apache-2.0
#include "sim/waiting_line.h"

#include <algorithm>
#include <functional>

namespace lamps::sim {

void WaitingLine::add(TurnId turn, std::int64_t number) {
  ++size_;
  if (scheduling_ == Scheduling::kFcfs) queue_.push_back(turn);
  if (scheduling_ == Scheduling::kPriority) {
    heap_.emplace_back(number, turn);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
}

void WaitingLine::put_back(TurnId turn, std::int64_t number) {
  if (scheduling_ == Scheduling::kFcfs) {
    ++size_;
    queue_.push_front(turn);
  } else {
    add(turn, number);
  }
}

void WaitingLine::open(std::span<const TurnId> lane) { queue_.assign(lane.begin(), lane.end()); }

TurnId WaitingLine::first() const {
  if (scheduling_ == Scheduling::kPriority) return heap_.empty() ? kNoHandle : heap_.front().second;
  return queue_.empty() ? kNoHandle : queue_.front();
}

void WaitingLine::drop_first() {
  if (scheduling_ == Scheduling::kPriority) {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    heap_.pop_back();
  } else {
    queue_.pop_front();
  }
}

void WaitingLine::pop() {
  drop_first();
  --size_;
}

void WaitingLine::skip() {
  const bool ranked = scheduling_ == Scheduling::kPriority;
  skipped_.push_back(ranked ? heap_.front() : Ranked{0, queue_.front()});
  drop_first();
}

std::vector<TurnId> WaitingLine::end_step() {
  std::vector<TurnId> turns;
  for (const Ranked& each : skipped_) {
    turns.push_back(each.second);
    if (scheduling_ == Scheduling::kPriority) {
      heap_.push_back(each);
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
  }
  if (scheduling_ == Scheduling::kFcfs) queue_.insert(queue_.begin(), turns.begin(), turns.end());
  skipped_.clear();
  return turns;
}

void WaitingLine::remove(TurnId turn, std::int64_t number) {
  --size_;
  std::erase(queue_, turn);
  if (std::erase(heap_, Ranked{number, turn}) > 0) {
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
}

}  // namespace lamps::sim
