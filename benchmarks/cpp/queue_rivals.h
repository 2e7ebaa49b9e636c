// SPDX-License-Identifier: Apache-2.0
// Other ways to keep the waiting requests in order, with the interface of lamps::ReadyQueue.
#pragma once

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "lamps/ready_queue.h"

namespace lamps::rivals {

using Row = std::pair<ReadyKey, RequestHandle>;

struct RowBefore {
  bool operator()(const Row& a, const Row& b) const {
    if (a.first < b.first) return true;
    return a.second < b.second && !(b.first < a.first);
  }
};
struct RowAfter {
  bool operator()(const Row& a, const Row& b) const { return RowBefore{}(b, a); }
};

// A balanced tree, plus the keys by handle to find an entry again.
class SetQueue {
 public:
  void push(RequestHandle handle, const ReadyKey& key) {
    const auto index = static_cast<std::size_t>(handle);
    if (index >= keys_.size()) keys_.resize(index + 1);
    keys_[index] = key;
    rows_.emplace(key, handle);
  }
  void remove(RequestHandle handle) {
    rows_.erase({keys_[static_cast<std::size_t>(handle)], handle});
  }
  void rekey(RequestHandle handle, const ReadyKey& key) {
    remove(handle);
    push(handle, key);
  }
  RequestHandle top() { return rows_.begin()->second; }
  RequestHandle pop() {
    const RequestHandle handle = top();
    rows_.erase(rows_.begin());
    return handle;
  }

 private:
  std::set<Row, RowBefore> rows_;
  std::vector<ReadyKey> keys_;
};

// Common to the two below: a flat array, put in order when it is asked.
class FlatRows {
 public:
  void rekey(RequestHandle handle, const ReadyKey& key) {
    find(handle)->first = key;
    ordered_ = false;
  }
  void remove(RequestHandle handle) {
    *find(handle) = rows_.back();
    rows_.pop_back();
    ordered_ = false;
  }

 protected:
  std::vector<Row>::iterator find(RequestHandle handle) {
    return std::find_if(rows_.begin(), rows_.end(),
                        [=](const Row& row) { return row.second == handle; });
  }
  std::vector<Row> rows_;
  bool ordered_ = true;
};

// What std::priority_queue can do: cheap push and pop, a rebuild after anything else.
class RebuiltHeapQueue : public FlatRows {
 public:
  void push(RequestHandle handle, const ReadyKey& key) {
    rows_.emplace_back(key, handle);
    if (ordered_) std::push_heap(rows_.begin(), rows_.end(), RowAfter{});
  }
  RequestHandle top() {
    if (!ordered_) std::make_heap(rows_.begin(), rows_.end(), RowAfter{});
    ordered_ = true;
    return rows_.front().second;
  }
  RequestHandle pop() {
    const RequestHandle handle = top();
    std::pop_heap(rows_.begin(), rows_.end(), RowAfter{});
    rows_.pop_back();
    return handle;
  }
};

// A sort by score whenever something changed: what a scheduler that sorts each step does.
class SortedQueue : public FlatRows {
 public:
  void push(RequestHandle handle, const ReadyKey& key) {
    rows_.emplace_back(key, handle);
    ordered_ = false;
  }
  RequestHandle top() {
    if (!ordered_) std::sort(rows_.begin(), rows_.end(), RowAfter{});
    ordered_ = true;
    return rows_.back().second;
  }
  RequestHandle pop() {
    const RequestHandle handle = top();
    rows_.pop_back();
    return handle;
  }
};

}  // namespace lamps::rivals
