// SPDX-License-Identifier: Apache-2.0
// A cache of KV blocks in host memory: a copy of every full block, least recently used chains
// dropped first and from their end, loaded again when a turn hits it. One copy at a time in each
// direction. A copy can be hit once it is complete.
#pragma once

#include <cstdint>
#include <vector>

#include "lamps/types.h"
#include "sim/block_pool.h"
#include "sim/engine_model.h"

namespace lamps::sim {

class HostTier {
 public:
  using EntryId = std::int32_t;
  static constexpr EntryId kNoEntry = -1;

  explicit HostTier(const EngineModel& engine);

  EntryId open(Blocks base);  // of a chain whose positions begin there
  void close(
      EntryId entry);  // nobody will ask for it; it keeps its room until it is its turn to go

  // One past the last position that can be loaded at `now`; the base when there is none.
  [[nodiscard]] Blocks available(EntryId entry, Seconds now) const;
  void touch(EntryId entry);            // most recently used now
  void cut(EntryId entry, Blocks end);  // the copies beyond are of replaced content: dropped
  // Copies what is missing of [base, end); returns how many blocks that is.
  Blocks store(EntryId entry, Blocks end, Seconds now);
  // When a load of so many blocks that starts at `now` at the earliest is complete.
  [[nodiscard]] Seconds load(Blocks blocks, Seconds now);

  [[nodiscard]] bool on() const { return capacity_ > 0; }
  [[nodiscard]] Blocks used() const { return used_; }
  void check_invariants() const;  // throws InvariantViolation. O(n)

 private:
  struct Entry {
    Blocks base = 0;
    Blocks end = 0;
    Blocks complete = 0;   // one past the last position whose copy was complete before ...
    Seconds ready_at = 0;  // ... the latest copy, which is complete then
    EntryId older = kNoEntry, newer = kNoEntry;
    bool listed = false;  // holds something
    bool open = false;
  };
  [[nodiscard]] Entry& at(EntryId id) { return entries_[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const Entry& at(EntryId id) const { return entries_[static_cast<std::size_t>(id)]; }
  void unlist(EntryId id);
  void append(EntryId id);
  void evict(Blocks wanted, EntryId spared);

  Blocks capacity_;
  Blocks used_ = 0;
  Seconds block_seconds_;  // to copy one block
  Seconds stores_until_ = 0.0;
  Seconds loads_until_ = 0.0;
  std::vector<Entry> entries_;
  std::vector<EntryId> idle_;
  EntryId oldest_ = kNoEntry;
  EntryId newest_ = kNoEntry;
};

}  // namespace lamps::sim
