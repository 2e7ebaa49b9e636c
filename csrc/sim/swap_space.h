// SPDX-License-Identifier: Apache-2.0
// KV that a policy core has copied to host memory, by session, and the copies under way: one at a
// time in each direction, in the order in which they were asked for; one that was asked for ahead
// of need runs while no other goes out, and goes on when they are done. Holds no opinion: the core
// says what goes out, comes back and is dropped, and keeps within the host's memory.
//
// A copy covers the session's whole prefix; what the pool still caches of it is not loaded again.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
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

  struct Done {
    SessionHandle session;
    Blocks blocks;
    Seconds seconds;
    bool out;   // else in: what take_loaded() hands over
    bool kept;  // out, ahead of need: the session keeps its blocks
  };
  // Copies that are complete at `now`, in order; starts loads that found no room before.
  std::vector<Done> poll(Seconds now);

  // A copy of `kept` begins, of which `blocks` are the session's alone. They stay with the caller.
  // Where a copy ahead of need is under way, it becomes this one.
  void copy_out(Seconds now, SessionHandle session, const KeptBlocks& kept, Blocks blocks);
  // The same ahead of need; no other such copy is under way.
  void copy_ahead(Seconds now, SessionHandle session, const KeptBlocks& kept, Blocks blocks);
  // A load into blocks of the pool is wanted. `request`: names the session; null when it has ended,
  // which its core does not know.
  void copy_in(Seconds now, SessionHandle session, const TurnRequest* request);
  [[nodiscard]] KeptBlocks take_loaded(SessionHandle session);
  // A turn starts: it takes over the blocks of a copy that is under way, which is called off, and
  // loads a copy that is here itself.
  void taken_over(SessionHandle session);
  // The copy goes. True when it was on its way out: its blocks in the pool are for the caller to
  // free.
  bool drop(SessionHandle session, Seconds now);
  void rewritten(SessionHandle session, Blocks end);  // only the first blocks are still of use

  [[nodiscard]] bool loading(SessionHandle session) const;  // into blocks of the pool
  // One past the last position that a turn can load; 0 when there is none.
  [[nodiscard]] Blocks loadable(SessionHandle session) const;
  [[nodiscard]] Seconds load(Blocks blocks, Seconds now);  // by a turn; returns when it is done

  [[nodiscard]] Turn* landing(SessionHandle session);  // holds the blocks of a load; null: none
  [[nodiscard]] Blocks host_blocks() const { return host_blocks_; }
  [[nodiscard]] Blocks stored_blocks() const { return stored_; }
  [[nodiscard]] Blocks landing_room() const { return landing_room_; }  // blocks of all loads
  [[nodiscard]] Blocks landing_blocks() const;  // of these, those not cached yet. O(n)

 private:
  enum class State : std::uint8_t { kNone, kCopying, kLeaving, kHost, kAwaited, kLoading };
  struct Image {
    State state = State::kNone;
    Blocks end = 0;      // one past the last position
    Blocks blocks = 0;   // of host memory
    Turn landing;        // stands for the load in the pool
    bool intact = true;  // the landing's content is still the session's
  };
  struct Job {
    SessionHandle session;
    Blocks blocks;
    Seconds seconds;
    Seconds done_at;
    bool cancelled = false;
  };
  [[nodiscard]] Image& at(SessionHandle session);
  void take_room(SessionHandle session, const KeptBlocks& kept, Blocks blocks, State state);
  void free_room(Image& image);
  void cancel(std::deque<Job>& jobs, SessionHandle session);
  void call_off(SessionHandle session);  // a copy out
  [[nodiscard]] bool start_landing(Seconds now, SessionHandle session);

  KvCache& kv_;
  Seconds block_seconds_;
  std::vector<Image> images_;  // by session handle
  std::deque<Job> out_, in_;
  std::optional<Job> ahead_;           // a copy out ahead of need
  std::deque<SessionHandle> awaited_;  // loads that have found no room yet
  Seconds out_until_ = 0.0, in_until_ = 0.0;
  Blocks host_blocks_ = 0;
  Blocks landing_room_ = 0;
  Blocks stored_ = 0;
};

}  // namespace lamps::sim
