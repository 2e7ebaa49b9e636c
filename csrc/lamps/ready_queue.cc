// SPDX-License-Identifier: Apache-2.0
#include "lamps/ready_queue.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lamps/errors.h"

namespace lamps {
namespace {

constexpr std::int32_t kNotQueued = -1;

void require_ordered(const ReadyKey& key) {
  if (std::isnan(key.deadline)) throw InvalidOption("deadline = nan: expected a number");
}

std::size_t index_of(RequestHandle handle) { return static_cast<std::size_t>(handle); }

}  // namespace

bool ReadyKey::operator<(const ReadyKey& other) const {
  if (service_class != other.service_class) return service_class < other.service_class;
  if (deadline != other.deadline) return deadline < other.deadline;
  return sequence < other.sequence;
}

bool ReadyQueue::Entry::operator<(const Entry& other) const {
  if (key < other.key) return true;
  return handle < other.handle && !(other.key < key);
}

void ReadyQueue::push(RequestHandle handle, const ReadyKey& key) {
  if (handle < 0) throw UnknownHandle("request handle " + std::to_string(handle) + " is negative");
  if (contains(handle)) {
    throw UnknownHandle("request handle " + std::to_string(handle) + " is already queued");
  }
  require_ordered(key);
  if (index_of(handle) >= position_.size()) position_.resize(index_of(handle) + 1, kNotQueued);
  const Entry entry{key, handle};
  heap_.push_back(entry);
  sift_up(heap_.size() - 1, entry);
}

void ReadyQueue::rekey(RequestHandle handle, const ReadyKey& key) {
  const std::size_t position = position_of(handle);
  require_ordered(key);
  const Entry entry{key, handle};
  if (position > 0 && entry < heap_[(position - 1) / kArity]) {
    sift_up(position, entry);
  } else {
    sift_down(position, entry);
  }
}

void ReadyQueue::remove(RequestHandle handle) {
  const std::size_t position = position_of(handle);
  position_[index_of(handle)] = kNotQueued;
  const Entry last = heap_.back();
  heap_.pop_back();
  // The last entry is a leaf and nearly always belongs near the bottom: let the hole sink there
  // without comparing it on the way.
  if (position < heap_.size()) sift_up(sink_hole(position), last);
}

RequestHandle ReadyQueue::top() const { return heap_.empty() ? kNoHandle : heap_.front().handle; }

RequestHandle ReadyQueue::pop() {
  const RequestHandle handle = top();
  if (handle != kNoHandle) remove(handle);
  return handle;
}

bool ReadyQueue::contains(RequestHandle handle) const {
  return handle >= 0 && index_of(handle) < position_.size() &&
         position_[index_of(handle)] != kNotQueued;
}

const ReadyKey& ReadyQueue::key_of(RequestHandle handle) const {
  return heap_[position_of(handle)].key;
}

std::vector<RequestHandle> ReadyQueue::first(std::size_t limit) const {
  std::vector<RequestHandle> handles;
  handles.reserve(std::min(limit, heap_.size()));
  // A heap of the positions whose parents have been taken: at most 1 + limit * (kArity - 1).
  std::vector<std::size_t> frontier;
  const auto later = [this](std::size_t a, std::size_t b) { return heap_[b] < heap_[a]; };
  if (!heap_.empty()) frontier.push_back(0);
  while (handles.size() < limit && !frontier.empty()) {
    std::pop_heap(frontier.begin(), frontier.end(), later);
    const std::size_t position = frontier.back();
    frontier.pop_back();
    handles.push_back(heap_[position].handle);
    const std::size_t first_child = position * kArity + 1;
    const std::size_t end = std::min(first_child + kArity, heap_.size());
    for (std::size_t child = first_child; child < end; ++child) {
      frontier.push_back(child);
      std::push_heap(frontier.begin(), frontier.end(), later);
    }
  }
  return handles;
}

void ReadyQueue::check_invariants() const {
  for (std::size_t position = 0; position < heap_.size(); ++position) {
    const Entry& entry = heap_[position];
    if (!contains(entry.handle) || position_of(entry.handle) != position) {
      throw InvariantViolation("ready queue: handle " + std::to_string(entry.handle) +
                               " is at heap position " + std::to_string(position) +
                               ", its index says otherwise");
    }
    if (position > 0 && entry < heap_[(position - 1) / kArity]) {
      throw InvariantViolation("ready queue: heap position " + std::to_string(position) +
                               " is ordered before its parent");
    }
  }
  const auto queued = position_.size() - static_cast<std::size_t>(std::count(
                                             position_.begin(), position_.end(), kNotQueued));
  if (queued != heap_.size()) {
    throw InvariantViolation("ready queue: " + std::to_string(queued) + " handles indexed, " +
                             std::to_string(heap_.size()) + " in the heap");
  }
}

std::size_t ReadyQueue::position_of(RequestHandle handle) const {
  if (!contains(handle)) {
    throw UnknownHandle("request handle " + std::to_string(handle) + " is not queued");
  }
  return static_cast<std::size_t>(position_[index_of(handle)]);
}

void ReadyQueue::place(std::size_t position, const Entry& entry) {
  heap_[position] = entry;
  position_[index_of(entry.handle)] = static_cast<std::int32_t>(position);
}

void ReadyQueue::sift_up(std::size_t position, const Entry& entry) {
  while (position > 0) {
    const std::size_t parent = (position - 1) / kArity;
    if (!(entry < heap_[parent])) break;
    place(position, heap_[parent]);
    position = parent;
  }
  place(position, entry);
}

std::size_t ReadyQueue::least_child(std::size_t position) const {
  const std::size_t first_child = position * kArity + 1;
  const std::size_t end = std::min(first_child + kArity, heap_.size());
  std::size_t least = first_child;
  for (std::size_t child = first_child + 1; child < end; ++child) {
    if (heap_[child] < heap_[least]) least = child;
  }
  return least;
}

std::size_t ReadyQueue::sink_hole(std::size_t position) {
  while (position * kArity + 1 < heap_.size()) {
    const std::size_t child = least_child(position);
    place(position, heap_[child]);
    position = child;
  }
  return position;
}

void ReadyQueue::sift_down(std::size_t position, const Entry& entry) {
  while (position * kArity + 1 < heap_.size()) {
    const std::size_t child = least_child(position);
    if (!(heap_[child] < entry)) break;
    place(position, heap_[child]);
    position = child;
  }
  place(position, entry);
}

}  // namespace lamps
