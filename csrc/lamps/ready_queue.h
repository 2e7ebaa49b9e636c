// SPDX-License-Identifier: Apache-2.0
// Indexed d-ary min-heap of waiting requests. Every entry can be re-keyed or removed by its handle
// in O(log n); peeking is O(1). Equal keys are ordered by handle, so the order never depends on
// history.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lamps/types.h"

namespace lamps {

// Lower is served first. `service_class` first (overdue < resident < rest), then the virtual
// deadline, then the arrival sequence number: equal deadlines are first come, first served.
struct ReadyKey {
  std::uint8_t service_class = 0;
  Seconds deadline = 0;
  std::uint64_t sequence = 0;
  // NaN deadlines are a caller's bug; push() and rekey() refuse them.
  [[nodiscard]] bool operator<(const ReadyKey& other) const;
};

class ReadyQueue {
 public:
  static constexpr std::size_t kArity = 4;  // fewer levels than a binary heap, same comparisons

  // Throws UnknownHandle if the handle is negative or already queued, InvalidOption for a NaN
  // deadline.
  void push(RequestHandle handle, const ReadyKey& key);
  // Throws UnknownHandle if it is not queued.
  void rekey(RequestHandle handle, const ReadyKey& key);
  void remove(RequestHandle handle);
  [[nodiscard]] RequestHandle top() const;  // kNoHandle when empty
  RequestHandle pop();                      // kNoHandle when empty

  [[nodiscard]] bool contains(RequestHandle handle) const;
  [[nodiscard]] const ReadyKey& key_of(RequestHandle handle) const;
  [[nodiscard]] std::size_t size() const { return heap_.size(); }
  [[nodiscard]] bool empty() const { return heap_.empty(); }
  // The first `limit` handles in order, without changing the queue: O(limit log limit).
  [[nodiscard]] std::vector<RequestHandle> first(std::size_t limit) const;

  // Heap order and position index agree. Throws InvariantViolation otherwise. O(n).
  void check_invariants() const;

 private:
  struct Entry {
    ReadyKey key;
    RequestHandle handle;
    [[nodiscard]] bool operator<(const Entry& other) const;
  };
  [[nodiscard]] std::size_t position_of(RequestHandle handle) const;  // throws UnknownHandle
  void place(std::size_t position, const Entry& entry);
  [[nodiscard]] std::size_t least_child(std::size_t position) const;  // it must have one
  // Moves the hole at `position` to a leaf; returns where it ends.
  std::size_t sink_hole(std::size_t position);
  // `position` is a hole; `entry` goes there or, in heap order, above or below it.
  void sift_up(std::size_t position, const Entry& entry);
  void sift_down(std::size_t position, const Entry& entry);

  std::vector<Entry> heap_;
  std::vector<std::int32_t> position_;  // by handle; -1 when not queued
};

}  // namespace lamps
