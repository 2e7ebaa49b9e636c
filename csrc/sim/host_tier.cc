// SPDX-License-Identifier: Apache-2.0
#include "sim/host_tier.h"

#include <algorithm>

#include "lamps/errors.h"
#include "sim/slots.h"

namespace lamps::sim {

HostTier::HostTier(const EngineModel& engine)
    : capacity_(engine.offloads() ? engine.host_tokens / engine.block_tokens : 0),
      block_seconds_(capacity_ > 0 ? engine.copy_time(engine.block_tokens) : 0.0) {}

HostTier::EntryId HostTier::open(Blocks base) {
  const EntryId id = take_slot(entries_, idle_);
  at(id) = {.base = base, .end = base, .complete = base, .open = true};
  return id;
}

void HostTier::close(EntryId id) {
  at(id).open = false;
  if (!at(id).listed) idle_.push_back(id);
}

Blocks HostTier::available(EntryId id, Seconds now) const {
  const Entry& entry = at(id);
  return entry.ready_at <= now ? entry.end : entry.complete;
}

void HostTier::unlist(EntryId id) {
  Entry& entry = at(id);
  (entry.older == kNoEntry ? oldest_ : at(entry.older).newer) = entry.newer;
  (entry.newer == kNoEntry ? newest_ : at(entry.newer).older) = entry.older;
  entry.listed = false;
}

void HostTier::append(EntryId id) {
  Entry& entry = at(id);
  entry.older = newest_;
  entry.newer = kNoEntry;
  entry.listed = true;
  (newest_ == kNoEntry ? oldest_ : at(newest_).newer) = id;
  newest_ = id;
}

void HostTier::touch(EntryId id) {
  if (!at(id).listed) return;
  unlist(id);
  append(id);
}

void HostTier::evict(Blocks wanted, EntryId spared) {
  for (EntryId id = oldest_; id != kNoEntry && capacity_ - used_ < wanted;) {
    const EntryId next = at(id).newer;
    Entry& victim = at(id);
    if (id != spared) {
      const Blocks gone = std::min(wanted - (capacity_ - used_), victim.end - victim.base);
      victim.end -= gone;
      victim.complete = std::min(victim.complete, victim.end);
      used_ -= gone;
      if (victim.end == victim.base) {
        unlist(id);
        if (!victim.open) idle_.push_back(id);
      }
    }
    id = next;
  }
}

void HostTier::cut(EntryId id, Blocks end) {
  Entry& entry = at(id);
  if (entry.end <= end) return;
  used_ -= entry.end - end;
  entry.end = end;
  entry.complete = std::min(entry.complete, end);
  if (entry.end == entry.base) unlist(id);
}

Blocks HostTier::store(EntryId id, Blocks end, Seconds now) {
  if (end <= at(id).end) {
    touch(id);
    return 0;
  }
  evict(end - at(id).end, id);
  Entry& entry = at(id);
  const Blocks copied = std::min(end - entry.end, capacity_ - used_);
  if (copied == 0) return 0;
  entry.complete = available(id, now);
  entry.end += copied;
  used_ += copied;
  stores_until_ = std::max(stores_until_, now) + static_cast<double>(copied) * block_seconds_;
  entry.ready_at = stores_until_;
  if (entry.listed) unlist(id);
  append(id);
  return copied;
}

Seconds HostTier::load(Blocks blocks, Seconds now) {
  loads_until_ = std::max(loads_until_, now) + static_cast<double>(blocks) * block_seconds_;
  return loads_until_;
}

void HostTier::check_invariants() const {
  Blocks used = 0;
  EntryId before = kNoEntry;
  for (EntryId id = oldest_; id != kNoEntry; before = id, id = at(id).newer) {
    const Entry& entry = at(id);
    if (entry.older != before || !entry.listed || entry.end <= entry.base) {
      throw InvariantViolation("host tier: the list of entries is torn");
    }
    used += entry.end - entry.base;
  }
  if (used != used_ || used_ > capacity_ || before != newest_) {
    throw InvariantViolation("host tier: blocks are miscounted");
  }
}

}  // namespace lamps::sim
