// SPDX-License-Identifier: Apache-2.0
// Which sessions have KV in host memory, where, and what is being copied: the scheduler's side of
// swapping. It writes orders; movers (one per rank, mover.h) carry them out, and their completions
// are told to finished(). Accounting only, deterministic, one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "swap/extents.h"
#include "swap/outcome.h"
#include "swap/planner.h"

namespace lamps::swap {

// Part of an order: its next `count` blocks, which have slots of `extent`.
struct Piece {
  Extent extent;
  BlockId count = 0;
  friend bool operator==(const Piece&, const Piece&) = default;
};

// What a mover is asked to copy: blocks[i] with slots[i] of the piece that i falls into.
struct Order {
  JobId job = 0;
  Direction direction = Direction::kStore;
  std::vector<BlockId> blocks;
  std::vector<BlockId> slots;
  std::vector<Piece> pieces;
};

class HostTier {
 public:
  explicit HostTier(Row rows);  // throws InvalidOption unless rows >= 1

  // Copies `blocks` behind what the session has in host memory, in the order of its tokens. Where
  // rows are lacking, sessions without a job under way lose theirs, least recently used first (see
  // take_evicted()). Nothing, and nobody evicted, if even that is not enough: host memory full
  // means drop, never wait. The blocks may be reused when the mover says so, not before.
  // Throws InvalidOption if blocks is empty, UnknownHandle while the session's last store lasts.
  [[nodiscard]] std::optional<Order> store(SessionHandle session, std::span<const BlockId> blocks);
  // Copies rows [first, first + blocks.size()) of the session into `blocks`. Throws InvalidOption
  // if blocks is empty, UnknownHandle if the session does not have these rows.
  [[nodiscard]] Order load(SessionHandle session, Row first, std::span<const BlockId> blocks);
  // The slots of those rows, to choose blocks by (match_blocks). Same errors as load().
  [[nodiscard]] std::vector<BlockId> slots(SessionHandle session, Row first, Row rows) const;

  // A mover has finished (all movers have, with the worst of their outcomes). A store that failed
  // leaves the session as it was; a load that found damage drops the session's rows. Throws
  // UnknownHandle if there is no such job.
  void finished(JobId job, Outcome outcome);
  // The session's host copy goes: now, or when its jobs are over. Unknown sessions are fine.
  void drop(SessionHandle session);
  void touch(SessionHandle session);  // most recently used; unknown sessions are fine

  [[nodiscard]] Row rows(SessionHandle session) const;  // complete ones; 0 if unknown or dropped
  [[nodiscard]] int jobs(SessionHandle session) const;  // under way
  // Sessions that lost their rows to others since the last call, in that order.
  [[nodiscard]] std::vector<SessionHandle> take_evicted();
  [[nodiscard]] Row free_rows() const { return pool_.free_rows(); }
  [[nodiscard]] Row capacity() const { return pool_.capacity(); }
  void check_invariants() const;  // throws InvariantViolation

 private:
  struct Held {  // rows of a session, of one store
    Extent extent;
    Row begin = 0;  // index of its first row among the session's
  };
  struct Session {
    std::vector<Held> held;
    std::vector<BlockId> slot;  // by row of the session
    Row complete = 0;           // rows that are really there
    JobId store = kNoJob;       // under way
    int jobs = 0;               // under way, the store included
    bool dropped = false;       // goes when its jobs are over
    std::uint64_t used = 0;     // order of use
  };
  struct Job {
    SessionHandle session = kNoHandle;
    Direction direction = Direction::kStore;
  };

  [[nodiscard]] const Session& with_rows(SessionHandle session, Row first, Row rows) const;
  [[nodiscard]] bool make_room(SessionHandle keep, Row rows);
  void forget_last_store(Session& session);
  void erase(SessionHandle session);
  Order new_order(SessionHandle session, Session& state, Direction direction,
                  std::span<const BlockId> blocks);

  ExtentPool pool_;
  std::unordered_map<SessionHandle, Session> sessions_;
  std::unordered_map<JobId, Job> jobs_;
  std::vector<SessionHandle> evicted_;
  JobId next_job_ = 1;
  std::uint64_t use_ = 0;
};

}  // namespace lamps::swap
