// SPDX-License-Identifier: Apache-2.0
// Waiting requests in the order in which they began to wait, for the waiting bound. An intrusive
// doubly linked list over handles: O(1) add, remove and oldest, no allocation per entry.
#pragma once

#include <vector>

#include "lamps/types.h"

namespace lamps {

class WaitList {
 public:
  // `since` and `step` of successive adds never decrease (the caller's clock does not run
  // backwards); then whoever is first in the list is first to become overdue by seconds and by
  // steps. Throws UnknownHandle if the handle is negative or already listed.
  void add(RequestHandle handle, Seconds since, Steps step);
  // Throws UnknownHandle if it is not listed.
  void remove(RequestHandle handle);
  [[nodiscard]] bool contains(RequestHandle handle) const;
  [[nodiscard]] RequestHandle oldest() const { return head_; }    // kNoHandle when empty
  [[nodiscard]] RequestHandle after(RequestHandle handle) const;  // kNoHandle after the last
  [[nodiscard]] Seconds since(RequestHandle handle) const;
  [[nodiscard]] Steps step(RequestHandle handle) const;
  [[nodiscard]] std::size_t size() const { return size_; }

  // Links, size and order agree. Throws InvariantViolation otherwise. O(n).
  void check_invariants() const;

 private:
  struct Node {
    RequestHandle previous = kNoHandle;
    RequestHandle next = kNoHandle;
    Seconds since = 0;
    Steps step = 0;
    bool listed = false;
  };
  const Node& node(RequestHandle handle) const;

  std::vector<Node> nodes_;  // by handle
  RequestHandle head_ = kNoHandle;
  RequestHandle tail_ = kNoHandle;
  std::size_t size_ = 0;
};

}  // namespace lamps
