// SPDX-License-Identifier: Apache-2.0
#include "swap/host_tier.h"

#include <algorithm>
#include <string>
#include <utility>

#include "lamps/errors.h"

namespace lamps::swap {
namespace {

void require_blocks(std::span<const BlockId> blocks) {
  if (blocks.empty()) throw InvalidOption("blocks: expected one or more, got none");
}

}  // namespace

HostTier::HostTier(Row rows) : pool_(rows) {}

Order HostTier::new_order(SessionHandle session, Session& state, Direction direction,
                          std::span<const BlockId> blocks) {
  Order order;
  order.job = next_job_++;
  order.direction = direction;
  order.blocks.assign(blocks.begin(), blocks.end());
  ++state.jobs;
  state.used = ++use_;
  jobs_[order.job] = {session, direction};
  return order;
}

std::optional<Order> HostTier::store(SessionHandle session, std::span<const BlockId> blocks) {
  require_blocks(blocks);
  if (const auto it = sessions_.find(session); it != sessions_.end()) {
    const Session& state = it->second;
    if (state.store != kNoJob || state.dropped) {
      throw UnknownHandle("session " + std::to_string(session) + " is " +
                          (state.dropped ? "being dropped" : "being stored") +
                          ": expected one at rest");
    }
  }
  const auto wanted = static_cast<Row>(blocks.size());
  if (!make_room(session, wanted)) return std::nullopt;
  Session& state = sessions_[session];
  Order order = new_order(session, state, Direction::kStore, blocks);
  state.store = order.job;
  std::vector<BlockId> slots;
  std::size_t at = 0;
  for (const Extent& extent : pool_.take(wanted)) {
    const auto count = static_cast<std::size_t>(extent.rows);
    assign_slots(blocks.subspan(at, count), slots);
    state.held.push_back({extent, static_cast<Row>(state.slot.size())});
    state.slot.insert(state.slot.end(), slots.begin(), slots.end());
    order.slots.insert(order.slots.end(), slots.begin(), slots.end());
    order.pieces.push_back({extent, static_cast<BlockId>(extent.rows)});
    at += count;
  }
  return order;
}

// Evicts until `rows` are free, or nobody if that cannot be reached.
bool HostTier::make_room(SessionHandle keep, Row rows) {
  if (rows <= pool_.free_rows()) return true;
  std::vector<std::pair<std::uint64_t, SessionHandle>> idle;  // by use
  Row reachable = pool_.free_rows();
  for (const auto& [handle, state] : sessions_) {
    if (handle == keep || state.jobs > 0) continue;
    idle.emplace_back(state.used, handle);
    reachable += static_cast<Row>(state.slot.size());
  }
  if (rows > reachable) return false;
  std::sort(idle.begin(), idle.end());
  for (const auto& [used, handle] : idle) {
    if (rows <= pool_.free_rows()) break;
    erase(handle);
    evicted_.push_back(handle);
  }
  return true;
}

const HostTier::Session& HostTier::with_rows(SessionHandle session, Row first, Row rows) const {
  const auto it = sessions_.find(session);
  const Row complete = this->rows(session);
  if (first < 0 || rows < 1 || first > complete - rows) {
    throw UnknownHandle("rows [" + std::to_string(first) + ", " + std::to_string(first + rows) +
                        ") of session " + std::to_string(session) + ": expected some in [0, " +
                        std::to_string(complete) + ")");
  }
  return it->second;
}

std::vector<BlockId> HostTier::slots(SessionHandle session, Row first, Row rows) const {
  const Session& state = with_rows(session, first, rows);
  return {state.slot.begin() + first, state.slot.begin() + first + rows};
}

Order HostTier::load(SessionHandle session, Row first, std::span<const BlockId> blocks) {
  require_blocks(blocks);
  const Row end = first + static_cast<Row>(blocks.size());
  std::vector<BlockId> wanted = slots(session, first, end - first);
  Session& state = sessions_.at(session);
  Order order = new_order(session, state, Direction::kLoad, blocks);
  order.slots = std::move(wanted);
  for (const Held& held : state.held) {
    const Row low = std::max(first, held.begin);
    const Row high = std::min(end, held.begin + held.extent.rows);
    if (low < high) order.pieces.push_back({held.extent, static_cast<BlockId>(high - low)});
  }
  return order;
}

void HostTier::finished(JobId job, Outcome outcome) {
  const auto it = jobs_.find(job);
  if (it == jobs_.end()) {
    throw UnknownHandle("job " + std::to_string(job) + ": expected one under way");
  }
  const auto [handle, direction] = it->second;
  jobs_.erase(it);
  Session& state = sessions_.at(handle);
  --state.jobs;
  if (direction == Direction::kStore) {
    state.store = kNoJob;
    if (outcome == Outcome::kDone) {
      state.complete = static_cast<Row>(state.slot.size());
    } else {
      forget_last_store(state);
    }
  } else if (outcome == Outcome::kChecksumMismatch) {
    state.dropped = true;
  }
  if (state.jobs == 0 && (state.dropped || state.held.empty())) erase(handle);
}

void HostTier::forget_last_store(Session& session) {
  while (!session.held.empty() && session.held.back().begin >= session.complete) {
    pool_.give_back(session.held.back().extent);
    session.held.pop_back();
  }
  session.slot.resize(static_cast<std::size_t>(session.complete));
}

void HostTier::erase(SessionHandle session) {
  const auto it = sessions_.find(session);
  for (const Held& held : it->second.held) pool_.give_back(held.extent);
  sessions_.erase(it);
}

void HostTier::drop(SessionHandle session) {
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return;
  it->second.dropped = true;
  if (it->second.jobs == 0) erase(session);
}

void HostTier::touch(SessionHandle session) {
  const auto it = sessions_.find(session);
  if (it != sessions_.end()) it->second.used = ++use_;
}

Row HostTier::rows(SessionHandle session) const {
  const auto it = sessions_.find(session);
  return it == sessions_.end() || it->second.dropped ? 0 : it->second.complete;
}

int HostTier::jobs(SessionHandle session) const {
  const auto it = sessions_.find(session);
  return it == sessions_.end() ? 0 : it->second.jobs;
}

std::vector<SessionHandle> HostTier::take_evicted() { return std::exchange(evicted_, {}); }

void HostTier::check_invariants() const {
  pool_.check_invariants();
  Row held_rows = 0;
  std::size_t jobs = 0;
  for (const auto& [handle, state] : sessions_) {
    Row rows = 0;
    for (const Held& held : state.held) {
      if (held.begin != rows) {
        throw InvariantViolation("session " + std::to_string(handle) + " has a gap at row " +
                                 std::to_string(rows));
      }
      rows += held.extent.rows;
    }
    const bool storing = state.store != kNoJob;
    if (rows != static_cast<Row>(state.slot.size()) || (state.complete < rows) != storing ||
        (state.jobs == 0 && (state.dropped || rows == 0))) {
      throw InvariantViolation("session " + std::to_string(handle) + " has " +
                               std::to_string(rows) + " rows, " + std::to_string(state.complete) +
                               " of them complete, and " + std::to_string(state.jobs) + " jobs");
    }
    held_rows += rows;
    jobs += static_cast<std::size_t>(state.jobs);
  }
  if (held_rows + pool_.free_rows() != pool_.capacity() || jobs != jobs_.size()) {
    throw InvariantViolation("host rows held = " + std::to_string(held_rows) +
                             ", free = " + std::to_string(pool_.free_rows()) + ": expected " +
                             std::to_string(pool_.capacity()) + " together");
  }
}

}  // namespace lamps::swap
