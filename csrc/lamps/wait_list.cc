// SPDX-License-Identifier: Apache-2.0
#include "lamps/wait_list.h"

#include <string>

#include "lamps/errors.h"

namespace lamps {
namespace {

std::size_t index_of(RequestHandle handle) { return static_cast<std::size_t>(handle); }

}  // namespace

void WaitList::add(RequestHandle handle, Seconds since, Steps step) {
  if (handle < 0) throw UnknownHandle("request handle " + std::to_string(handle) + " is negative");
  if (contains(handle)) {
    throw UnknownHandle("request handle " + std::to_string(handle) + " is already listed");
  }
  if (index_of(handle) >= nodes_.size()) nodes_.resize(index_of(handle) + 1);
  nodes_[index_of(handle)] = {tail_, kNoHandle, since, step, true};
  if (tail_ == kNoHandle) {
    head_ = handle;
  } else {
    nodes_[index_of(tail_)].next = handle;
  }
  tail_ = handle;
  ++size_;
}

void WaitList::remove(RequestHandle handle) {
  const Node leaving = node(handle);
  if (leaving.previous == kNoHandle) {
    head_ = leaving.next;
  } else {
    nodes_[index_of(leaving.previous)].next = leaving.next;
  }
  if (leaving.next == kNoHandle) {
    tail_ = leaving.previous;
  } else {
    nodes_[index_of(leaving.next)].previous = leaving.previous;
  }
  nodes_[index_of(handle)] = Node{};
  --size_;
}

bool WaitList::contains(RequestHandle handle) const {
  return handle >= 0 && index_of(handle) < nodes_.size() && nodes_[index_of(handle)].listed;
}

Seconds WaitList::since(RequestHandle handle) const { return node(handle).since; }

RequestHandle WaitList::after(RequestHandle handle) const { return node(handle).next; }

Steps WaitList::step(RequestHandle handle) const { return node(handle).step; }

const WaitList::Node& WaitList::node(RequestHandle handle) const {
  if (!contains(handle)) {
    throw UnknownHandle("request handle " + std::to_string(handle) + " is not listed");
  }
  return nodes_[index_of(handle)];
}

void WaitList::check_invariants() const {
  std::size_t listed = 0;
  for (const Node& each : nodes_) listed += each.listed ? 1U : 0U;
  if (listed != size_) {
    throw InvariantViolation("wait list: " + std::to_string(listed) + " nodes listed, size " +
                             std::to_string(size_));
  }
  std::size_t walked = 0;
  RequestHandle previous = kNoHandle;
  for (RequestHandle each = head_; each != kNoHandle; each = node(each).next) {
    const std::string at = "wait list: handle " + std::to_string(each);
    if (++walked > size_) throw InvariantViolation(at + " is in a loop");
    if (!contains(each)) throw InvariantViolation(at + " is linked but not listed");
    if (node(each).previous != previous) throw InvariantViolation(at + " has a wrong back link");
    if (previous != kNoHandle &&
        (node(each).since < node(previous).since || node(each).step < node(previous).step)) {
      throw InvariantViolation(at + " began to wait before the one in front of it");
    }
    previous = each;
  }
  if (walked != size_ || previous != tail_) {
    throw InvariantViolation("wait list: " + std::to_string(walked) + " of " +
                             std::to_string(size_) + " nodes are reachable from the first");
  }
}

}  // namespace lamps
