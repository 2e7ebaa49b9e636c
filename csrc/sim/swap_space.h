// SPDX-License-Identifier: Apache-2.0
// KV that a policy core has copied to host memory, by session, and the copies under way: one at a
// time in each direction, in the order in which they were asked for; those that were asked for
// ahead of need run while no other goes out, and go on when they are done. Holds no opinion: the
// core says what goes out, comes back and is not counted on any more.
//
// As in the connector, what is on the host outlives its use: when the core does not count on it any
// more it is spare, can be found by the session's turns, and the next copy is of what is new.
// Spare images give way when others need room, the least recently used first; then the least
// recently used that the core counts on, which it is told. Rows come and go with their image.
//
// A copy covers the session's whole prefix; what the pool still caches of it is not loaded again.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "lamps/types.h"
#include "sim/engine_model.h"
#include "sim/kv_cache.h"
#include "sim/turn.h"

namespace lamps::sim {

class SwapSpace {
 public:
  // Keeps a reference to `kv`.
  SwapSpace(const EngineModel& engine, KvCache& kv);

  enum class What : std::uint8_t {
    kOut,
    kAhead,   // out, ahead of need: the session keeps its blocks
    kIn,      // what take_loaded() hands over
    kUnused,  // out, though a turn of the session has started meanwhile
    kLost     // no copy: what the core counts on is gone, or found no room
  };
  struct Done {
    SessionHandle session;
    What what;
    Blocks blocks = 0;  // copied; 0: everything was there
    Seconds seconds = 0;
  };
  // What came about up to `now`, in order; starts loads that found no room before.
  std::vector<Done> poll(Seconds now);

  // A copy of `kept` is wanted, of which `blocks` are the session's alone: begins with those that
  // are not there. They stay with the caller until poll() says so; false: there is nothing to wait
  // for. Where a copy ahead of need is under way, it becomes this one.
  [[nodiscard]] bool copy_out(Seconds now, SessionHandle session, const KeptBlocks& kept,
                              Blocks blocks);
  // The same ahead of need: the blocks stay with the caller afterwards, too.
  void copy_ahead(Seconds now, SessionHandle session, const KeptBlocks& kept, Blocks blocks);
  // A load into blocks of the pool is wanted. `request`: names the session; null when it has ended,
  // which its core does not know.
  void copy_in(Seconds now, SessionHandle session, const TurnRequest* request);
  [[nodiscard]] KeptBlocks take_loaded(SessionHandle session);
  // A turn starts: it takes over the blocks of a copy that is under way, which goes on, and loads
  // what is there itself.
  void taken_over(SessionHandle session);
  // The core does not count on the copy any more. True when it was on its way out: its blocks in
  // the pool are for the caller to free.
  bool drop(SessionHandle session, Seconds now);
  void forget(SessionHandle session, Seconds now);    // the same, and its rows are free
  void rewritten(SessionHandle session, Blocks end);  // only the first blocks are still of use

  [[nodiscard]] bool on_host(SessionHandle session) const;  // and the core counts on that
  [[nodiscard]] bool loading(SessionHandle session) const;  // into blocks of the pool
  // One past the last position that a turn can load; 0 when there is none.
  [[nodiscard]] Blocks loadable(SessionHandle session) const;
  [[nodiscard]] Seconds load(SessionHandle session, Blocks blocks, Seconds now);  // by a turn;
                                                                                  // until when

  [[nodiscard]] Turn* landing(SessionHandle session);  // holds the blocks of a load; null: none
  [[nodiscard]] Blocks host_blocks() const { return rows_; }
  [[nodiscard]] Blocks stored_blocks() const { return stored_; }
  [[nodiscard]] Blocks landing_room() const { return landing_room_; }  // blocks of all loads
  [[nodiscard]] Blocks landing_blocks() const;  // of these, those not cached yet. O(n)
  void check_invariants() const;                // throws InvariantViolation. O(n)

 private:
  // kElsewhere: the core does not count on the host; what is there is spare, or on its way.
  enum class State : std::uint8_t { kElsewhere, kCopying, kLeaving, kHost, kAwaited, kLoading };
  struct Image {
    State state = State::kElsewhere;
    Blocks rows = 0;           // of host memory, those that a copy under way goes to included
    Blocks storing = 0;        // of these, those
    Blocks there = 0;          // one past the last position that has been copied and is of use
    Blocks end = 0;            // the same when the copy under way is done
    Blocks blocks = 0;         // what the core counts on
    std::int64_t used = 0;     // the greater, the later
    std::int64_t spare = 0;    // its place among the spare ones; 0: it is not
    Seconds read_until = 0.0;  // by a turn
    Turn landing;              // stands for the load in the pool
    bool intact = true;        // the landing's content is still the session's
  };
  struct Job {
    SessionHandle session;
    Blocks blocks;
    Seconds seconds;
    Seconds done_at;
    bool cancelled = false;
  };
  [[nodiscard]] Image& at(SessionHandle session);
  [[nodiscard]] const Image* find(SessionHandle session) const;
  [[nodiscard]] Blocks begin(Seconds now, SessionHandle session, const KeptBlocks& kept,
                             Blocks blocks);
  [[nodiscard]] bool make_room(Seconds now, SessionHandle session, Blocks blocks);
  void evict(SessionHandle session);
  void lose(SessionHandle session);
  void make_spare(SessionHandle session);
  void claim(Image& image);
  void call_off_store(SessionHandle session);
  void end_store(const Job& job, std::vector<Done>& done);
  [[nodiscard]] bool start_landing(Seconds now, SessionHandle session);

  KvCache& kv_;
  Seconds block_seconds_;
  Blocks capacity_;
  std::vector<Image> images_;  // by session handle
  std::map<std::int64_t, SessionHandle> spare_;
  std::deque<Job> out_, ahead_, in_;
  std::deque<SessionHandle> awaited_;  // loads that have found no room yet
  std::vector<Done> told_;             // at once, with the next poll
  std::int64_t uses_ = 0;
  Seconds out_until_ = 0.0, in_until_ = 0.0;
  Blocks rows_ = 0;
  Blocks landing_room_ = 0;
  Blocks stored_ = 0;
};

}  // namespace lamps::sim
